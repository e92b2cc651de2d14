r"""One-dimensional logistic mixtures: the Gaussianizing map, its inverse, log-probabilities.

A component's CDF is $1/(1 + e^{-u})$ with $u = (x-\mu)/s$; ``log_scales`` holds
$\log s$. Shapes are those of `gauss_flows.numerics.gaussian_mixture`.
"""

import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.gaussianize import mixture_functions
from gauss_flows.numerics.mixture import Family
from gauss_flows.numerics.normal import largest_distance, scaled_tail


def _log_bump(distance: Array) -> Array:
    # As of the normal: the lowest log-density that can be held is left, and not a NaN.
    return -jnp.minimum(distance, largest_distance(distance.dtype) ** 2)


def _factors(distance: Array) -> tuple[Array, Array]:
    survivor = 1.0 / (1.0 + jnp.exp(-distance))
    return survivor * survivor, survivor


def _central_mass(distance: Array) -> Array:
    return 0.5 * jnp.tanh(0.5 * distance)


def _score(u: Array) -> Array:
    return -jnp.tanh(0.5 * u)


def _quantile(z: Array) -> Array:
    log_tail = -0.5 * z * z + jnp.log(scaled_tail(jnp.abs(z)))
    distance = jnp.log1p(-jnp.exp(log_tail)) - log_tail
    return jnp.sign(z) * distance


LOGISTIC = Family(
    log_bump=_log_bump,
    factors=_factors,
    central_distance=1.0,
    central_mass=_central_mass,
    score=_score,
    quantile=_quantile,
)

gaussianize, quantile, log_density, log_cdf, log_survival = mixture_functions(LOGISTIC)
