"""Histograms that keep each bin's weight, mean and variance: all that a marginal fit needs."""

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

_SPACINGS = 16


class Histogram(NamedTuple):
    """One histogram per column, each bin with its weight, mean and variance.

    A mixture fitted to bins that know their mean and variance differs from one fitted to the rows
    themselves only to second order in the bin width, and histograms with the same edges add up
    across batches, devices and hosts.

    Args:
        weights: Total weight of the rows in each bin, shape `(d, M)`.
        means: Weighted mean of the values in each bin, shape `(d, M)`; any finite number where the
            weight is zero.
        variances: Weighted variance of the values around the bin's mean, shape `(d, M)`.
        edges: Bin `i` of a column holds `edges[i] <= x < edges[i + 1]`, shape `(d, M + 1)`. The
            outermost edges are infinite, so that every later value falls into some bin.

    Example:
        >>> import numpy as np
        >>> from gaussianization.marginals import Histogram, bin_edges
        >>> x = np.random.default_rng(0).normal(size=(5000, 3))
        >>> edges = bin_edges(x, 128)
        >>> parts = [Histogram.from_data(part, edges=edges) for part in np.split(x, 5)]
        >>> total = parts[0]
        >>> for part in parts[1:]:
        ...     total = total.merge(part)
        >>> at_once = Histogram.from_data(x, edges=edges)
        >>> bool(np.allclose(total.weights * total.means, at_once.weights * at_once.means))
        True
    """

    weights: Float[np.ndarray, "d M"]
    means: Float[np.ndarray, "d M"]
    variances: Float[np.ndarray, "d M"]
    edges: Float[np.ndarray, "d M+1"]

    @classmethod
    def from_data(
        cls,
        x: Float[ArrayLike, "n d"],
        n_bins: int = 256,
        sample_weight: Float[ArrayLike, " n"] | None = None,
        *,
        edges: Float[ArrayLike, "d M+1"] | None = None,
    ) -> Self:
        """Count every column of `x`.

        Args:
            x: The rows, shape `(n, d)`.
            n_bins: Number of bins `M` of each column; ignored where `edges` are given.
            sample_weight: Non-negative weight of each row, shape `(n,)`; one each by default.
            edges: Edges to use, shape `(d, M + 1)`, nowhere falling; from `bin_edges` by default.

        Returns:
            The histogram, in float64.

        Raises:
            ValueError: If `x` is no table with rows, a shape does not fit, no weight is above
                zero or `n_bins` is below 2.
        """
        columns, weight = _sorted_columns(x, sample_weight)
        if edges is None:
            edges = _edges_of_sorted(columns, weight, n_bins)
        edges = np.asarray(edges, np.float64)
        d, n = columns.shape
        if edges.ndim != 2 or edges.shape[0] != d or edges.shape[1] < 2:
            raise ValueError(f"Expected edges of shape ({d}, n_bins + 1); got {edges.shape}.")
        bounds = np.empty(edges.shape, int)
        for j, column in enumerate(columns):
            bounds[j] = np.searchsorted(column, edges[j])
        bounds[:, 0], bounds[:, -1] = 0, n
        counts = np.diff(bounds)
        filled = counts > 0
        # All columns one after the other: every run of equal bins is one segment.
        values, starts = columns.ravel(), (bounds[:, :-1] + n * np.arange(d)[:, None])[filled]
        totals, means, variances = (np.zeros(filled.shape) for _ in range(3))
        totals[filled] = (
            counts[filled] if weight is None else np.add.reduceat(weight.ravel(), starts)
        )
        scale = np.maximum(totals[filled], np.finfo(float).tiny)
        weighted = values if weight is None else weight.ravel() * values
        mean = np.add.reduceat(weighted, starts) / scale
        squares = values - np.repeat(mean, counts[filled])
        squares *= squares
        if weight is not None:
            squares *= weight.ravel()
        means[filled] = mean
        variances[filled] = np.add.reduceat(squares, starts) / scale
        # An empty bin needs a harmless place: that of the filled bin before it.
        places = np.where(filled, np.arange(filled[0].size), filled.argmax(1)[:, None])
        means = np.take_along_axis(means, np.maximum.accumulate(places, axis=1), axis=1)
        return cls(totals, means, variances, edges)

    def merge(self, other: "Histogram") -> "Histogram":
        """Add a histogram of other rows, with the same edges.

        Args:
            other: The histogram to add.

        Returns:
            The histogram of both sets of rows.

        Raises:
            ValueError: If the edges differ.
        """
        if not np.array_equal(self.edges, other.edges):
            raise ValueError("Expected two histograms with the same edges; got different edges.")
        total = self.weights + other.weights
        share = other.weights / np.maximum(total, np.finfo(float).tiny)
        gap = other.means - self.means
        return Histogram(
            total,
            np.where(total > 0, self.means + share * gap, self.means),
            self.variances + share * (other.variances - self.variances + (1 - share) * gap**2),
            self.edges,
        )


