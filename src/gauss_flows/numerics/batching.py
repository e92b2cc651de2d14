"""How `jax.vmap` runs an elementwise mixture function: in which layout, how many rows at a time.

Layers see one event at a time and `jax.vmap` puts the batch first. For values the innermost
loop would then run over an event of two or three numbers, so a batch that shares its parameters
is moved to the last axis: the loop becomes long and contiguous, and the inverse can tabulate.
Derivatives leave an array for each component behind, and keep the batch first; there, narrow
rows are taken several together, and long batches go in blocks: on a CPU what a block needs stays
in its cache, which saves almost half of the time.
"""

import functools
import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_batching import custom_vmap
from jaxtyping import Array


class _Block(NamedTuple):
    """How many bytes of rows go at once, and how many must be there to be parted."""

    size: int
    threshold: int


# Of an array with a number for each component, of which derivatives make a dozen. Smaller blocks
# would leave one core with nothing to do; off a CPU a block only bounds the memory.
_ON_CPU = _Block(2**20, 2**21)
_OFF_CPU = _Block(2**26, 2**27)
# Coordinates of a narrow row (fewer), and of a wide one made of several.
_NARROW, _WIDE = 4, 32


def rows_last(function: Callable[..., tuple[Array, ...]]) -> Callable[..., tuple[Array, ...]]:
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
        long batch a block of rows at a time. Reverse mode over reverse mode through a scan is the
        one derivative that JAX refuses of a single row, and gives of a batch; `jax.hessian`,
        forward over reverse, it gives of both.
    """
    compiled = jax.jit(function)

    @custom_vmap
    def evaluate(*arguments: Array):
        return compiled(*arguments)

    @evaluate.def_vmap
    def _(axis_size: int, in_batched: list[bool], *arguments: Array):
        if not any(in_batched):  # as JAX asks while it differentiates a scan
            out = compiled(*arguments)
            return out, jax.tree.map(lambda _: False, out)
        if any(in_batched[1:]):
            run = jax.vmap(compiled, [0 if batched else None for batched in in_batched])
        else:
            run = functools.partial(_with_wide_rows, compiled)
        out = _in_blocks(run, axis_size, in_batched, arguments)
        return out, jax.tree.map(lambda _: True, out)

    # A function with a batching rule of its own cannot be differentiated backwards.
    @jax.custom_jvp
    def differentiable(*arguments: Array):
        return evaluate(*arguments)

    @differentiable.defjvp
    def _(primals, tangents):
        return jax.jvp(compiled, primals, tangents)

    return differentiable


def _with_wide_rows(function: Callable, x: Array, *parameters: Array):
    """Run on rows that share their parameters, several taken together where they are narrow.

    The compiler vectorises over a row's coordinates and components, and fails where those are few.
    """
    run = jax.vmap(function, (0, *[None] * len(parameters)))
    n_rows, *event = x.shape
    width = math.prod(event)
    whole = jnp.broadcast_shapes((*event, 1), *(p.shape for p in parameters))
    together = next((r for r in range(_WIDE // width, 1, -1) if n_rows % r == 0), 1)
    is_stretched = whole[:-1] != tuple(event)  # one value of x serves several mixtures
    if width >= _NARROW or together * width < _WIDE // 2 or is_stretched:
        return run(x, *parameters)
    # Joined, not broadcast: that would be done anew wherever they are read.
    repeated = [
        jnp.concatenate([jnp.broadcast_to(p, whole).reshape(-1, whole[-1])] * together)
        for p in parameters
    ]
    out = run(x.reshape(n_rows // together, together * width), *repeated)
    return jax.tree.map(lambda a: a.reshape(n_rows, *event, *a.shape[2:]), out)


def _in_blocks(
    run: Callable, n_rows: int, in_batched: Sequence[bool], arguments: tuple[Array, ...]
):
    """Run on the batched arguments' first axis, a block of rows at a time if it is long."""
    x, *parameters = (
        jnp.shape(a)[1:] if batched else jnp.shape(a)
        for a, batched in zip(arguments, in_batched, strict=True)
    )
    numbers_a_row = math.prod(jnp.broadcast_shapes((*x, 1), *parameters))
    bytes_a_row = numbers_a_row * arguments[0].dtype.itemsize
    block = _ON_CPU if jax.default_backend() == "cpu" else _OFF_CPU
    if n_rows * bytes_a_row <= block.threshold:
        return run(*arguments)
    most = max(1, block.size // bytes_a_row)
    # Blocks of equal size if a few more of them make it so: filling the last one costs copies.
    fewest = math.ceil(n_rows / most)
    n_blocks = next((n for n in range(fewest, 2 * fewest) if n_rows % n == 0), fewest)
    size = math.ceil(n_rows / n_blocks)

    def blocks(a: Array) -> Array:
        missing = n_blocks * size - n_rows
        filled = jnp.pad(a, ((0, missing), *[(0, 0)] * (a.ndim - 1)), mode="edge") if missing else a
        return filled.reshape(n_blocks, size, *a.shape[1:])

    def one_block(rows: list[Array]):
        rest = iter(rows)
        merged = [
            next(rest) if batched else a for a, batched in zip(arguments, in_batched, strict=True)
        ]
        return run(*merged)

    batched = [blocks(a) for a, is_batched in zip(arguments, in_batched, strict=True) if is_batched]
    out = jax.lax.map(one_block, batched)
    return jax.tree.map(lambda a: a.reshape(n_blocks * size, *a.shape[2:])[:n_rows], out)


def _with_rank(rows: Array, rank: int) -> Array:
    return rows.reshape(rows.shape[0], *[1] * (rank - rows.ndim), *rows.shape[1:])
