"""Run an elementwise mixture function with the batch on the last axis under `jax.vmap`.

Layers see one event at a time and `jax.vmap` puts the batch first, so the innermost loop
would run over an event of two or three numbers. Moving the batch to the last axis makes it
contiguous: three times as fast at two dimensions.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array


def batch_last(
    function: Callable[..., tuple[tuple[Array, ...], tuple[Array, ...]]],
) -> Callable[..., tuple[tuple[Array, ...], tuple[Array, ...]]]:
    """Adapt a function of (x, *parameters) whose components lie on the first axis.

    Args:
        function: From x (...) and parameters (K, ...) to two tuples: arrays (...) and arrays
            (K, ...).

    Returns:
        The same function with the components on the last axis, jitted, that evaluates a
        vmapped batch on the last axis.
    """

    # Jitted by itself so that a loop inside compiles once for eager callers too.
    compiled = jax.jit(function)

    def first_to_last(x: Array, *parameters: Array):
        values, per_component = compiled(x, *(jnp.moveaxis(p, -1, 0) for p in parameters))
        return values, tuple(jnp.moveaxis(c, 0, -1) for c in per_component)

    evaluate = custom_vmap(first_to_last)

    @evaluate.def_vmap
    def _(axis_size: int, in_batched: list[bool], x: Array, *parameters: Array):
        del axis_size
        if not any(in_batched):
            out = first_to_last(x, *parameters)
            return out, jax.tree.map(lambda _: False, out)
        x = jnp.moveaxis(x, 0, -1) if in_batched[0] else x[..., None]
        moved = [
            jnp.moveaxis(p, (-1, 0), (0, -1)) if batched else jnp.moveaxis(p, -1, 0)[..., None]
            for p, batched in zip(parameters, in_batched[1:], strict=True)
        ]
        values, per_component = compiled(x, *moved)
        values = tuple(jnp.moveaxis(v, -1, 0) for v in values)
        per_component = tuple(jnp.moveaxis(c, (0, -1), (-1, 0)) for c in per_component)
        out = (values, per_component)
        return out, jax.tree.map(lambda _: True, out)

    return evaluate
