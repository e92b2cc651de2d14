r"""Gaussianization by a one-dimensional mixture of any symmetric, bell-shaped family.

For a mixture with CDF :math:`F` and density :math:`f`,

.. math:: z = \Phi^{-1}(F(x)), \qquad \log\left|\frac{dz}{dx}\right| = \log f(x) - \log\varphi(z).

No probability is clipped and none is rounded to 0 or 1. With :math:`u_k = (x-\mu_k)/\sigma_k`,
a component's density and the mass of its tail beyond :math:`x` are one *bump* :math:`b(u_k)`,
which holds the only exponential, times two slowly varying factors. All bumps are scaled by
the largest, and that scale cancels from the log-determinant where :math:`x` lies outside all
components, so it stays exact however far out :math:`x` is.

Inside this module the components lie on the first axis and batches on the last: loops then
run over contiguous elements whatever the width of the event.
"""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.normal import (
    CENTRAL_HALF_WIDTH,
    LOG_SQRT_2PI,
    SQRT_2PI,
    central_quantile,
    quantile_from_log_tail,
    scaled_tail,
)

# Up to this many components are written out one by one, which vectorises; more would
# compile too slowly and are reduced over an axis.
_UNROLLED_COMPONENTS = 12


class Family(NamedTuple):
    """A symmetric bell-shaped density of unit scale, split into bump and slow factors.

    Attributes:
        log_bump: The exponential part, log b(|u|).
        factors: Density / b and tail mass beyond |u| / b, at |u|.
        score: d log density / du.
        quantile: The standard quantile of Φ(z), for a normal score z.
    """

    log_bump: Callable[[Array], Array]
    factors: Callable[[Array], tuple[Array, Array]]
    score: Callable[[Array], Array]
    quantile: Callable[[Array], Array]


class Component(NamedTuple):
    """One component at x (or all of them, stacked), on the scale exp(shift)."""

    u: Array
    inverse_scale: Array
    weight: Array
    density: Array
    tail: Array  # mass beyond x, on the side of x where the component is not


class Evaluation(NamedTuple):
    """The mixture at x. Arrays have x's shape."""

    z: Array
    log_det: Array
    shift: Array
    total_density: Array  # on the scale exp(shift)
    log_beyond: Array  # log mass of the smaller tail
    scaled_beyond: Array  # the same mass on the scale exp(tail_shift)
    tail_shift: Array  # shift where x lies outside all components, else 0
    mills: Array  # mass of the smaller tail / φ(z)
    slope: Array  # f(x) / φ(z) = dz/dx
    components: tuple[Component, ...]


def evaluate(
    family: Family,
    x: Array,
    log_weights: Array,
    means: Array,
    log_scales: Array,
    *,
    fast: bool = True,
) -> Evaluation:
    """Evaluate a mixture whose components lie on the parameters' first axis.

    Without ``fast`` it runs slower and compiles sooner.
    """
    n_components = log_weights.shape[0]
    unrolled = fast and n_components <= _UNROLLED_COMPONENTS
    parts = range(n_components) if unrolled else (slice(None),)

    def total(values: list[Array]) -> Array:
        return sum(values[1:], start=values[0]) if unrolled else jnp.sum(values[0], axis=0)

    weights, inverse_scales = jnp.exp(log_weights), jnp.exp(-log_scales)
    us = [(x - means[k]) * inverse_scales[k] for k in parts]
    log_bumps = [log_weights[k] + family.log_bump(jnp.abs(u)) for k, u in zip(parts, us)]
    shift = log_bumps[0] if unrolled else jnp.max(log_bumps[0], axis=0)
    for log_bump in log_bumps[1:]:
        shift = jnp.maximum(shift, log_bump)
    # Held, or the compiler would find the largest anew for every component.
    shift = jax.lax.optimization_barrier(shift)

    components = []
    for k, u, log_bump in zip(parts, us, log_bumps):
        bump = jnp.exp(log_bump - shift)
        density_factor, tail_factor = family.factors(jnp.abs(u))
        components.append(
            Component(
                u=u,
                inverse_scale=inverse_scales[k],
                weight=weights[k],
                density=bump * density_factor * inverse_scales[k],
                tail=bump * tail_factor,
            )
        )
    total_density = total([c.density for c in components])
    total_tail = total([c.tail for c in components])
    signed_tail = total([jnp.where(c.u >= 0, c.tail, -c.tail) for c in components])
    above = total([jnp.where(c.u >= 0, 0.0, c.weight) for c in components])
    below = total([jnp.where(c.u >= 0, c.weight, 0.0) for c in components])
    return _assemble(
        shift, total_density, total_tail, signed_tail, above, below, tuple(components)
    )


