"""Means and quantiles of a conditional density, from evenly spread draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import Table, is_number
from gauss_flows.estimators.by_class import ByClass
from gauss_flows.estimators.jointly import Jointly

Array = NDArray[np.float64]

_N_DRAWS = 4096


class Interval(NamedTuple):
    """Bounds of shape (m, d)."""

    low: Array
    high: Array


def summaries(
    density: ByClass | Jointly, coder: TableCoder, given: Table, statistic: Callable[[Array], Array]
) -> Array:
    """Summarise the draws of X given each row of y.

    Args:
        density: The density of X given y.
        coder: The coder of X.
        given: Rows of y.
        statistic: What to compute of draws in the units of X, shape (4096, d).

    Returns:
        The statistic given each of m rows, shape (m, ...).

    Raises:
        ValueError: If a column of X is no number.
    """
    for column, name in zip(coder.columns, coder.names, strict=True):
        if not coder.is_number(column):
            raise ValueError(
                f"Expected numbers; got categories in {name} of X, which have neither a mean "
                "nor an order. Draw with `sample`."
            )
    n_dims = len(coder.kinds)
    # The last coordinates are where in their intervals the discrete columns of y are.
    spread = qmc.Sobol(n_dims + density.n_discrete, rng=0).random(_N_DRAWS)
    z, points = ndtri(spread[:, :n_dims]), spread[:, n_dims:]
    found = []
    for row in range(given.n_rows):
        one = given.rows(np.full(_N_DRAWS, row))
        codes = density.push(z, one, points, np.random.default_rng(row))
        found.append(statistic(np.asarray(coder.decode(codes), float)))
    return np.stack(found)


def checked_levels(q: Any) -> Array:
    """Check probabilities, a number or shape (k,), and return them as an array."""
    try:
        levels = np.asarray(q, float)
    except (TypeError, ValueError):
        levels = np.array(np.nan)
    if isinstance(q, str) or levels.ndim > 1 or not np.all((levels > 0) & (levels < 1)):
        raise ValueError(f"Expected probabilities q between 0 and 1; got {q!r}.")
    return levels


def checked_coverage(coverage: Any) -> float:
    """Check an interval's probability."""
    if not is_number(coverage) or not 0 < coverage < 1:
        raise ValueError(f"Expected a coverage between 0 and 1; got {coverage!r}.")
    return coverage
