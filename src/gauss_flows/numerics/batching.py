"""How `jax.vmap` runs an elementwise mixture function: in which layout, how many rows at a time.

Layers see one event at a time and `jax.vmap` puts the batch first. For values the innermost
loop would then run over an event of two or three numbers, so a batch that shares its parameters
is moved to the last axis: the loop becomes long and contiguous, and the inverse can tabulate.
Derivatives, which leave an array for each component behind, keep the batch first, and long
batches go in blocks: on a CPU what a block needs stays in its cache, which makes twice the speed.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array

# Numbers in a block: components × coordinates × rows. On a CPU the dozen arrays of so many that
# an evaluation makes stay in its cache; elsewhere a block only bounds the memory.
_CPU_BLOCK = 2**16
_BLOCK = 2**24


def rows_last(
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


def rows_in_blocks(function: Callable) -> Callable:
    """Adapt a function of (x, *parameters) whose components lie on the last axis.

    Args:
        function: From x (...) and parameters (..., K) to a tree of arrays.

    Returns:
        The same function, jitted, and differentiable as it is. Under `jax.vmap` it sees a
        long batch a block of rows at a time.
    """
    compiled = jax.jit(function)

    @custom_vmap
    def evaluate(*arguments: Array):
        return compiled(*arguments)

    @evaluate.def_vmap
    def _(axis_size: int, in_batched: list[bool], *arguments: Array):
        out = _in_blocks(compiled, axis_size, in_batched, arguments)
        return out, jax.tree.map(lambda _: True, out)

    # A function with a batching rule of its own cannot be differentiated backwards.
    @jax.custom_jvp
    def differentiable(*arguments: Array):
        return evaluate(*arguments)

    @differentiable.defjvp
    def _(primals, tangents):
        return jax.jvp(compiled, primals, tangents)

    return differentiable


def _in_blocks(
    function: Callable, n_rows: int, in_batched: list[bool], arguments: tuple[Array, ...]
):
    """Map over the batched arguments' first axis, a block of rows at a time."""
    run = jax.vmap(function, [0 if batched else None for batched in in_batched])
    event_shapes = [
        jnp.shape(a)[1:] if batched else jnp.shape(a)
        for a, batched in zip(arguments, in_batched, strict=True)
    ]
    x_shape, *parameter_shapes = event_shapes
    numbers = math.prod(jnp.broadcast_shapes((*x_shape, 1), *parameter_shapes))
    most = (_CPU_BLOCK if jax.default_backend() == "cpu" else _BLOCK) // max(numbers, 1)
    if n_rows <= 2 * max(most, 1):
        return run(*arguments)
    # Blocks of equal size if a few more of them make it so: filling the last one costs copies.
    fewest = math.ceil(n_rows / max(most, 1))
    n_blocks = next((n for n in range(fewest, 2 * fewest) if n_rows % n == 0), fewest)
    size = math.ceil(n_rows / n_blocks)

    def blocks(a: Array) -> Array:
        missing = n_blocks * size - n_rows
        filled = jnp.pad(a, ((0, missing), *[(0, 0)] * (a.ndim - 1)), mode="edge") if missing else a
        return filled.reshape(n_blocks, size, *a.shape[1:])

    def one_block(rows: list[Array]):
        rest = iter(rows)
        return run(
            *(
                next(rest) if batched else a
                for a, batched in zip(arguments, in_batched, strict=True)
            )
        )

    out = jax.lax.map(
        one_block, [blocks(a) for a, b in zip(arguments, in_batched, strict=True) if b]
    )
    return jax.tree.map(lambda a: a.reshape(n_blocks * size, *a.shape[2:])[:n_rows], out)


def _with_rank(rows: Array, rank: int) -> Array:
    return rows.reshape(rows.shape[0], *[1] * (rank - rows.ndim), *rows.shape[1:])
