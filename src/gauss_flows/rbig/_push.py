"""Push rows through one layer, with the layer's own transform."""

import equinox as eqx
import jax
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float


@eqx.filter_jit
def push(
    layer: AbstractBijection,
    x: Float[Array, "n d"],
    condition: Float[Array, "n c"] | None = None,
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Transform every row; layers of one structure share a compilation.

    Args:
        layer: The layer.
        x: Rows, shape (n, d).
        condition: Conditions of the rows, shape (n, c).

    Returns:
        z of shape (n, d) and the log-determinants in nats of shape (n,).
    """
    return jax.vmap(layer.transform_and_log_det)(x, condition)
