r"""The quantile of a mixture at a normal score: Halley's method inside a rigorous bracket.

The root of $g(x) = \Phi^{-1}(F(x)) - z$ lies between the smallest and the largest of
the components' own quantiles at $z$. On that scale $g$ is nearly straight, and its
curvature comes with the evaluation, so a few cubic steps are enough.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.mixture import Family, evaluate_fast

_MAX_EVALUATIONS = 120

# A long batch that shares one mixture starts from a table of the quantile, at scores this
# far out and this close together.
_TABULATED_BATCH = 512
_TABLE_LIMIT = 6.0
_TABLE_STEPS = 192


class _Search(NamedTuple):
    x: Array
    lower: Array
    upper: Array
    residual: Array  # |g| at the last point but one
    done: Array
    evaluations: Array


def mixture_quantile(
    family: Family, z: Array, log_weights: Array, means: Array, log_scales: Array
) -> tuple[Array, Array]:
    """Solve gaussianize(x) = z, components on the parameters' first axis.

    Returns:
        x, NaN where the search failed, and the number of evaluations of each element.
    """
    rank = max(z.ndim + 1, log_weights.ndim, means.ndim, log_scales.ndim)
    parameters = tuple(
        p.reshape(p.shape[0], *[1] * (rank - p.ndim), *p.shape[1:])
        for p in (log_weights, means, log_scales)
    )
    shared = all(p.ndim == z.ndim + 1 and p.shape[-1] == 1 for p in parameters)
    if z.ndim and shared and z.shape[-1] >= _TABULATED_BATCH:
        start = _tabulated_start(family, z, *parameters)
    else:
        start = _mean_quantile(family, z, *parameters)
    return _search(family, z, start, *parameters)


def _mean_quantile(
    family: Family, z: Array, log_weights: Array, means: Array, log_scales: Array
) -> Array:
    quantiles = means + jnp.exp(log_scales) * family.quantile(z)
    return jnp.sum(jnp.exp(log_weights) * quantiles, axis=0)


def _tabulated_start(family: Family, z: Array, *parameters: Array) -> Array:
    """Cubic Hermite interpolation of the quantile between its values on a grid of scores."""
    spacing = 2.0 * _TABLE_LIMIT / _TABLE_STEPS
    scores = jnp.linspace(-_TABLE_LIMIT, _TABLE_LIMIT, _TABLE_STEPS + 1, dtype=z.dtype)
    scores = jnp.broadcast_to(scores, (*z.shape[:-1], scores.size))
    start = _mean_quantile(family, scores, *parameters)
    x, _ = _search(family, scores, start, *parameters)
    rise = spacing * jnp.exp(-evaluate_fast(family, x, *parameters).log_det)
    # An overhanging tangent, at the edge of a gap, would throw the cubic out of its cell.
    step = jnp.diff(x, axis=-1)
    limit = 3.0 * jnp.minimum(
        jnp.concatenate([step[..., :1], step], axis=-1),
        jnp.concatenate([step, step[..., -1:]], axis=-1),
    )
    rise = jnp.minimum(rise, limit)

    position = jnp.clip((z + _TABLE_LIMIT) / spacing, 0.0, _TABLE_STEPS)
    cell = jnp.minimum(position.astype(jnp.int32), _TABLE_STEPS - 1)
    t = position - cell

    def at(values: Array, offset: int) -> Array:
        return jnp.take_along_axis(values, cell + offset, axis=-1, mode="promise_in_bounds")

    left, right = at(x, 0), at(x, 1)
    bend_left, bend_right = at(rise, 0) - (right - left), (right - left) - at(rise, 1)
    start = left + t * ((right - left) + (1.0 - t) * (bend_left * (1.0 - t) + bend_right * t))
    # Beyond the table the map is as straight as its last step.
    beyond = jnp.abs(z) - _TABLE_LIMIT
    slope = jnp.where(z > 0, at(rise, 1), at(rise, 0)) / spacing
    return start + jnp.where(beyond > 0, jnp.sign(z) * beyond * slope, 0.0)


def _search(
    family: Family,
    z: Array,
    start: Array,
    log_weights: Array,
    means: Array,
    log_scales: Array,
) -> tuple[Array, Array]:
    eps = jnp.finfo(z.dtype).eps
    offsets = jnp.exp(log_scales) * family.quantile(z)
    # The root may lie on the bracket's very end, and the end is rounded.
    rounding = 4.0 * eps * (jnp.abs(means) + jnp.abs(offsets))
    lower = jnp.min(means + offsets - rounding, axis=0)
    upper = jnp.max(means + offsets + rounding, axis=0)
    start = jnp.clip(start, lower, upper)
    tolerance = 8.0 * eps * jnp.maximum(1.0, jnp.abs(z))

    def step(search: _Search) -> _Search:
        x = search.x
        at = evaluate_fast(family, x, log_weights, means, log_scales)
        g = at.z - z
        # A point is accepted on the residual that was seen there, never on one foreseen:
        # a narrow component may hide ahead. Half an ulp of x may be all that can be had.
        near = jnp.abs(g) <= jnp.maximum(tolerance, 0.5 * eps * jnp.abs(x) * at.slope)
        lower = jnp.where(g < 0, x, search.lower)
        upper = jnp.where(g > 0, x, search.upper)
        newton = -g * jnp.exp(-at.log_det)
        # Halley's correction is trusted only where the curve is mild over the step.
        bend = 0.5 * newton * (at.total_score + at.z * at.slope)
        candidate = x + newton / (1.0 + jnp.clip(bend, -0.5, 1.0))
        slow = jnp.abs(g) > 0.5 * search.residual
        inside = (candidate > lower) & (candidate < upper)
        candidate = jnp.where(inside & ~slow, candidate, 0.5 * lower + 0.5 * upper)
        # Rounding may leave no number between the bounds.
        narrow = (candidate <= lower) | (candidate >= upper)
        done = search.done | near | narrow
        return _Search(
            x=jnp.where(done, x, candidate),
            lower=lower,
            upper=upper,
            residual=jnp.where(slow, jnp.inf, jnp.abs(g)),
            done=done,
            evaluations=search.evaluations + ~search.done,
        )

    def unfinished(search: _Search) -> Array:
        return jnp.any(~search.done) & (jnp.max(search.evaluations) < _MAX_EVALUATIONS)

    shape = start.shape
    search = jax.lax.while_loop(
        unfinished,
        step,
        _Search(
            x=start,
            lower=jnp.broadcast_to(lower, shape),
            upper=jnp.broadcast_to(upper, shape),
            residual=jnp.full(shape, jnp.inf, z.dtype),
            done=~jnp.isfinite(start),
            evaluations=jnp.zeros(shape, jnp.int32),
        ),
    )
    return jnp.where(search.done, search.x, jnp.nan), search.evaluations