def _assemble(
    shift: Array,
    total_density: Array,
    total_tail: Array,
    signed_tail: Array,
    above: Array,
    below: Array,
    components: tuple[Component, ...],
) -> Evaluation:
    """From sums over the components to z and its log-determinant."""
    signed_tail = signed_tail * jnp.exp(shift)
    outside = (above == 0) | (below == 0)
    centre = (0.5 * (below - above) - signed_tail) / (below + above)  # F(x) − ½
    # A tail that is not outside all components is a sum of positive parts on the plain scale.
    # `tiny` is reached only where the weight of the components beyond has itself underflowed.
    inside = jnp.minimum(above + signed_tail, below - signed_tail)
    beyond = jnp.maximum(jnp.where(outside, total_tail, inside), jnp.finfo(shift.dtype).tiny)
    tail_shift = jnp.where(outside, shift, 0.0)
    log_beyond = jnp.log(beyond) + tail_shift

    central = jnp.abs(centre) <= CENTRAL_HALF_WIDTH
    far = quantile_from_log_tail(jnp.where(central, -3.0, log_beyond))
    near = central_quantile(jnp.where(central, centre, 0.0))
    z = jnp.where(central, near, jnp.where(centre > 0, far, -far))
    # φ(z) = beyond / mills(|z|). In the tails it is written so, and no z²/2 meets another.
    mills = SQRT_2PI * scaled_tail(jnp.abs(z))
    log_det = jnp.where(
        central,
        jnp.log(total_density) + shift + (0.5 * z * z + LOG_SQRT_2PI),
        jnp.log(total_density * mills / beyond) + (shift - tail_shift),
    )
    return Evaluation(
        z=z,
        log_det=log_det,
        shift=shift,
        total_density=total_density,
        log_beyond=log_beyond,
        scaled_beyond=beyond,
        tail_shift=tail_shift,
        mills=mills,
        slope=jnp.exp(log_det),
        components=components,
    )


def partials(family: Family, at: Evaluation) -> Iterator[Array]:
    """The closed-form derivatives, three for each component, each of x's shape.

    They are its share of the density; that share times its score, d log density / dx; and
    dz / d log-weight, for weights that stay normalised. Component by component, because a
    stack would have to be transposed before it meets the batch again.
    """
    sign = jnp.where(at.z > 0, -1.0, 1.0)
    scale = jnp.exp(at.shift - at.tail_shift)
    for c in at.components:
        share = c.density / at.total_density
        # The mass of this component in the mixture's smaller tail, on that tail's scale.
        same_side = (c.u >= 0) == (at.z > 0)
        mass = jnp.where(same_side, c.tail * scale, c.weight - c.tail * scale)
        effect = sign * at.mills * (mass / at.scaled_beyond - c.weight)
        triple = (share, share * family.score(c.u) * c.inverse_scale, effect)
        if share.ndim == at.z.ndim:
            yield from triple
        else:
            yield from (part[k] for k in range(share.shape[0]) for part in triple)


def log_slope_derivative(family: Family, at: Evaluation) -> Array:
    """The derivative of log(dz/dx) in x, which is what bends the map."""
    scores = [c.density * family.score(c.u) * c.inverse_scale for c in at.components]
    if len(scores) == 1 and scores[0].ndim > at.z.ndim:
        scores = [jnp.sum(scores[0], axis=0)]
    return sum(scores[1:], start=scores[0]) / at.total_density + at.z * at.slope
