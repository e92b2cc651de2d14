"""Draws that several densities share."""

import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, Float, PRNGKeyArray


def interior_uniform(key: PRNGKeyArray, shape: tuple[int, ...]) -> Float[Array, "..."]:
    """Draw from [0, 1], a few units of rounding away from either end.

    A point that lies on the very edge of a bounded density leaves it when it is moved and scaled
    back and forth, and its log-density becomes −∞.

    Args:
        key: Random key.
        shape: Shape of what is drawn.

    Returns:
        The draws, in JAX's default precision.

    Example:
        >>> import jax.random as jr
        >>> from gauss_flows.datasets._random import interior_uniform
        >>> u = interior_uniform(jr.key(0), (1000,))
        >>> bool((u > 1e-6).all() and (u < 1 - 1e-6).all())
        True
    """
    u = jr.uniform(key, shape)
    margin = 16 * float(jnp.finfo(u.dtype).eps)
    return margin + (1 - 2 * margin) * u


def radius(x: Float[Array, "*n 2"]) -> Float[Array, "*n"]:
    """Distance from the origin, with derivative 0 there.

    Args:
        x: Points of shape (..., 2).

    Returns:
        Their distances, of shape (...).
    """
    squared = x[..., 0] ** 2 + x[..., 1] ** 2
    away = squared > 0
    return jnp.where(away, jnp.sqrt(jnp.where(away, squared, 1)), 0)
