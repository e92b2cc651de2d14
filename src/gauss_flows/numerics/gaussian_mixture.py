r"""One-dimensional Gaussian mixtures: the Gaussianizing map, its inverse, log-probabilities.

Shapes, throughout: ``x`` and ``z`` (...), ``log_weights``, ``means`` and ``log_scales`` (..., K)
whose leading axes broadcast against ``x``; the log-weights are normalised over K.
"""

import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.gaussianize import mixture_functions
from gauss_flows.numerics.mixture import Family
from gauss_flows.numerics.normal import (
    CENTRAL_DISTANCE,
    SQRT_2PI,
    central_mass,
    largest_distance,
    scaled_tail,
)


def _factors(distance: Array) -> tuple[Array, Array]:
    return jnp.full_like(distance, 1.0 / SQRT_2PI), scaled_tail(distance)


def _log_bump(distance: Array) -> Array:
    # Beyond, the log-density could not be held: the lowest that can is left, and not a NaN.
    distance = jnp.minimum(distance, largest_distance(distance.dtype))
    return -0.5 * distance * distance


def _score(u: Array) -> Array:
    return -u


def _quantile(z: Array) -> Array:
    return z


GAUSSIAN = Family(
    log_bump=_log_bump,
    factors=_factors,
    central_distance=CENTRAL_DISTANCE,
    central_mass=central_mass,
    score=_score,
    quantile=_quantile,
)

gaussianize, quantile, log_density, log_cdf, log_survival = mixture_functions(GAUSSIAN)
