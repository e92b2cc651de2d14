"""Run an elementwise mixture function with the batch on the last axis under `jax.vmap`.

Layers see one event at a time and `jax.vmap` puts the batch first, so the innermost loop
would run over an event of two or three numbers. Where a batch shares its parameters, moving
it to the last axis makes that loop long and contiguous, and lets the inverse tabulate.
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
        The same function with the components on the last axis, jitted. Under `jax.vmap` it is
        given x (..., n_rows) and parameters (K, ..., 1) where the rows share parameters.
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
        if any(in_batched[1:]):
            # Parameters of every row's own are read once each: no layout pays for a copy.
            x = x if in_batched[0] else x[None]
            own = [
                p if batched else p[None]
                for p, batched in zip(parameters, in_batched[1:], strict=True)
            ]
            # Fused into their producer they would be computed anew for every component.
            out = first_to_last(x, *jax.lax.optimization_barrier(own))
        else:
            shared = [jnp.moveaxis(p, -1, 0)[..., None] for p in parameters]
            values, per_component = compiled(jnp.moveaxis(x, 0, -1), *shared)
            out = (
                tuple(jnp.moveaxis(v, -1, 0) for v in values),
                tuple(jnp.moveaxis(c, (0, -1), (-1, 0)) for c in per_component),
            )
        out = jax.lax.optimization_barrier(out)  # nor is the result for each of its readers
        return out, jax.tree.map(lambda _: True, out)

    return evaluate
