r"""The far tails of the standard normal, without a clip.

Two functions carry every Gaussianizing layer: the *scaled tail*
$S(u) = \Phi(-u)\,e^{u^2/2}$, which never underflows, and the quantile of a tail
probability that is known by its logarithm only.
"""

import math

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

SQRT_2PI = math.sqrt(2.0 * math.pi)
LOG_SQRT_2PI = math.log(SQRT_2PI)

# S(u)·(1 + 2u) is smooth on the whole half-line once it is folded onto [-1, 1] by
# t = (u - c) / (u + c). Its Chebyshev series there falls off fast enough for the monomial
# coefficients below (lowest power first) to lose nothing. Computed to 60 digits.
_TAIL_CENTRE_32 = 4.0
_TAIL_SERIES_32 = (
    0.8496957627808341,
    -0.023008981360594205,
    -0.09637933272811865,
    0.1289029953198587,
    -0.09526826283891461,
    0.044393984568939095,
    -0.010478015037206191,
    -0.0012815346297951695,
    0.0015070891524399108,
    -6.42043438629464e-05,
    -0.0001349691881698407,
)
_TAIL_CENTRE_64 = 5.0
_TAIL_SERIES_64 = (
    0.8461123547250693,
    -0.03964700840401063,
    -0.05400807503407678,
    0.1008885820349847,
    -0.10065743821674249,
    0.07248782696469049,
    -0.03933220135646695,
    0.015422845816511039,
    -0.003571695418310675,
    -0.00011869447627339922,
    0.0004250957235954309,
    -0.00010817310187952196,
    -2.6436433138360857e-05,
    1.938094176782777e-05,
    5.339401905384381e-07,
    -2.8432478702964835e-06,
    1.793568383842644e-07,
    4.150775490294876e-07,
    -4.228973882271319e-08,
    -5.604345079839946e-08,
    5.8428190572683666e-09,
    4.839414424229282e-09,
    -4.3860591195798053e-10,
)

# (Φ(u) − ½)/u in powers of u², from its Chebyshev series on |u| ≤ 0.75, computed to 60 digits.
CENTRAL_DISTANCE = 0.75
_MASS_SERIES_32 = (
    0.39894227946925687,
    -0.06649029684310401,
    0.009972365569550858,
    -0.0011813320428436043,
    0.00010298218141056098,
)
_MASS_SERIES_64 = (
    0.39894228040143265,
    -0.0664903800669042,
    0.009973557009976777,
    -0.001187328214400279,
    0.00011543467770841234,
    -9.444605145090108e-06,
    6.658140990545516e-07,
    -4.09505997494405e-08,
    2.0058021027382326e-09,
)

# Wichura's rational approximations, algorithm AS 241, PPND16: numerators, then denominators.
_CENTRE = (
    (
        3.3871328727963666080e0,
        1.3314166789178437745e2,
        1.9715909503065514427e3,
        1.3731693765509461125e4,
        4.5921953931549871457e4,
        6.7265770927008700853e4,
        3.3430575583588128105e4,
        2.5090809287301226727e3,
    ),
    (
        1.0,
        4.2313330701600911252e1,
        6.8718700749205790830e2,
        5.3941960214247511077e3,
        2.1213794301586595867e4,
        3.9307895800092710610e4,
        2.8729085735721942674e4,
        5.2264952788528545610e3,
    ),
)
_MIDDLE = (
    (
        1.42343711074968357734e0,
        4.63033784615654529590e0,
        5.76949722146069140550e0,
        3.64784832476320460504e0,
        1.27045825245236838258e0,
        2.41780725177450611770e-1,
        2.27238449892691845833e-2,
        7.74545014278341407640e-4,
    ),
    (
        1.0,
        2.05319162663775882187e0,
        1.67638483018380384940e0,
        6.89767334985100004550e-1,
        1.48103976427480074590e-1,
        1.51986665636164571966e-2,
        5.47593808499534494600e-4,
        1.05075007164441684324e-9,
    ),
)
_OUTER = (
    (
        6.65790464350110377720e0,
        5.46378491116411436990e0,
        1.78482653991729133580e0,
        2.96560571828504891230e-1,
        2.65321895265761230930e-2,
        1.24266094738807843860e-3,
        2.71155556874348757815e-5,
        2.01033439929228813265e-7,
    ),
    (
        1.0,
        5.99832206555887937690e-1,
        1.36929880922735805310e-1,
        1.48753612908506148525e-2,
        7.86869131145613259100e-4,
        1.84631831751005468180e-5,
        1.42151175831644588870e-7,
        2.04426310338993978564e-15,
    ),
)
# The same algorithm's shorter PPND7 set, exact to about one part in 10⁷.
_CENTRE_32 = (
    (3.3871327179e0, 5.0434271938e1, 1.5929113202e2, 5.9109374720e1),
    (1.0, 1.7895169469e1, 7.8757757664e1, 6.7187563600e1),
)
_MIDDLE_32 = (
    (1.4234372777e0, 2.7568153900e0, 1.3067284816e0, 1.7023821103e-1),
    (1.0, 7.3700164250e-1, 1.2021132975e-1),
)
_OUTER_32 = (
    (6.6579051150e0, 3.0812263860e0, 4.2868294337e-1, 1.7337203997e-2),
    (1.0, 2.4197894225e-1, 1.2258202635e-2),
)
CENTRAL_HALF_WIDTH = 0.425
_AS241_LIMIT = 27.0  # r = √(−log p): z ≈ 38


