"""Expectation-maximisation for one-dimensional Gaussian mixtures, every column at once."""

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

_LOG_SQRT_2PI = 0.5 * math.log(2 * math.pi)
_SMALLEST_WEIGHT = 1e-7
_LONGEST_LEAP = 64.0
# A leap that fails gains little, and the next one much: one small gain is no end.
_ENOUGH_SMALL = 2
_STEPS_IN_A_LEAP = 3


class Bins(NamedTuple):
    """Weights (summing to one), means and variances of `M` bins, each `(d, M)`."""

    weights: Float[Any, "d M"]
    means: Float[Any, "d M"]
    variances: Float[Any, "d M"]


class Mixture(NamedTuple):
    """Log-weights, means and log-variances of `K` components, each `(d, K)`."""

    log_weights: Float[Any, "d K"]
    means: Float[Any, "d K"]
    log_variances: Float[Any, "d K"]


class Columns(NamedTuple):
    """What a climb is up: the bins and the smallest variance of a component."""

    weights: Float[Any, "d M"]
    means: Float[Any, "d M"]
    variances: Float[Any, "d M"]
    floor: Float[Any, " d"]


class Place(NamedTuple):
    """Where every column's climb is: mixture, log-likelihood, and small gains in a row."""

    log_weights: Float[Any, "d K"]
    means: Float[Any, "d K"]
    log_variances: Float[Any, "d K"]
    value: Float[Any, " d"]
    n_small: Int[Any, " d"]

    @property
    def mixture(self) -> Mixture:
        """The mixtures."""
        return Mixture(*self[:3])

    @property
    def climbs(self) -> Any:
        """Which columns have not arrived, shape `(d,)`."""
        return self.n_small < _ENOUGH_SMALL


