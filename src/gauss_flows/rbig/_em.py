"""Expectation-maximisation for one-dimensional Gaussian mixtures, every column at once."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

_LOG_SQRT_2PI = 0.9189385332046727
_SMALLEST_WEIGHT = 1e-7
_LONGEST_LEAP = 64.0
# A leap that fails gains little, and the next one much: one small gain is no end.
_ENOUGH_SMALL = 2


_Numbers = Array | np.ndarray


class Bins(NamedTuple):
    """Weights (summing to one), means and variances of `M` bins, each `(d, M)`."""

    weights: Float[_Numbers, "d M"]
    means: Float[_Numbers, "d M"]
    variances: Float[_Numbers, "d M"]


class Mixture(NamedTuple):
    """Log-weights, means and log-variances of `K` components, each `(d, K)`."""

    log_weights: Float[_Numbers, "d K"]
    means: Float[_Numbers, "d K"]
    log_variances: Float[_Numbers, "d K"]


class _State(NamedTuple):
    mixture: Mixture
    value: Float[Array, " d"]
    n_small: Int[Array, " d"]
    n_leaps: Int[Array, ""]


@partial(jax.jit, static_argnames="n_coarse")
def fit_bins(
    bins: Bins,
    starts: Mixture,
    floor: Float[_Numbers, " d"],
    tolerance: float,
    max_iterations: int,
    n_coarse: int,
) -> tuple[Mixture, Float[Array, " d"], Int[Array, ""]]:
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
    # The first part only has to choose a basin, for which single precision is plenty.
    rough = _tile(jax.tree.map(_single, _merge_neighbours(bins, n_coarse)), n_starts)
    rough_floor = _single(jnp.tile(floor, n_starts))
    starts = jax.tree.map(_single, starts)
    first = _climb(rough, starts, rough_floor, 10 * tolerance, max_iterations)
    best = jnp.argmax(first.value.reshape(n_starts, d), axis=0), jnp.arange(d)
    chosen = jax.tree.map(lambda part: part.reshape(n_starts, d, -1)[best], first.mixture)
    chosen = jax.tree.map(lambda part: part.astype(bins.means.dtype), chosen)
    second = _climb(bins, chosen, floor, tolerance, max_iterations)
    mixture = _normalise(second.mixture, floor)
    return mixture, mean_log_density(bins, mixture), 3 * (first.n_leaps + second.n_leaps)


@jax.jit
def mean_log_density(bins: Bins, mixture: Mixture) -> Float[Array, " d"]:
    """Mean log-density of the rows in the bins, right to second order in a bin's width.

    Args:
        bins: The histogram.
        mixture: One mixture per column.

    Returns:
        Nats per row, shape `(d,)`.
    """
    lw, mu, lv = (part[..., None] for part in mixture)
    precision = jnp.exp(-lv)
    delta = bins.means[:, None] - mu
    terms = lw - 0.5 * lv - 0.5 * precision * delta**2
    log_density = jax.scipy.special.logsumexp(terms, axis=1)
    share = jnp.exp(terms - log_density[:, None])
    slope = precision * delta
    curvature = (share * (slope**2 - precision)).sum(1) - (share * slope).sum(1) ** 2
    # Where a bin is wider than what it covers the series misleads; the EM bound does not.
    bound = -0.5 * bins.variances * (share * precision).sum(1)
    second = jnp.maximum(0.5 * bins.variances * curvature, bound)
    return (bins.weights * (log_density + second)).sum(-1) - _LOG_SQRT_2PI


def _single(array):
    return array.astype(jnp.float32)


def _tile(tree, times):
    return jax.tree.map(lambda part: jnp.tile(part, (times, 1)), tree)


def _merge_neighbours(bins, n):
    d, m = bins.weights.shape
    if n >= m:
        return bins
    w, c, v = (part.reshape(d, n, m // n) for part in bins)
    total = w.sum(-1)
    share = w / jnp.maximum(total, jnp.finfo(w.dtype).tiny)[..., None]
    mean = jnp.where(total > 0, (share * c).sum(-1), c[..., 0])
    return Bins(total, mean, (share * (v + (c - mean[..., None]) ** 2)).sum(-1))


def _em_step(bins, mixture, floor):
    """One EM step, and the mean log-likelihood (less a constant) of where it started."""
    lw, mu, lv = mixture
    delta = bins.means[:, None] - mu[..., None]
    square = delta * delta + bins.variances[:, None]
    terms = (lw - 0.5 * lv)[..., None] - (0.5 * jnp.exp(-lv))[..., None] * square
    top = terms.max(1, keepdims=True)
    e = jnp.exp(terms - top)
    total = e.sum(1, keepdims=True)
    r = e * (bins.weights[:, None] / total)
    mass = r.sum(-1)
    safe = jnp.maximum(mass, jnp.finfo(mass.dtype).tiny)
    # Moments about the old mean: no cancellation for a narrow component far from zero.
    shift = (r * delta).sum(-1) / safe
    variance = (r * square).sum(-1) / safe - shift**2
    alive = mass > _SMALLEST_WEIGHT
    updated = Mixture(
        jnp.log(jnp.maximum(mass, _SMALLEST_WEIGHT)),
        jnp.where(alive, mu + shift, mu),
        jnp.where(alive, jnp.log(jnp.maximum(variance, floor[:, None])), lv),
    )
    return updated, (bins.weights * (top + jnp.log(total))[:, 0]).sum(-1)


def _normalise(mixture, floor):
    lw = jax.nn.log_softmax(mixture.log_weights, axis=-1)
    lv = jnp.maximum(mixture.log_variances, jnp.log(floor)[:, None])
    return Mixture(lw, mixture.means, lv)


def _length(direction, weights, precisions):
    """Size of a change of parameters, with means counted in their components' scales."""
    lw, mu, lv = direction
    return (weights * (lw**2 + precisions * mu**2 + lv**2)).sum(-1)


