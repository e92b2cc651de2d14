"""Histograms that keep each bin's weight, mean and variance: all that a marginal fit needs."""

from typing import NamedTuple, Self

import numpy as np
from jaxtyping import ArrayLike, Float

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
        >>> from gauss_flows.rbig.histograms import Histogram, bin_edges
        >>> x = np.random.default_rng(0).normal(size=(5000, 3))
        >>> edges = bin_edges(x, 128)
        >>> parts = [Histogram.from_data(part, edges=edges) for part in np.split(x, 5)]
        >>> total = parts[0]
        >>> for part in parts[1:]:
        ...     total = total.merge(part)
        >>> bool(np.allclose(total.means, Histogram.from_data(x, edges=edges).means))
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
            edges: Edges to use, shape `(d, M + 1)`, increasing; from `bin_edges` by default.

        Returns:
            The histogram, in float64.
        """
        columns, cumulative, weight = _sorted_columns(x, sample_weight)
        if edges is None:
            edges = _edges_of_sorted(columns, cumulative, n_bins)
        edges = np.asarray(edges, np.float64)
        if edges.ndim != 2 or edges.shape[0] != len(columns) or edges.shape[1] < 2:
            raise ValueError(
                f"Expected edges of shape ({len(columns)}, n_bins + 1); got {edges.shape}."
            )
        n_bins = edges.shape[1] - 1
        totals = np.zeros((len(columns), n_bins))
        means = np.zeros_like(totals)
        variances = np.zeros_like(totals)
        for j, column in enumerate(columns):
            w = None if weight is None else weight[j]
            bounds = np.searchsorted(column, edges[j, 1:-1])
            bounds = np.concatenate([[0], bounds, [column.size]])
            counts = np.diff(bounds)
            filled = counts > 0
            starts, counts = bounds[:-1][filled], counts[filled]
            total = counts if w is None else np.add.reduceat(w, starts)
            scale = np.maximum(total, np.finfo(float).tiny)
            mean = np.add.reduceat(column if w is None else w * column, starts) / scale
            deviation = column - np.repeat(mean, counts)
            square = deviation * deviation
            variance = np.add.reduceat(square if w is None else w * square, starts) / scale
            totals[j, filled], means[j, filled], variances[j, filled] = total, mean, variance
            # An empty bin needs a harmless place: that of the filled bin before it.
            last = np.maximum.accumulate(np.where(filled, np.arange(n_bins), filled.argmax()))
            means[j] = means[j, last]
        return cls(totals, means, variances, edges)

    @classmethod
    def from_points(
        cls, x: Float[ArrayLike, "n d"], sample_weight: Float[ArrayLike, " n"] | None = None
    ) -> Self:
        """Give every row a bin of its own; the number of bins is the next power of two.

        Args:
            x: The rows, shape `(n, d)`.
            sample_weight: Non-negative weight of each row, shape `(n,)`; one each by default.

        Returns:
            The histogram, in float64, of variance zero and padded with bins of weight zero.
        """
        columns, _, weight = _sorted_columns(x, sample_weight)
        n = columns.shape[1]
        padding = ((0, 0), (0, (1 << (n - 1).bit_length()) - n))
        totals = np.pad(np.ones_like(columns) if weight is None else weight, padding)
        means = np.pad(columns, padding, mode="edge")
        inner = 0.5 * (means[:, 1:] + means[:, :-1])
        infinite = np.full((len(columns), 1), np.inf)
        edges = np.concatenate([-infinite, inner, infinite], axis=1)
        return cls(totals, means, np.zeros_like(means), edges)

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
    Repeated values get a bin to themselves.

    Args:
        x: The rows, shape `(n, d)`.
        n_bins: Number of bins of each column, at least 2.
        sample_weight: Non-negative weight of each row, shape `(n,)`; one each by default.

    Returns:
        Increasing edges with infinite ends, shape `(d, n_bins + 1)`.
    """
    columns, cumulative, _ = _sorted_columns(x, sample_weight)
    return _edges_of_sorted(columns, cumulative, n_bins)


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
    location, spread = [], []
    for w, mean, variance in zip(*histogram[:3], strict=True):
        place, width = _location_and_spread(mean, np.cumsum(w))
        if width <= 0:
            total = np.maximum(w.sum(), np.finfo(float).tiny)
            centre = (w * mean).sum() / total
            width = np.sqrt((w * (variance + (mean - centre) ** 2)).sum() / total)
        location.append(place)
        spread.append(width if width > 0 else 1.0)
    return np.array(location), np.array(spread)


def _sorted_columns(x, sample_weight):
    """Sorted columns (d, n), cumulative weights (d, n) or (n,), weights in that order or None."""
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or x.shape[0] == 0:
        raise ValueError(f"Expected data of shape (n, d) with n >= 1; got {x.shape}.")
    if sample_weight is None:
        columns = np.sort(x.T, axis=1)
        return columns, np.arange(1.0, x.shape[0] + 1)[None], None
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != x.shape[:1]:
        raise ValueError(f"Expected sample_weight of shape {x.shape[:1]}; got {weight.shape}.")
    order = np.argsort(x.T, axis=1, kind="stable")
    weight = weight[order]
    return np.take_along_axis(x.T, order, axis=1), np.cumsum(weight, axis=1), weight


def _weighted_quantiles(values, cumulative, levels):
    """Smallest of the sorted values with at least that share of the weight."""
    rank = np.searchsorted(cumulative, levels * cumulative[-1] * (1 - 1e-12))
    return values[np.minimum(rank, values.size - 1)]


def _location_and_spread(values, cumulative):
    levels = (np.arange(_SPACINGS) + 0.5) / _SPACINGS
    quantiles = _weighted_quantiles(values, cumulative, levels)
    location = _weighted_quantiles(values, cumulative, np.array([0.5]))[0]
    return location, _SPACINGS * np.median(np.diff(quantiles))


def _edges_of_sorted(columns, cumulative, n_bins):
    if n_bins < 2:
        raise ValueError(f"Expected n_bins >= 2; got {n_bins}.")
    edges = np.empty((len(columns), n_bins + 1))
    n_even = (n_bins - 1) // 2
    levels = np.arange(1, n_bins - n_even) / (n_bins - n_even)
    for j, column in enumerate(columns):
        total = cumulative[j % len(cumulative)]
        location, spread = _location_and_spread(column, total)
        spread = spread if spread > 0 else column[-1] - column[0]
        ends = np.arcsinh((column[[0, -1]] - location) / (spread if spread > 0 else 1.0))
        even = location + spread * np.sinh(np.linspace(*ends, n_even + 2)[1:-1])
        inner = np.sort(np.concatenate([_weighted_quantiles(column, total, levels), even]))
        # The second of two equal edges moves up by one unit in the last place: the repeated value
        # then has a bin of its own and is not mixed with what follows it.
        inner = np.where(np.diff(inner, prepend=-np.inf) > 0, inner, np.nextafter(inner, np.inf))
        edges[j] = np.concatenate([[-np.inf], inner, [np.inf]])
    return edges
