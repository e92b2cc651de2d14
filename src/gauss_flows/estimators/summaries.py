"""Means and quantiles of a conditional density, from evenly spread draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats import qmc
from sklearn.utils.validation import check_is_fitted

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


class ConditionalSummaries:
    """Means, quantiles and intervals of X given y, for an estimator that was fitted given one."""

    coder_: TableCoder
    _given: ByClass | Jointly | None

    def conditional_mean(self, y: Any) -> Array:
        """Compute the mean of X given y.

        Args:
            y: What it is given, shape (m,) or (m, c).

        Returns:
            Means of shape (m, d), from 4096 evenly spread draws each.

        Raises:
            ValueError: If the density was fitted without y, or a column of X has no mean.
        """
        return self._summary(y, lambda draws: draws.mean(0))

    def conditional_quantiles(self, y: Any, q: Any) -> Array:
        """Compute quantiles of every column of X given y.

        Args:
            y: What it is given, shape (m,) or (m, c).
            q: Probabilities between 0 and 1, a number or shape (k,).

        Returns:
            Quantiles of shape (m, d), or (m, k, d), from 4096 evenly spread draws each.

        Raises:
            ValueError: If a probability is not between 0 and 1, the density was fitted without y,
                or a column of X has no order.
        """
        levels = checked_levels(q)
        return self._summary(y, lambda draws: np.quantile(draws, levels, axis=0))

    def conditional_interval(self, y: Any, coverage: float = 0.9) -> Interval:
        """Compute for every column of X the central interval given y.

        Args:
            y: What it is given, shape (m,) or (m, c).
            coverage: The interval's probability, between 0 and 1.

        Returns:
            The bounds, of shape (m, d) each.

        Raises:
            ValueError: If the coverage is not between 0 and 1, or as `conditional_quantiles`.
        """
        tail = (1 - checked_coverage(coverage)) / 2
        low, high = np.moveaxis(self.conditional_quantiles(y, [tail, 1 - tail]), 1, 0)
        return Interval(low, high)

    def _summary(self, y: Any, statistic: Callable[[Array], Array]) -> Array:
        check_is_fitted(self, "flow_")
        given = self._read_for_draws(y)
        assert self._given is not None
        return summaries(self._given, self.coder_, given, statistic)

    def _read_for_draws(self, y: Any) -> Table:
        raise NotImplementedError


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
