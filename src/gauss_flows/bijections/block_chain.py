"""A chain of identical blocks, run by one scan."""

from collections.abc import Sequence
from typing import Self, cast

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection, Chain
from jaxtyping import Array, ArrayLike, Float


class BlockChain(AbstractBijection):
    """Blocks of the same structure in data order, compiled once whatever their number.

    The array leaves of all blocks are stacked on a leading axis and one `jax.lax.scan` runs
    over it, jitted: outside `jax.jit` too, a second call with the same shapes compiles
    nothing. The layers stay reachable through `bijections` and `blocks`.

    Build it with `from_blocks`.

    Args:
        stacked: One block whose arrays hold those of all blocks on a leading axis.
        n_blocks: Number of blocks.
        shape: Shape (d,) of x.
        cond_shape: Shape of the condition, or None.

    Example:
        >>> import jax.numpy as jnp
        >>> from flowjax.bijections import Chain, Flip
        >>> from gauss_flows import BlockChain, MixtureGaussianCDF
        >>> block = Chain([MixtureGaussianCDF(n_dims=2), Flip((2,))])
        >>> chain = BlockChain.from_blocks([block, block, block])
        >>> len(chain.bijections), chain.n_blocks
        (6, 3)
    """

    stacked: Chain
    n_blocks: int = eqx.field(static=True)
    shape: tuple[int, ...]
    cond_shape: tuple[int, ...] | None

    @classmethod
    def from_blocks(cls, blocks: Sequence[Chain]) -> Self:
        """Stack blocks, the first one nearest the data.

        Args:
            blocks: At least one `flowjax.bijections.Chain`, all of one structure: the same
                layers, array shapes and static fields.

        Raises:
            ValueError: If there is no block or their structures differ.
        """
        if not blocks:
            raise ValueError("Expected at least one block; got none.")
        arrays, static = zip(*(eqx.partition(block, eqx.is_array) for block in blocks), strict=True)
        for index, other in enumerate(static[1:], start=1):
            if not eqx.tree_equal(static[0], other):
                raise ValueError(
                    f"Expected blocks of one structure; got block {index} unlike block 0."
                )
        shapes = [jax.tree.map(jnp.shape, block_arrays) for block_arrays in arrays]
        for index, other in enumerate(shapes[1:], start=1):
            if other != shapes[0]:
                raise ValueError(
                    f"Expected blocks of one structure; got array shapes in block {index} "
                    "unlike those in block 0."
                )
        stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
        return cls(
            stacked=eqx.combine(stacked, static[0]),
            n_blocks=len(blocks),
            shape=blocks[0].shape,
            cond_shape=blocks[0].cond_shape,
        )

    @property
    def blocks(self) -> tuple[Chain, ...]:
        """The blocks, unstacked, in data order."""
        arrays, static = eqx.partition(self.stacked, eqx.is_array)
        return tuple(
            eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), static)
            for i in range(self.n_blocks)
        )

    @property
    def bijections(self) -> tuple[AbstractBijection, ...]:
        """Every layer of every block, in data order."""
        return tuple(
            cast(AbstractBijection, layer) for block in self.blocks for layer in block.bijections
        )

    def transform_and_log_det(self, x: ArrayLike, condition: ArrayLike | None = None):
        """Apply the blocks in data order."""
        return _run(self.stacked, x, condition, inverse=False)

    def inverse_and_log_det(self, y: ArrayLike, condition: ArrayLike | None = None):
        """Apply the inverse blocks, the last one first."""
        return _run(self.stacked, y, condition, inverse=True)

    def intermediates(
        self, x: Float[Array, " d"], condition: Array | None = None
    ) -> tuple[Array, ...]:
        """x, the state after each layer in data order, and z last; each (d,)."""
        states = _states(self.stacked, jnp.asarray(x), condition)
        per_layer = [state[i] for i in range(self.n_blocks) for state in states]
        return (jnp.asarray(x), *per_layer)


@eqx.filter_jit
def _run(stacked: Chain, x: ArrayLike, condition: ArrayLike | None, *, inverse: bool):
    arrays, static = eqx.partition(stacked, eqx.is_array)

    def step(carry, block_arrays):
        value, log_det = carry
        block = eqx.combine(block_arrays, static)
        method = block.inverse_and_log_det if inverse else block.transform_and_log_det
        value, change = method(value, condition)
        # In 64-bit mode flowjax sums a chain's log-determinants in float64, whatever their own.
        return (value, (log_det + change).astype(log_det.dtype)), None

    x = jnp.asarray(x)
    start = (x, jnp.zeros((), x.dtype))
    (value, log_det), _ = jax.lax.scan(step, start, arrays, reverse=inverse)
    return value, log_det


@eqx.filter_jit
def _states(stacked: Chain, x: Array, condition: Array | None) -> list[Array]:
    arrays, static = eqx.partition(stacked, eqx.is_array)

    def step(value, block_arrays):
        states = []
        for layer in eqx.combine(block_arrays, static).bijections:
            value = layer.transform(value, condition)
            states.append(value)
        return value, states

    _, states = jax.lax.scan(step, x, arrays)
    return states
