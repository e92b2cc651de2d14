r"""Gaussianization by one-dimensional Gaussian mixtures, exact in both tails.

For a mixture with CDF $F$ and density $f$,

$$z = \Phi^{-1}(F(x)), \qquad \log\left|\frac{dz}{dx}\right| = \log f(x) - \log\varphi(z).$$

No probability is clipped, and the smaller tail is always a sum of positive parts. As long as
every point's smaller tail is a number that is held, which is a matter of 9 standard deviations
in float32 and 20 in float64, the tails are plain probabilities and the backend's `erfc` gives
them (`_plain`). Where one is not, all are evaluated again on the scale of the nearest component
(`_scaled`).

Components lie on the first axis of the parameters, which broadcast against x: sums over a
leading axis are sums of whole arrays, the cheap kind on every backend.
"""

from typing import Any, NamedTuple

from keras import ops

from gaussianization.gauss_keras.numerics.normal import (
    CENTRAL_HALF_WIDTH,
    LOG_SQRT_2PI,
    POLISHES,
    SQRT_2PI,
    SQRT_HALF,
    at_least,
    at_most,
    dtype_of,
    largest_distance,
    quantile_from_log_tail,
    rough_quantile,
    scaled_tail,
)
from gaussianization.gauss_keras.numerics.tracing import choose

# The least probability that is taken as it is, and how far components' own tails are followed:
# beyond, they are beneath its rounding, and soon subnormal numbers, which are slow.
_LEAST_PLAIN = {"float32": 1e-21, "float64": 1e-96}
# In √2 standard deviations, and for densities in nats below the largest; powers of two.
_TAIL_REACH = {"float32": 8.0, "float64": 16.0}
_DENSITY_REACH = {"float32": 64.0, "float64": 512.0}
_TINY = {"float32": 1.1754943508222875e-38, "float64": 2.2250738585072014e-308}


class Evaluation(NamedTuple):
    """A mixture at x. Arrays of x's shape, and below them arrays with a first axis K more."""

    z: Any
    log_det: Any
    density: Any  # f(x) √(2π), up to a scale that `densities` share
    beyond: Any  # mass of the smaller tail, up to a scale that `tails` and `weights` share
    rate: Any  # |dz / d(mass of the smaller tail)| on that scale, 1/φ(z)
    u: Any  # (x − μ) / σ
    side: Any  # its sign
    inverse_scales: Any
    weights: Any
    densities: Any  # each component's part of the density
    tails: Any  # its mass beyond x, on the side of x where its centre is not


def evaluate(
    x: Any, log_weights: Any, means: Any, log_scales: Any, *, anywhere: bool = False
) -> Evaluation:
    """Evaluate mixtures at x, shape (...), with parameters (K, ...) and normalised log-weights.

    With ``anywhere`` the scaled formula is taken without looking: slower, but half the program.
    """
    inverse_scales = ops.exp(-log_scales)
    weights = ops.exp(log_weights)
    u = (x - means) * inverse_scales
    side = ops.sign(u)
    reach = _TAIL_REACH[dtype_of(x)]
    reduced = reach * ops.hard_tanh(u * (SQRT_HALF / reach))
    half_weights = 0.5 * weights
    sided = half_weights * side
    above = ops.sum(half_weights - sided, axis=0)  # weight of the components right of x
    below = ops.sum(half_weights + sided, axis=0)
    tails = half_weights * ops.erfc(ops.abs(reduced))
    signed = ops.sum(side * tails, axis=0)
    centre = 0.5 * (below - above) - signed  # F(x) − ½
    # Of a component beyond x at least half the weight remains: nothing cancels. If there is
    # none, its weight is exactly 0 and only the tails are left.
    beyond = ops.where(centre > 0, above + signed, below - signed)

    def plain() -> tuple[Any, ...]:
        return _plain(u, log_weights, inverse_scales, centre, beyond, tails)

    def scaled() -> tuple[Any, ...]:
        nobody = ops.logical_or(above == 0, below == 0)
        return _scaled(u, log_weights, inverse_scales, centre, beyond, tails, nobody)

    held = ops.all(beyond >= _LEAST_PLAIN[dtype_of(x)])
    parts = scaled() if anywhere else choose(held, plain, scaled)
    z, log_det, density, beyond, rate, densities, tails = parts
    return Evaluation(
        z, log_det, density, beyond, rate, u, side, inverse_scales, weights, densities, tails
    )


