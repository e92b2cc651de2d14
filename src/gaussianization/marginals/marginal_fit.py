"""Fit a one-dimensional Gaussian mixture to every column."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike, DTypeLike

from gaussianization.marginals.em import Bins, Mixture, fit_bins
from gaussianization.marginals.histograms import Histogram, location_and_spread

_N_COARSE = 64
# Exponents of the density whose quantiles are starts: 1 puts equal mass in every component, 1/3
# is how k-means spreads its centres, which reaches further into the tails.
_START_EXPONENTS = (1.0, 1 / 3)
_SMALLEST_SCALE = 1e-4
_SHARE_OF_A_GAP = 0.25
# Variance, in squared spreads, that rounding can give a bin of one repeated value.
_SINGLE_VALUE = 1e-16
# Smallest scale of a component, in units of the rounding of its mean.
_ROUNDINGS = 8.0
_TINY = np.finfo(float).tiny


class MixtureFit(NamedTuple):
    """Fitted mixtures of `d` columns and `K` components each, in order of their means.

    The arrays are float64: the fit is made on standardised values, and a mean that is 1e6 scales
    from zero would not survive float32.

    Args:
        log_weights: Logarithms of the weights, shape `(d, K)`; each row's weights sum to one.
        means: Means of the components, shape `(d, K)`.
        log_scales: Logarithms of their standard deviations, shape `(d, K)`.
        log_likelihood: Mean log-density of the rows in nats, shape `(d,)`, right to second order
            in the width of a histogram's bins.
        n_iterations: Number of EM steps taken.

    Example:
        >>> import numpy as np
        >>> from gaussianization.marginals import fit_mixtures
        >>> rng = np.random.default_rng(0)
        >>> x = rng.choice([-10.0, 10.0], (4000, 1)) + rng.normal(size=(4000, 1))
        >>> fit = fit_mixtures(x, n_components=2)
        >>> print(np.exp(fit.log_weights).round(1), fit.means.round())
        [[0.5 0.5]] [[-10.  10.]]
    """

    log_weights: Float[np.ndarray, "d K"]
    means: Float[np.ndarray, "d K"]
    log_scales: Float[np.ndarray, "d K"]
    log_likelihood: Float[np.ndarray, " d"]
    n_iterations: int


def fit_mixtures(
    x: Float[ArrayLike, "n d"] | Histogram,
    n_components: int = 8,
    *,
    sample_weight: Float[ArrayLike, " n"] | None = None,
    n_bins: int = 256,
    tolerance: float = 3e-5,
    max_iterations: int = 300,
    dtype: DTypeLike = np.float64,
) -> MixtureFit:
    r"""Fit $f_i(x) = \sum_k w_{ik}\, N(x; \mu_{ik}, \sigma_{ik}^2)$ to every column by EM.

    The columns are first binned, those of no more than `n_bins` distinct values value by value; the
    bins' weights, means and variances are all that the iterations then see, so that a million rows
    cost no more than a thousand. Values are standardised inside, by median and a robust spread.

    No component gets narrower than 1e-4 spreads, nor, where the column consists of repeated or
    isolated values, than a quarter of the typical distance between neighbouring values: repeated
    values give a finite density, never an infinite one. Components that would coincide are set a
    hundredth of their scale apart, since identical ones could not be told apart by training.

    Args:
        x: The rows, shape `(n, d)`, or a histogram of them.
        n_components: Number of components `K` of each column.
        sample_weight: Non-negative weight of each row, shape `(n,)`; a weight of two counts as the
            row twice. One each by default; not with a histogram, which has weights of its own.
        n_bins: Number of bins, a power of two.
        tolerance: A column stops when three steps raise its mean log-likelihood by no more nats.
        max_iterations: Most EM steps, in each of the two parts of the climb.
        dtype: Precision in which the mixtures will be used: no component is narrower than the
            rounding of its standardised mean.

    Returns:
        The fitted mixtures.

    Raises:
        ValueError: If `n_components` is below one, `n_bins` no power of two, or the shapes do not
            fit.

    References:
        Varadhan and Roland, *Simple and Globally Convergent Methods for Accelerating the
        Convergence of Any EM Algorithm* (2008), for the extrapolation.

    Example:
        >>> import numpy as np
        >>> from gaussianization.marginals import fit_mixtures
        >>> x = np.random.default_rng(0).normal(loc=[0.0, 50.0], size=(4000, 2))
        >>> fit = fit_mixtures(x, n_components=3)
        >>> fit.means.shape
        (2, 3)
        >>> bool(np.all(np.abs(fit.log_likelihood + 0.5 * np.log(2 * np.pi * np.e)) < 0.05))
        True
    """
    if n_components < 1:
        raise ValueError(f"Expected n_components >= 1; got {n_components}.")
    if n_bins < 2 or n_bins & (n_bins - 1):
        raise ValueError(f"Expected n_bins to be a power of two; got {n_bins}.")
    if not isinstance(x, Histogram):
        x = Histogram.from_data(x, n_bins, sample_weight)
    elif sample_weight is not None:
        raise ValueError("Expected no sample_weight with a histogram, which has its own; got one.")
    location, spread = location_and_spread(x)
    standard = _with_finite_squares(standardise(x, location, spread))
    starts = [_start(standard, n_components, exponent) for exponent in _START_EXPONENTS]
    mixture, value, n_iterations = fit_bins(
        Bins(*standard[:3]),
        Mixture(*(np.concatenate(parts) for parts in zip(*starts, strict=True))),
        _variance_floor(standard),
        tolerance,
        max_iterations,
        n_coarse=_coarse_size(standard.weights.shape[1]),
    )
    log_weights, means, log_variances = (np.asarray(part, np.float64) for part in mixture)
    order = np.argsort(means, axis=1, kind="stable")
    log_weights, means, log_scales = (
        np.take_along_axis(part, order, axis=1)
        for part in (log_weights, means, 0.5 * log_variances)
    )
    # A far component whose mean is rounded by more than its width would miss its own rows.
    rounding = float(np.finfo(dtype).eps)
    log_scales = np.maximum(log_scales, np.log(_ROUNDINGS * rounding * np.abs(means) + _TINY))
    means = _separate(means, log_scales)
    log_spread = np.log(spread)
    return MixtureFit(
        log_weights - np.log(np.exp(log_weights).sum(1, keepdims=True)),
        location[:, None] + spread[:, None] * means,
        log_scales + log_spread[:, None],
        np.asarray(value, np.float64) - log_spread,
        int(n_iterations),
    )


def standardise(histogram: Histogram, location: np.ndarray, spread: np.ndarray) -> Histogram:
    """Shift and scale each column's bins, and make its weights sum to one.

    Args:
        histogram: The histogram.
        location: What becomes zero, shape `(d,)`.
        spread: What becomes one, shape `(d,)`.

    Returns:
        The histogram of `(x - location) / spread`.
    """
    weights, means, variances, edges = histogram
    location, spread = location[:, None], spread[:, None]
    return Histogram(
        weights / weights.sum(1, keepdims=True),
        (means - location) / spread,
        variances / spread**2,
        (edges - location) / spread,
    )


def _with_finite_squares(standard):
    """Bring bins in from where float32 holds no squares: the others keep their fit."""
    # Single precision in any case: the first part of the climb is made in it.
    most = 0.1 * float(np.finfo(np.float32).max) ** 0.5
    weights, means, variances, edges = standard
    return Histogram(
        weights,
        np.clip(means, -most, most),
        np.minimum(variances, most**2),
        np.clip(edges, -most, most),
    )


def _variance_floor(standard):
    """Smallest variance of a component, of standardised columns; see `fit_mixtures`."""
    w, means, variances, _ = standard
    floor = np.full(len(w), _SMALLEST_SCALE)
    single = variances <= _SINGLE_VALUE
    for j in np.flatnonzero((w * single).sum(1) >= 0.5):
        filled = w[j] > 0
        values, place = np.unique(means[j, filled], return_inverse=True)
        isolated = np.ones(values.size, bool)
        isolated[place[~single[j, filled]]] = False
        if values.size > 1:
            gaps = np.diff(values)
            nearest = np.minimum(np.append(gaps, np.inf), np.insert(gaps, 0, np.inf))
            floor[j] = max(floor[j], _SHARE_OF_A_GAP * np.median(nearest[isolated]))
    return floor**2


def _coarse_size(n_bins):
    """The number of merged bins: a divisor of the number of bins."""
    size = min(_N_COARSE, n_bins)
    while n_bins % size:
        size += 1
    return size


def _start(standard, n_components, exponent):
    """Moments of the cells between the `K`-quantiles of a power of the density."""
    w, c, v, edges = standard
    d = len(w)
    widths = np.diff(np.clip(edges, c[:, :1], c[:, -1:]), axis=1)
    widths = np.maximum(widths, np.finfo(float).tiny)
    mass = np.where(w > 0, w**exponent * widths ** (1 - exponent), 0.0)
    middle = np.cumsum(mass, axis=1) - 0.5 * mass
    cell = (middle / mass.sum(1, keepdims=True) * n_components).astype(int)
    cell = np.clip(cell, 0, n_components - 1)
    flat = (cell + n_components * np.arange(d)[:, None]).ravel()

    def total(values):
        return np.bincount(flat, values.ravel(), d * n_components).reshape(d, n_components)

    share = total(w)
    safe = np.maximum(share, np.finfo(float).tiny)
    centre = total(w * c) / safe
    variance = total(w * (v + (c - np.take_along_axis(centre, cell, axis=1)) ** 2)) / safe
    # A cell without data (fewer distinct values than components) starts broad, light and apart.
    empty = share < 1e-6
    overall = (w * c).sum(1, keepdims=True)
    deviation = np.sqrt((w * (v + (c - overall) ** 2)).sum(1, keepdims=True))
    levels = (np.arange(n_components) + 0.5) / n_components
    centre = np.where(empty, overall + 4 * deviation * (levels - 0.5), centre)
    variance = np.where(empty, deviation**2, variance)
    log_share = np.log(np.maximum(share, 1e-3))
    log_share -= np.log(np.exp(log_share).sum(1, keepdims=True))
    # A single value has no variance of its own; a tenth of a cell lets it find its neighbours.
    smallest = (0.1 * np.maximum(deviation, 1e-3) / n_components) ** 2
    return log_share, centre, np.log(np.maximum(variance, np.minimum(smallest, 1e-4)))


def _separate(means, log_scales):
    """Move components that coincide apart, by a hundredth of their scale; means are sorted."""
    close = np.diff(means, axis=1) < 1e-3 * np.exp(log_scales[:, 1:])
    close &= np.abs(np.diff(log_scales, axis=1)) < 1e-3
    place_in_run = np.zeros_like(means)
    for k in range(1, means.shape[1]):
        place_in_run[:, k] = np.where(close[:, k - 1], place_in_run[:, k - 1] + 1, 0)
    return means + 0.01 * place_in_run * np.exp(log_scales)
