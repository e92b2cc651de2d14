r"""How a layer's raw parameters become a mixture.

A layer owns a fixed *base mixture* close to N(0, 1) whose components all differ, and its raw
parameters (free ones, or a conditioner's output) are added to it. At zero the layer is near
the identity and no two components receive the same gradient, so they can separate: equal
components never do. One base component keeps unit scale and is the widest, so that the
map's outer slope is 1 and a deep stack of such layers leaves outliers where they are.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import ndtri

# How far one unit of a raw parameter moves the mixture. Adam's step is about the learning
# rate per parameter, so this sets what a given rate does.
GAIN = 4.0

_SPREAD = 0.9
_UNIT_WEIGHT = 0.15


class Mixture(NamedTuple):
    """Mixtures over the last axis: normalised log-weights, means, log-scales, each (..., K)."""

    log_weights: Float[Array, "... K"]
    means: Float[Array, "... K"]
    log_scales: Float[Array, "... K"]


@lru_cache
def base_mixture(n_components: int) -> np.ndarray:
    """The base mixture as a float64 array (3, K): log-weights, means, log-scales.

    Its mean is 0 and its variance 1 for every K.
    """
    if n_components == 1:
        return np.zeros((3, 1))
    if n_components == 2:
        # One narrower component beside the unit one, balanced about zero.
        offset = 0.3
        scales = np.array([math.sqrt(1.0 - 2.0 * offset**2), 1.0])
        return np.stack([np.log([0.5, 0.5]), np.array([offset, -offset]), np.log(scales)])
    n_spread = n_components - 1
    means = _SPREAD * ndtri((np.arange(n_spread) + 0.5) / n_spread)
    scale = math.sqrt(1.0 - np.mean(means**2))
    log_weights = np.log(np.r_[np.full(n_spread, (1.0 - _UNIT_WEIGHT) / n_spread), _UNIT_WEIGHT])
    log_scales = np.log(np.r_[np.full(n_spread, scale), 1.0])
    return np.stack([log_weights, np.r_[means, 0.0], log_scales])


def unpack(raw: Float[Array, "... 3 K"]) -> Mixture:
    """The mixture that raw parameters stand for.

    Args:
        raw: Deviations from the base mixture: logits, means, log-scales. Zero is the base.

    Returns:
        The mixture, each field (..., K).
    """
    moved = jnp.asarray(base_mixture(raw.shape[-1]), raw.dtype) + GAIN * raw
    return Mixture(
        log_weights=jax.nn.log_softmax(moved[..., 0, :], axis=-1),
        means=moved[..., 1, :],
        log_scales=moved[..., 2, :],
    )


def pack(
    log_weights: Float[Array, "... K"],
    means: Float[Array, "... K"],
    log_scales: Float[Array, "... K"],
) -> Float[Array, "... 3 K"]:
    """The raw parameters of a given mixture, such that `unpack` returns it."""
    stacked = jnp.stack([log_weights, means, log_scales], axis=-2)
    base = jnp.asarray(base_mixture(stacked.shape[-1]), stacked.dtype)
    return (stacked - base) / GAIN
