r"""Gaussianization by a one-dimensional mixture of any symmetric, bell-shaped family.

For a mixture with CDF $F$ and density $f$,

$$z = \Phi^{-1}(F(x)), \qquad \log\left|\frac{dz}{dx}\right| = \log f(x) - \log\varphi(z).$$

No probability is clipped and none is rounded to 0 or 1. With $u_k = (x-\mu_k)/\sigma_k$,
a component's density and the mass of its tail beyond $x$ are one *bump* $b(u_k)$,
which holds the only exponential, times two slowly varying factors. All bumps are scaled by
the largest, and that scale cancels from the log-determinant where $x$ lies outside all
components, so it stays exact however far out $x$ is.

There are two ways through the components. `evaluate` reduces over a last axis: it compiles
quickly and leaves each component's part behind, which is what derivatives need. `evaluate_fast`
takes the components one by one, which vectorises over x, for values alone.
"""

import functools
from collections.abc import Callable
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

# More would compile too slowly.
_MOST_WRITTEN_OUT = 12


class Family(NamedTuple):
    """A symmetric bell-shaped density of unit scale, split into bump and slow factors.

    Attributes:
        log_bump: The exponential part, log b(|u|).
        factors: Density / b and tail mass beyond |u| / b, at |u|.
        central_distance: Up to which |u| ½ less the tail is too inexact, and `central_mass` used.
        central_mass: Mass between the centre and |u|.
        score: d log density / du.
        quantile: The standard quantile of Φ(z), for a normal score z.
    """

    log_bump: Callable[[Array], Array]
    factors: Callable[[Array], tuple[Array, Array]]
    central_distance: float
    central_mass: Callable[[Array], Array]
    score: Callable[[Array], Array]
    quantile: Callable[[Array], Array]


class Components(NamedTuple):
    """The components at x, on the scale exp(shift); each (..., K)."""

    u: Array
    inverse_scale: Array
    weight: Array
    density: Array
    tail: Array  # mass beyond x, on the side of x where the component is not


class Evaluation(NamedTuple):
    """The mixture at x. Arrays have x's shape."""

    z: Array
    log_det: Array
    slope: Array  # f(x) / φ(z) = dz/dx
    shift: Array
    total_density: Array  # on the scale exp(shift)
    log_beyond: Array  # log mass of the smaller tail
    scaled_beyond: Array  # the same mass on the scale exp(tail_shift)
    tail_shift: Array  # shift where x lies outside all components, else 0
    mills: Array  # mass of the smaller tail / φ(z)
    total_score: Array  # d log f / dx


class _Sums(NamedTuple):
    """Sums over the components, each of x's shape."""

    density: Array
    score: Array  # Σ density · d log density / dx
    signed_tail: Array  # tails of components left of x, less those right of it
    centre: Array  # mass between their centres and x, less that between x and the others'
    above: Array  # weight of the components right of x
    below: Array


def evaluate(
    family: Family, x: Array, log_weights: Array, means: Array, log_scales: Array
) -> tuple[Evaluation, Components]:
    """Evaluate a mixture whose components lie on the parameters' last axis."""
    inverse_scale = jnp.exp(-log_scales)
    u = (x[..., None] - means) * inverse_scale
    log_bump = log_weights + family.log_bump(jnp.abs(u))
    # Of all the components' bumps the largest; of a point that is not finite, none. Nothing depends
    # on the scale, so it may be held. JAX's derivative of a maximum looks for the largest by its
    # value, which code that computes it twice may round in two ways: it finds none, and gives NaN.
    largest = jax.lax.stop_gradient(jnp.max(log_bump, axis=-1))
    shift = jnp.where(jnp.isfinite(x), largest, jnp.nan)
    components = _component(
        family, u, log_bump - shift[..., None], jnp.exp(log_weights), inverse_scale
    )
    scale = jnp.exp(shift)[..., None]
    sums = _Sums(*(jnp.sum(part, axis=-1) for part in _summands(family, components, scale)))
    return _assemble(shift, sums), components


