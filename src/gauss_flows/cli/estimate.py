"""A figure together with its standard error."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Estimate(NamedTuple):
    """A mean and its standard error, in nats.

    Attributes:
        value: The mean.
        standard_error: Its standard error; NaN when one row alone was seen.
    """

    value: float
    standard_error: float

    @classmethod
    def of_mean(cls, values: NDArray[np.float64]) -> Estimate:
        r"""Return the mean of independent values and s/√n beside it.

        Args:
            values: Independent values, shape (n,).

        Returns:
            The estimate.

        Example:
            >>> import numpy as np
            >>> Estimate.of_mean(np.array([1.0, 2.0, 3.0]))
            Estimate(value=2.0, standard_error=0.5773502691896258)
        """
        n = len(values)
        error = float(np.std(values, ddof=1)) / math.sqrt(n) if n > 1 else math.nan
        return cls(float(np.mean(values)), error)

    def __str__(self) -> str:
        """Return for example `-1.234 ± 0.056`, with digits that the error supports."""
        if not math.isfinite(self.standard_error):
            return f"{self.value:.4g} ± ?"
        digits = 2 if self.standard_error >= 0.1 else 3
        return f"{self.value:.{digits}f} ± {self.standard_error:.{digits}f}"