def _plain(u, log_weights, inverse_scales, centre, beyond, tails):
    densities, density, shift = _densities(u * u, log_weights, inverse_scales)
    half_mass = ops.abs(centre)
    central = half_mass <= CENTRAL_HALF_WIDTH
    z = rough_quantile(ops.log(beyond))
    for _ in range(POLISHES[dtype_of(u)]):
        reduced = SQRT_HALF * z
        missing = ops.where(
            central,
            half_mass - 0.5 * ops.erf(reduced),
            0.5 * ops.erfc(reduced) - beyond,
        )
        newton = SQRT_2PI * missing * ops.exp(reduced * reduced)
        z = z + newton / (1.0 - 0.5 * z * newton)  # Halley's step
    half_square = 0.5 * z * z
    # log φ(z) and log f are the same size in the tails, and neither is large.
    log_det = ops.log(density) + (shift + half_square)
    rate = SQRT_2PI * ops.exp(half_square)
    return z * ops.sign(centre), log_det, density, beyond, rate, densities, tails


def _scaled(u, log_weights, inverse_scales, centre, beyond, tails, nobody):
    distance = ops.abs(u)
    held = at_most(distance, largest_distance(u))
    densities, density, shift = _densities(held * held, log_weights, inverse_scales)
    # Outside all components, the tails on the scale of the nearest one; beside one, as they are.
    far = ops.logical_and(nobody, beyond < _LEAST_PLAIN[dtype_of(u)])
    tail_shift = ops.where(far, shift, ops.zeros_like(shift))
    scaled = ops.exp(log_weights - 0.5 * held * held - shift) * scaled_tail(distance)
    tails = ops.where(far, scaled, tails)
    # `tiny` is reached only where the weight of the components beyond has itself underflowed.
    tiny = _TINY[dtype_of(u)]
    beyond = at_least(ops.where(far, ops.sum(tails, axis=0), beyond), tiny)
    log_beyond = ops.log(beyond) + tail_shift

    # Near the median the plain formula has all digits; what it makes of the rest is not used.
    central = ops.abs(centre) <= CENTRAL_HALF_WIDTH
    middle = ops.where(central, beyond, ops.full_like(beyond, 0.25))
    near = _plain(u, log_weights, inverse_scales, centre, middle, tails)[0]
    z = quantile_from_log_tail(ops.where(central, ops.full_like(beyond, -3.0), log_beyond))
    z = ops.where(central, near, z * ops.sign(centre))
    mills = SQRT_2PI * scaled_tail(ops.abs(z))
    rate = mills / beyond
    # φ(z) = beyond / mills: so no z²/2 meets another of its size.
    log_det = ops.log(density) + ops.log(mills / beyond) - LOG_SQRT_2PI + (shift - tail_shift)
    return z, log_det, density, beyond, rate, densities, tails


def _densities(squares, log_weights, inverse_scales):
    """Each component's density and their sum, both on the scale e^shift / √(2π)."""
    reach = _DENSITY_REACH[dtype_of(squares)]
    log_bumps = log_weights * (1.0 / reach) - squares * (0.5 / reach)
    # Nothing depends on the scale, and a maximum's derivative looks for the largest by its value,
    # which it may miss where that is computed twice and rounded in two ways.
    shift = ops.stop_gradient(ops.max(log_bumps, axis=0))
    densities = ops.exp(reach * ops.hard_tanh(log_bumps - shift)) * inverse_scales
    return densities, ops.sum(densities, axis=0), reach * shift


class WeightEffect(NamedTuple):
    """Derivative of z in log-weights that stay normalised: ``own`` − weights · ``common``."""

    own: Any  # (K, ...)
    common: Any  # of z's shape


def weight_effect(at: Evaluation) -> WeightEffect:
    r"""How the components' weights act on z, in closed form, from what an evaluation left.

    The other derivatives are short: $\partial z / \partial x = e^{\mathrm{log\_det}}$, and a mean
    or a scale acts on z as $-1$ and $-(x - \mu_k)$ times the component's share of that.
    """
    sign = ops.sign(at.z)
    # A component's tail where it lies on the other side of x, and its weight less that on this.
    mass = 0.5 * at.weights * (sign - at.side) + at.side * at.tails
    return WeightEffect(own=mass * -at.rate, common=at.beyond * (-sign * at.rate))