def polynomial(coefficients: tuple[float, ...], x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Evaluate a polynomial, lowest power first, by Horner's rule in the dtype of ``x``."""
    total = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        total = total * x + coefficient
    return total


def _ratio(fraction: tuple[tuple[float, ...], ...], x: Array) -> Array:
    return polynomial(fraction[0], x) / polynomial(fraction[1], x)


def largest_distance(dtype: np.dtype) -> float:
    """The distance up to which squares, and so log-densities, are held: 2⁶⁰ in float32."""
    return 2.0 ** (int(np.finfo(dtype).maxexp) // 2 - 4)


def scaled_tail(u: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""The normal's tail with its exponential taken out.

    $$S(u) = \Phi(-u)\,e^{u^2/2} = \tfrac12\,\mathrm{erfcx}(u/\sqrt2), \quad u \ge 0.$$

    Args:
        u: Distances from the centre, in standard deviations, none negative. Any shape.

    Returns:
        ``S(u)``, of the same shape: ½ at 0, falling as 1/(u√2π) to `largest_distance`, and no
        further. Relative error below 2e-15 in float64 and 4e-7 in float32.

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows.numerics.normal import scaled_tail
        >>> round(float(scaled_tail(jnp.array(0.0))), 5)
        0.5
    """
    single = u.dtype != jnp.float64
    centre = _TAIL_CENTRE_32 if single else _TAIL_CENTRE_64
    series = _TAIL_SERIES_32 if single else _TAIL_SERIES_64
    u = jnp.minimum(u, largest_distance(u.dtype))
    # One division serves both the folding and the 1/(1 + 2u).
    shifted, slope = u + centre, 1.0 + 2.0 * u
    inverse = 1.0 / (shifted * slope)
    return polynomial(series, (u - centre) * slope * inverse) * shifted * inverse


def central_mass(u: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""The normal's mass between its centre and a point close to it.

    $$\Phi(u) - \tfrac12, \quad |u| \le 0.75,$$

    which as ½ − Φ(−u) would have lost its digits.

    Args:
        u: Distances from the centre, in standard deviations. Any shape.

    Returns:
        The mass, with the sign of ``u``, of the same shape and exact to a few units in the last
        place.

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows.numerics.normal import central_mass
        >>> print(f"{central_mass(jnp.array(1e-30)):.4e}")
        3.9894e-31
    """
    series = _MASS_SERIES_32 if u.dtype != jnp.float64 else _MASS_SERIES_64
    return u * polynomial(series, u * u)


def central_quantile(q: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""The normal quantile near the median, $\Phi^{-1}(\tfrac12 + q)$, for \|q\| ≤ 0.425.

    Args:
        q: Probability less one half. Any shape.

    Returns:
        The quantile, of the same shape, exact to a few units in the last place.

    References:
        Wichura (1988), *Algorithm AS 241: the percentage points of the normal distribution*.
    """
    fraction = _CENTRE if q.dtype == jnp.float64 else _CENTRE_32
    return q * _ratio(fraction, CENTRAL_HALF_WIDTH**2 - q * q)


def quantile_from_log_tail(log_p: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""The distance at which the normal's tail has a given log-probability.

    Solves $\log\Phi(-z) = \log p$ for $z$.

    Args:
        log_p: Log-probability of one tail, at most log 0.075 ≈ −2.6 (nearer the median use
            `central_quantile`). Any shape.

    Returns:
        ``z``, of the same shape and not negative, for any finite ``log_p``.

    References:
        Wichura (1988), *Algorithm AS 241: the percentage points of the normal distribution*.
        It works on r = √(−log p) already and holds to r = 27; the asymptotic series of the
        tail takes over there.
    """
    double = log_p.dtype == jnp.float64
    middle, outer = (_MIDDLE, _OUTER) if double else (_MIDDLE_32, _OUTER_32)
    r = jnp.sqrt(-log_p)
    near = jnp.minimum(r, _AS241_LIMIT)
    z = jnp.where(near <= 5.0, _ratio(middle, near - 1.6), _ratio(outer, near - 5.0))
    return jnp.where(r <= _AS241_LIMIT, z, _far_quantile(r))


def _far_quantile(r: Array) -> Array:
    # y = z² solves y + log(2πy) + 2(1/y - 5/(2y²) + 37/(3y³) - …) = 2r². Out there the
    # logarithm is log(4πr²) and a few terms of a small relative change ε: one log serves.
    w = 2.0 * jnp.maximum(r, _AS241_LIMIT) ** 2
    log_term = jnp.log(2.0 * math.pi * w)
    y = w - log_term
    for _ in range(3 if r.dtype == jnp.float64 else 1):
        epsilon = (w - y) / w
        log_change = -epsilon * (
            1.0 + epsilon * (1 / 2 + epsilon * (1 / 3 + epsilon * (1 / 4 + epsilon / 5)))
        )
        inverse = 1.0 / y
        tail = 1.0 - inverse * (5 / 2 - inverse * (37 / 3 - inverse * 353 / 4))
        y = w - log_term - log_change - 2.0 * inverse * tail
    return jnp.sqrt(y)


def standard_normal_log_density(z: Float[Array, "..."]) -> Float[Array, "..."]:
    r"""The standard normal log-density $-z^2/2 - \log\sqrt{2\pi}$, in nats."""
    return -0.5 * z * z - LOG_SQRT_2PI


def machine_epsilon(x: Array) -> float:
    """The spacing of floating-point numbers at 1 in the dtype of ``x``."""
    return float(np.finfo(x.dtype).eps)


__all__ = [
    "CENTRAL_DISTANCE",
    "CENTRAL_HALF_WIDTH",
    "LOG_SQRT_2PI",
    "SQRT_2PI",
    "central_mass",
    "central_quantile",
    "largest_distance",
    "machine_epsilon",
    "polynomial",
    "quantile_from_log_tail",
    "scaled_tail",
    "standard_normal_log_density",
]
