"""Which of two log densities is better, on rows that neither was fitted to."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate

Array = NDArray[np.float64]

# Standard errors that a search goes on for in spite of.
_CLEARLY = 2.0


def lead(new: Array, old: Array) -> Estimate:
    """Estimate by how much the one is above the other.

    Args:
        new: Nats of the rows held back, fold by fold.
        old: The same of another; where one has been scored in fewer folds, those count.

    Returns:
        The mean difference in nats, and its standard error.
    """
    n_rows = min(len(new), len(old))
    return Estimate.of_mean(new[:n_rows] - old[:n_rows])


def gains(new: Array, old: Array) -> bool:
    """Say whether rows gain more log density than the gain's standard error."""
    gain = lead(new, old)
    return bool(gain.value > gain.standard_error)


def is_clearly_behind(new: Array, old: Array) -> bool:
    """Say whether more rows are unlikely to bring the new one to the front."""
    gain = lead(new, old)
    return bool(gain.value < -_CLEARLY * gain.standard_error)
