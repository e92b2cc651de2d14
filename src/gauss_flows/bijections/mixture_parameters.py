r"""How a layer's raw parameters become a mixture.

A layer owns a fixed *base mixture* close to N(0, 1) whose components all differ, and its raw
parameters (free ones, or a conditioner's output) are added to it. At zero the layer is near
the identity and no two components receive the same gradient, so they can separate: equal
components never do. One base component keeps unit scale and is the widest, so that the
map's outer slope is 1 and a deep stack of such layers leaves outliers where they are.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from gaussianization.marginals import GAIN, base_mixture


class Mixture(NamedTuple):
    """Mixtures over the last axis: normalised log-weights, means, log-scales, each (..., K)."""

    log_weights: Float[Array, "... K"]
    means: Float[Array, "... K"]
    log_scales: Float[Array, "... K"]


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
