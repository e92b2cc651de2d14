"""Choose the memory layout in which `jax.vmap` runs an elementwise mixture function.

Layers see one event at a time and `jax.vmap` puts the batch first, so the innermost loop
would run over an event of two or three numbers. Where a batch shares its parameters, it is
moved to the last axis: the loop becomes long and contiguous, and the inverse can tabulate.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array


def vmappable(
    function: Callable[..., tuple[Array, ...]],
) -> Callable[..., tuple[Array, ...]]:
    """Adapt a function of (x, *parameters) whose components lie on the first axis.

    Args:
        function: From x (...) and parameters (K, ...) to a tuple of arrays (...).

    Returns:
        The same function with the components on the last axis, jitted. Under `jax.vmap` it is
        given x (..., n_rows) and parameters (K, ..., 1) where the rows share parameters.
    """
    # Jitted by itself so that a loop inside compiles once for eager callers too.
    compiled = jax.jit(function)

    @custom_vmap
    def evaluate(x: Array, *parameters: Array):
        return compiled(x, *(jnp.moveaxis(p, -1, 0) for p in parameters))

    @evaluate.def_vmap
    def _(axis_size: int, in_batched: list[bool], x: Array, *parameters: Array):
        del axis_size
        if not any(in_batched):
            out = compiled(x, *(jnp.moveaxis(p, -1, 0) for p in parameters))
            return out, (False,) * len(out)
        # Without the barriers the compiler fuses parameters into every component that reads
        # them, and the result into every reader, and computes both many times.
        if not any(in_batched[1:]):
            shared = [jnp.moveaxis(p, -1, 0)[..., None] for p in parameters]
            out = jax.lax.optimization_barrier(compiled(jnp.moveaxis(x, 0, -1), *shared))
            out = tuple(jnp.moveaxis(value, -1, 0) for value in out)
        else:
            # Parameters of every row's own are read once each: no layout pays for a copy.
            rows = [
                a if batched else a[None]
                for a, batched in zip((x, *parameters), in_batched, strict=True)
            ]
            # The rows' axis stays in front of every event axis, however many each has.
            rank = max(rows[0].ndim, *(p.ndim - 1 for p in rows[1:]))
            x = _with_rank(rows[0], rank)
            own = [jnp.moveaxis(_with_rank(p, rank + 1), -1, 0) for p in rows[1:]]
            out = compiled(x, *jax.lax.optimization_barrier(own))
            out = jax.lax.optimization_barrier(out)
        return out, (True,) * len(out)

    return evaluate


def _with_rank(rows: Array, rank: int) -> Array:
    return rows.reshape(rows.shape[0], *[1] * (rank - rows.ndim), *rows.shape[1:])