def bin_edges(
    x: Float[ArrayLike, "n d"],
    n_bins: int = 256,
    sample_weight: Float[ArrayLike, " n"] | None = None,
) -> Float[np.ndarray, "d n_bins+1"]:
    """Choose edges fine where the data are dense and still fine in the tails.

    Half of them are quantiles, so that a sharp mode gets bins in proportion to its mass, and half
    are evenly spaced in arcsinh of the standardised value, so that a heavy tail keeps its shape.
    In a column of no more distinct values than bins every value gets a bin to itself, and often
    repeated ones do in any.

    Args:
        x: The rows, shape `(n, d)`.
        n_bins: Number of bins of each column, at least 2.
        sample_weight: Non-negative weight of each row, shape `(n,)`; one each by default.

    Returns:
        Edges with infinite ends that nowhere fall, shape `(d, n_bins + 1)`.

    Raises:
        ValueError: If `x` is no table with rows, `sample_weight` has another shape or no value
            above zero, or `n_bins` is below 2.

    Example:
        >>> import numpy as np
        >>> from gaussianization.marginals import bin_edges
        >>> edges = bin_edges(np.random.default_rng(0).normal(size=(1000, 2)), n_bins=8)
        >>> edges.shape, edges[:, [0, -1]].tolist(), bool(np.all(np.diff(edges[:, 1:-1]) > 0))
        ((2, 9), [[-inf, inf], [-inf, inf]], True)
    """
    return _edges_of_sorted(*_sorted_columns(x, sample_weight), n_bins)


def location_and_spread(histogram: Histogram) -> tuple[np.ndarray, np.ndarray]:
    """Return each column's median and a spread that neither tails nor gaps inflate.

    The spread is 16 times the median distance between neighbouring 16-quantiles: two narrow modes
    far apart have the spread of a mode, not of the gap. Where more than half of those distances
    are zero it is the standard deviation instead, and one for a constant column.

    Args:
        histogram: Histogram of `d` columns.

    Returns:
        Location and spread, each of shape `(d,)`; the spread is positive.
    """
    w, mean, variance, _ = histogram
    location, spread = _location_and_spread(mean, w)
    total = np.maximum(w.sum(1), np.finfo(float).tiny)
    centre = (w * mean).sum(1) / total
    deviation = np.sqrt((w * (variance + (mean - centre[:, None]) ** 2)).sum(1) / total)
    spread = np.where(spread > 0, spread, deviation)
    return location, np.where(spread > 0, spread, 1.0)


def _sorted_columns(x, sample_weight):
    """Sorted columns (d, n), and the weights in their order, or None."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"Expected data of shape (n, d) with n >= 1; got {x.shape}.")
    if sample_weight is None:
        columns = np.array(x.T, order="C")
        columns.sort(axis=1)
        return columns, None
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != x.shape[:1]:
        raise ValueError(f"Expected sample_weight of shape {x.shape[:1]}; got {weight.shape}.")
    columns, weight = np.array(x[weight > 0].T, order="C"), weight[weight > 0]
    if weight.size == 0:
        raise ValueError("Expected a sample_weight above zero; got none.")
    order = np.argsort(columns, axis=1, kind="stable")
    return np.take_along_axis(columns, order, axis=1), weight[order]


def _quantiles(values, weight, levels):
    """The smallest sorted value of each column with at least that share of the weight."""
    last = values.shape[1] - 1
    if weight is None:
        rank = np.ceil(levels * (last + 1) * (1 - 1e-12)).astype(int) - 1
        return values[:, np.clip(rank, 0, last)]
    rank = np.empty((len(values), levels.size), int)
    for j, cumulative in enumerate(np.cumsum(weight, axis=1)):
        rank[j] = np.searchsorted(cumulative, levels * cumulative[-1] * (1 - 1e-12))
    return np.take_along_axis(values, np.minimum(rank, last), axis=1)


def _location_and_spread(values, weight):
    levels = (np.arange(_SPACINGS) + 0.5) / _SPACINGS
    quantiles = _quantiles(values, weight, np.append(levels, 0.5))
    return quantiles[:, -1], _SPACINGS * np.median(np.diff(quantiles[:, :-1]), axis=1)


def _edges_of_sorted(columns, weight, n_bins):
    if n_bins < 2:
        raise ValueError(f"Expected n_bins >= 2; got {n_bins}.")
    n_even = (n_bins - 1) // 2
    levels = np.arange(1, n_bins - n_even) / (n_bins - n_even)
    location, spread = (part[:, None] for part in _location_and_spread(columns, weight))
    low, high = columns[:, :1], columns[:, -1:]
    spread = np.where(spread > 0, spread, high - low)
    spread = np.where(spread > 0, spread, 1.0)
    start, stop = (np.arcsinh((end - location) / spread) for end in (low, high))
    even = location + spread * np.sinh(np.linspace(start, stop, n_even + 2, axis=1)[:, 1:-1, 0])
    inner = np.sort(np.concatenate([_quantiles(columns, weight, levels), even], axis=1), axis=1)
    # The second of two equal edges moves up by one unit in the last place: the repeated value then
    # has a bin of its own and is not mixed with what follows it.
    repeated = np.diff(inner, prepend=-np.inf, axis=1) <= 0
    inner = np.where(repeated, np.nextafter(inner, np.inf), inner)
    is_new = np.diff(columns, axis=1) > 0
    for j in np.flatnonzero(is_new.sum(1) < n_bins):
        values = columns[j, 1:][is_new[j]]
        inner[j] = np.nextafter(high[j], np.inf)
        inner[j, : values.size] = values
    infinite = np.full((len(columns), 1), np.inf)
    return np.concatenate([-infinite, inner, infinite], axis=1)