def fit_bins(
    bins: Bins,
    starts: Mixture,
    floor: Float[Any, " d"],
    tolerance: float,
    max_iterations: int,
    n_coarse: int,
) -> tuple[Mixture, Float[Any, " d"], Int[Any, ""]]:
    """Climb from every start on merged bins, then from each column's best on all of them.

    Args:
        bins: The histogram.
        starts: Mixtures to start from, those of one start after those of another.
        floor: Smallest variance of a component, shape `(d,)`.
        tolerance: A column stops when three steps raise its log-likelihood by no more nats.
        max_iterations: Most EM steps in either part.
        n_coarse: Number of merged bins; a power of two.

    Returns:
        The mixture, its mean log-likelihood in nats of shape `(d,)`, and the steps taken.
    """
    d = bins.weights.shape[0]
    n_starts = starts.means.shape[0] // d
    most = -(-max_iterations // _STEPS_IN_A_LEAP)

    # The first part only has to choose a basin, for which single precision is plenty.
    rough = Columns(*_merge_neighbours(bins, n_coarse), floor)
    rough = (_single(np.concatenate([part] * n_starts)) for part in rough)
    start = Mixture(*(_single(part) for part in starts))
    first, n_first = _climb(Columns(*rough), start, 10 * tolerance, most)
    best = np.argmax(first.value.reshape(n_starts, d), axis=0), np.arange(d)
    chosen = (part.reshape(n_starts, d, -1)[best] for part in first.mixture)
    start = Mixture(*(part.astype(bins.means.dtype) for part in chosen))
    second, n_second = _climb(Columns(*bins, floor), start, tolerance, most)
    mixture = normalise(second.mixture, floor)
    value = _mean_log_density(bins, mixture)
    return mixture, value, _STEPS_IN_A_LEAP * (n_first + n_second)


def em_step(columns: Columns, mixture: Mixture) -> tuple[Mixture, Float[Any, " d"]]:
    """Take one EM step.

    Args:
        columns: What to fit.
        mixture: One mixture per column.

    Returns:
        The mixture after the step, and the mean log-likelihood before it, less a constant.
    """
    weights, means, variances, floor = columns
    lw, mu, lv = mixture
    delta = means[:, None] - mu[..., None]
    square = delta * delta
    square += variances[:, None]
    e = (0.5 * np.exp(-lv))[..., None] * square
    e = (lw - 0.5 * lv)[..., None] - e
    top = e.max(1, keepdims=True)
    e -= top
    e = np.exp(e)
    total = e.sum(1, keepdims=True)
    e *= weights[:, None] / total
    mass = e.sum(-1)
    safe = np.maximum(mass, np.finfo(mass.dtype).tiny)
    # Moments about the old mean: no cancellation for a narrow component far from zero.
    shift = np.vecdot(e, delta) / safe
    variance = np.vecdot(e, square) / safe - shift**2
    alive = mass > _SMALLEST_WEIGHT
    updated = Mixture(
        np.log(np.maximum(mass, _SMALLEST_WEIGHT)),
        np.where(alive, mu + shift, mu),
        np.where(alive, np.log(np.maximum(variance, floor[:, None])), lv),
    )
    return updated, np.vecdot(weights, (top + np.log(total))[:, 0])


def normalise(mixture: Mixture, floor: Float[Any, " d"]) -> Mixture:
    """Make each row's weights sum to one, and no variance smaller than the floor."""
    lw = mixture.log_weights - mixture.log_weights.max(-1, keepdims=True)
    lw = lw - np.log(np.exp(lw).sum(-1, keepdims=True))
    lv = np.maximum(mixture.log_variances, np.log(floor)[:, None])
    return Mixture(lw, mixture.means, lv)


def _mean_log_density(bins, mixture):
    """Mean log-density of the rows in the bins, right to second order in a bin's width."""
    lw, mu, lv = (part[..., None] for part in mixture)
    precision = np.exp(-lv)
    delta = bins.means[:, None] - mu
    terms = lw - 0.5 * lv - 0.5 * precision * delta**2
    top = terms.max(1, keepdims=True)
    share = np.exp(terms - top)
    total = share.sum(1, keepdims=True)
    share = share / total
    log_density = (top + np.log(total))[:, 0]
    slope = precision * delta
    curvature = (share * (slope**2 - precision)).sum(1) - (share * slope).sum(1) ** 2
    # Where a bin is wider than what it covers the series misleads; the EM bound does not.
    bound = -0.5 * bins.variances * (share * precision).sum(1)
    second = np.maximum(0.5 * bins.variances * curvature, bound)
    return (bins.weights * (log_density + second)).sum(-1) - _LOG_SQRT_2PI


def _single(array):
    return array.astype(np.float32)


def _merge_neighbours(bins, n):
    d, m = bins.weights.shape
    if n >= m:
        return bins
    w, c, v = (part.reshape(d, n, m // n) for part in bins)
    total = w.sum(-1)
    share = w / np.maximum(total, np.finfo(w.dtype).tiny)[..., None]
    mean = np.where(total > 0, (share * c).sum(-1), c[..., 0])
    return Bins(total, mean, (share * (v + (c - mean[..., None]) ** 2)).sum(-1))


def _length(direction, weights, precisions):
    """Size of a change of parameters, with means counted in their components' scales."""
    lw, mu, lv = direction
    return (weights * (lw**2 + precisions * mu**2 + lv**2)).sum(-1)


def _climb(columns, mixture, tolerance, most):
    """Squared extrapolation: two EM steps, a leap along them kept only if it climbs, a third."""

    def leap(columns, place):
        start = place.mixture
        one, _ = em_step(columns, start)
        two, value_one = em_step(columns, one)
        step = [b - a for a, b in zip(start, one, strict=True)]
        bend = [c - 2 * b + a for a, b, c in zip(start, one, two, strict=True)]
        metric = np.exp(start.log_weights), np.exp(-start.log_variances)
        bent = np.maximum(_length(bend, *metric), np.finfo(columns.floor.dtype).tiny)
        size = np.clip(np.sqrt(_length(step, *metric) / bent), 1.0, _LONGEST_LEAP)[:, None]
        path = zip(start, step, bend, strict=True)
        far = Mixture(*(a + 2 * size * s + size**2 * b for a, s, b in path))
        three, value_far = em_step(columns, normalise(far, columns.floor))
        keep = value_far >= value_one
        value = np.where(keep, value_far, value_one)
        n_small = np.where(value - place.value > tolerance, 0, place.n_small + 1)
        lw, mu, lv = (np.where(keep[:, None], a, b) for a, b in zip(three, two, strict=True))
        return Place(lw, mu, lv, value, n_small)

    lowest = np.full_like(columns.floor, -np.inf)
    lw, mu, lv = mixture
    place = Place(lw, mu, lv, lowest, np.zeros(lowest.shape, int))
    # A column that has arrived is no longer computed, so its fit does not depend on the others'.
    arrived = Place(*(part.copy() for part in place))
    rows, n_leaps = np.arange(len(place.value)), 0
    while rows.size and n_leaps < most:
        # A leap too far may overflow; it is then not kept.
        with np.errstate(over="ignore", invalid="ignore"):
            place, n_leaps = leap(columns, place), n_leaps + 1
        climbs = place.climbs
        if n_leaps < most and climbs.all():
            continue
        for whole, part in zip(arrived, place, strict=True):
            whole[rows] = part
        rows = rows[climbs]
        columns = Columns(*(part[climbs] for part in columns))
        place = Place(*(part[climbs] for part in place))
    return arrived, n_leaps
