"""From a flow family's fresh flow to the flow that stands for a posterior."""

import math
from collections.abc import Mapping
from typing import Literal

import equinox as eqx
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection, Chain, Invert
from flowjax.distributions import AbstractTransformed, Transformed
from jaxtyping import Array, Float

from gauss_flows.bijections import ActNorm, LULinearPermute

Sampling = Literal["analytic", "inverse"]


def posterior_flow(
    flow: AbstractTransformed,
    loc: Float[Array, " n_dims"],
    scale: float,
    sampling: Sampling,
) -> Transformed:
    r"""The flow, run in the direction asked for, then a trainable affine map.

    $$x = m + e^{s} \odot L U\, T(\varepsilon), \qquad \varepsilon \sim N(0, I).$$

    A flow of this library is written for data: its layers take x to z, and drawing inverts them.
    Where one only draws, the layers may as well run from the latent to x, and no draw needs a
    root find.

    Args:
        flow: A fresh flow of this library, near the identity.
        loc: The start of m, of shape (n_dims,).
        scale: The start of eˢ.
        sampling: ``"analytic"``: T is the layers, read from the latent to x. ``"inverse"``: T is
            the inverse of the layers, as in the flow given.

    Returns:
        The flow. Its density, not its draws, needs the root find when ``"analytic"``.
    """
    n_dims = loc.shape[0]
    norm = eqx.tree_at(
        lambda layer: (layer.loc, layer.log_scale),
        ActNorm(n_dims),
        (jnp.asarray(loc, float), jnp.full(n_dims, jnp.log(scale), float)),
    )
    linear = LULinearPermute.from_matrix(jnp.eye(n_dims))
    if sampling == "analytic":
        bijection: AbstractBijection = Chain([_layers(flow), linear, Invert(norm)])
    else:
        bijection = Invert(Chain([norm, linear, _layers(flow)]))
    return Transformed(flow.base_dist, bijection)


def _layers(flow: AbstractTransformed) -> AbstractBijection:
    """The layers from data to latent."""
    bijection = flow.bijection
    return bijection.bijection if isinstance(bijection, Invert) else Invert(bijection)


def check_flow(flow: object, latent_shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse what cannot stand for a posterior of these latents.

    Args:
        flow: What should be a flow.
        latent_shapes: The unconstrained shape of every latent, by name.

    Raises:
        ValueError: If it is no flow, is conditional, or has another number of coordinates than
            the latents together.
    """
    if not isinstance(flow, AbstractTransformed):
        raise ValueError(f"Expected a flow; got {type(flow).__name__}.")
    if flow.cond_shape is not None:
        raise ValueError(
            f"Expected a flow without a condition; got one of shape {flow.cond_shape}."
        )
    n_dims = sum(math.prod(shape) for shape in latent_shapes.values())
    if flow.shape != (n_dims,):
        sites = ", ".join(f"{name} {shape}" for name, shape in latent_shapes.items())
        raise ValueError(
            f"Expected a flow of shape ({n_dims},), for the model's latents, unconstrained: "
            f"{sites}; got shape {flow.shape}."
        )