def _climb(bins, mixture, floor, tolerance, max_iterations):
    """Squared extrapolation: two EM steps, a leap along them kept only if it climbs, a third."""

    def leap(state):
        start = state.mixture
        one, _ = _em_step(bins, start, floor)
        two, value_one = _em_step(bins, one, floor)
        step = jax.tree.map(jnp.subtract, one, start)
        bend = jax.tree.map(lambda c, b, a: c - 2 * b + a, two, one, start)
        metric = jnp.exp(start.log_weights), jnp.exp(-start.log_variances)
        bent = jnp.maximum(_length(bend, *metric), jnp.finfo(floor.dtype).tiny)
        size = jnp.clip(jnp.sqrt(_length(step, *metric) / bent), 1.0, _LONGEST_LEAP)[:, None]
        far = jax.tree.map(lambda a, s, b: a + 2 * size * s + size**2 * b, start, step, bend)
        three, value_far = _em_step(bins, _normalise(far, floor), floor)
        keep = value_far >= value_one
        value = jnp.where(keep, value_far, value_one)
        new = jax.tree.map(lambda a, b: jnp.where(keep[:, None], a, b), three, two)
        # A column that has arrived stays, so that its fit does not depend on the others'.
        climbs = state.n_small < _ENOUGH_SMALL
        moved = jax.tree.map(lambda a, b: jnp.where(climbs[:, None], a, b), new, start)
        n_small = jnp.where(value - state.value > tolerance, 0, state.n_small + 1)
        return _State(
            moved,
            jnp.where(climbs, value, state.value),
            jnp.where(climbs, n_small, state.n_small),
            state.n_leaps + 1,
        )

    def unfinished(state):
        return jnp.any(state.n_small < _ENOUGH_SMALL) & (3 * state.n_leaps < max_iterations)

    lowest = jnp.full_like(floor, -jnp.inf)
    first = _State(mixture, lowest, jnp.zeros(floor.shape, int), jnp.asarray(0))
    return lax.while_loop(unfinished, leap, first)
