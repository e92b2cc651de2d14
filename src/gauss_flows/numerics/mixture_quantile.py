r"""The quantile of a mixture at a normal score: Halley's method inside a rigorous bracket.

The root of :math:`g(x) = \Phi^{-1}(F(x)) - z` lies between the smallest and the largest of
the components' own quantiles at :math:`z`. On that scale :math:`g` is nearly straight, and its
curvature comes with the evaluation, so a few cubic steps are enough.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.mixture import Family, evaluate, log_slope_derivative

_MAX_EVALUATIONS = 120


class _Search(NamedTuple):
    x: Array
    lower: Array
    upper: Array
    residual: Array  # |g| at the last point but one
    done: Array
    count: Array


def mixture_quantile(
    family: Family, z: Array, log_weights: Array, means: Array, log_scales: Array
) -> tuple[Array, Array]:
    """Solve gaussianize(x) = z, components on the parameters' first axis.

    Returns:
        x, NaN where the search failed, and the number of evaluations of each element.
    """
    quantiles = means + jnp.exp(log_scales) * family.quantile(z)
    lower, upper = jnp.min(quantiles, axis=0), jnp.max(quantiles, axis=0)
    eps = jnp.finfo(z.dtype).eps
    tolerance = 0.5 * eps * jnp.maximum(1.0, jnp.abs(z))
    start = jnp.sum(jnp.exp(log_weights) * quantiles, axis=0)

    def step(search: _Search) -> _Search:
        x = search.x
        at = evaluate(family, x, log_weights, means, log_scales)
        g = at.z - z
        lower = jnp.where(g < 0, x, search.lower)
        upper = jnp.where(g > 0, x, search.upper)
        newton = -g * jnp.exp(-at.log_det)
        bend = 0.5 * newton * log_slope_derivative(family, at)
        # Halley's correction is trusted only where the curve is mild over the step.
        halley = newton / (1.0 + jnp.clip(bend, -0.5, 1.0))
        candidate = x + halley
        slow = jnp.abs(g) > 0.5 * search.residual
        inside = (candidate >= lower) & (candidate <= upper) & jnp.isfinite(candidate)
        candidate = jnp.where(inside & ~slow, candidate, 0.5 * lower + 0.5 * upper)
        # What the step leaves is of third order: small enough, it is the last one.
        remainder = jnp.abs(g) * (bend * bend + g * g)
        settled = inside & (remainder <= tolerance)
        width = upper - lower <= eps * jnp.maximum(jnp.abs(lower), jnp.abs(upper))
        exact = g == 0
        moved = jnp.where(search.done | exact, x, candidate)
        return _Search(
            x=moved,
            lower=lower,
            upper=upper,
            residual=jnp.where(slow, jnp.inf, jnp.abs(g)),
            done=search.done | exact | settled | width,
            count=search.count + ~search.done,
        )

    def unfinished(search: _Search) -> Array:
        return jnp.any(~search.done) & (jnp.max(search.count) < _MAX_EVALUATIONS)

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
            count=jnp.zeros(shape, jnp.int32),
        ),
    )
    return jnp.where(search.done, search.x, jnp.nan), search.count