def evaluate_fast(
    family: Family, x: Array, log_weights: Array, means: Array, log_scales: Array
) -> Evaluation:
    """The same for components on the parameters' first axis, without their parts."""
    n_components, on_cpu = log_weights.shape[0], jax.default_backend() == "cpu"
    # Off a CPU, launching a component's part costs more than its work.
    if not on_cpu and n_components > _MOST_WRITTEN_OUT:
        last = [jnp.moveaxis(p, 0, -1) for p in (log_weights, means, log_scales)]
        return evaluate(family, x, *last)[0]
    loop = functools.partial(jax.lax.fori_loop, 0, n_components, unroll=not on_cpu)
    weights, inverse_scales = jnp.exp(log_weights), jnp.exp(-log_scales)
    dtype = jnp.result_type(x, log_weights, means, log_scales)
    zero = jnp.zeros(jnp.broadcast_shapes(x.shape, means.shape[1:]), dtype)

    def bump(k: Array) -> tuple[Array, Array]:
        u = (x - means[k]) * inverse_scales[k]
        return u, log_weights[k] + family.log_bump(jnp.abs(u))

    largest = loop(lambda k, most: jnp.maximum(most, bump(k)[1]), zero - jnp.inf)
    # Held, or the compiler would find the largest anew for every component written out.
    shift = jax.lax.optimization_barrier(jnp.where(jnp.isfinite(x), largest, jnp.nan))
    scale = jnp.exp(shift)

    def add(k: Array, sums: _Sums) -> _Sums:
        u, log_bump = bump(k)
        weight = jnp.broadcast_to(weights[k], u.shape)
        component = _component(family, u, log_bump - shift, weight, inverse_scales[k])
        return jax.tree.map(jnp.add, sums, _summands(family, component, scale))

    return _assemble(shift, loop(add, _Sums(*[zero] * len(_Sums._fields))))


def _component(
    family: Family, u: Array, log_bump: Array, weight: Array, inverse_scale: Array
) -> Components:
    bump = jnp.exp(log_bump)
    density_factor, tail_factor = family.factors(jnp.abs(u))
    return Components(
        u=u,
        inverse_scale=inverse_scale,
        weight=weight,
        density=bump * density_factor * inverse_scale,
        tail=bump * tail_factor,
    )


def _summands(family: Family, at: Components, scale: Array) -> _Sums:
    right = at.u >= 0  # x lies right of the component
    right_f = right.astype(at.u.dtype)
    distance = jnp.abs(at.u)
    # Between x and the centre. Close to it ½ and the tail would cancel.
    near = at.weight * family.central_mass(jnp.minimum(distance, family.central_distance))
    far = 0.5 * at.weight - at.tail * scale
    half = jnp.where(distance <= family.central_distance, near, far)
    return _Sums(
        density=at.density,
        score=at.density * family.score(at.u) * at.inverse_scale,
        signed_tail=jnp.where(right, at.tail, -at.tail),
        centre=jnp.where(right, half, -half),
        above=at.weight * (1.0 - right_f),
        below=at.weight * right_f,
    )


def _assemble(shift: Array, sums: _Sums) -> Evaluation:
    """From sums over the components to z and its log-determinant."""
    above, below, total_density = sums.above, sums.below, sums.density
    signed_tail = sums.signed_tail * jnp.exp(shift)
    outside = (above == 0) | (below == 0)
    centre = sums.centre / (below + above)  # F(x) − ½
    # A tail that is not outside all components is a sum of positive parts on the plain scale.
    # `tiny` is reached only where the weight of the components beyond has itself underflowed.
    inside = jnp.minimum(above + signed_tail, below - signed_tail)
    # Outside of them all, the tails have one sign.
    beyond = jnp.where(outside, jnp.abs(sums.signed_tail), inside)
    beyond = jnp.maximum(beyond, jnp.finfo(shift.dtype).tiny)
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
        slope=jnp.exp(log_det),
        shift=shift,
        total_density=total_density,
        log_beyond=log_beyond,
        scaled_beyond=beyond,
        tail_shift=tail_shift,
        mills=mills,
        total_score=sums.score / total_density,
    )


class Partials(NamedTuple):
    """Derivatives of z and log f, component by component, each (..., K)."""

    share: Array  # share of the density
    share_score: Array  # share · d log density / dx
    weight_effect: Array  # dz / d log-weight, for weights that stay normalised


def partials(family: Family, at: Evaluation, components: Components) -> Partials:
    """The closed-form derivatives, from what an evaluation left."""
    share = components.density * (1.0 / at.total_density)[..., None]
    # The mass of each component in the mixture's smaller tail, on that tail's scale.
    same_side = (components.u >= 0) == (at.z > 0)[..., None]
    near = components.tail * jnp.exp(at.shift - at.tail_shift)[..., None]
    mass = jnp.where(same_side, near, components.weight - near)
    signed_mills = jnp.where(at.z > 0, -at.mills, at.mills)
    tail_share = mass * (signed_mills / at.scaled_beyond)[..., None]
    return Partials(
        share=share,
        share_score=share * family.score(components.u) * components.inverse_scale,
        weight_effect=tail_share - components.weight * signed_mills[..., None],
    )
