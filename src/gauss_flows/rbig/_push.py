"""Push rows through one layer, with the layer's own transform."""

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float

# Elements of x in one call: a mixture of 8 components then needs 64 MB an array in float64.
_MOST_ELEMENTS = 2**20


def push(
    layer: AbstractBijection,
    x: Float[Array, "n d"],
    condition: Float[Array, "n c"] | None = None,
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Transform every row, long tables in blocks of one size so that one compilation serves.

    Args:
        layer: The layer.
        x: Rows, shape (n, d).
        condition: Conditions of the rows, shape (n, c).

    Returns:
        z of shape (n, d) and the log-determinants in nats of shape (n,).
    """
    n, d = x.shape
    block = max(1, _MOST_ELEMENTS // d)
    if n <= block:
        return _transform(layer, x, condition)
    padding = ((0, -n % block), (0, 0))
    x = jnp.pad(x, padding, mode="edge")
    condition = None if condition is None else jnp.pad(condition, padding, mode="edge")
    parts = []
    for start in range(0, n, block):
        rows = slice(start, start + block)
        part = None if condition is None else condition[rows]
        parts.append(_transform(layer, x[rows], part))
    z, log_det = (jnp.concatenate(arrays)[:n] for arrays in zip(*parts, strict=True))
    return z, log_det


@eqx.filter_jit
def _transform(layer, x, condition):
    return jax.vmap(layer.transform_and_log_det)(x, condition)
