"""From blocks of layers in data order to a flow, and back to its states."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection, Chain, Invert
from flowjax.distributions import AbstractTransformed, Normal, Transformed
from jaxtyping import Array, ArrayLike, Float
from paramax import NonTrainable, unwrap

from gauss_flows.bijections.block_chain import BlockChain


def standard_normal(n_dims: int) -> Normal:
    """The latent N(0, I): location and scale are there to be seen and are never trained."""
    base = Normal(jnp.zeros(n_dims), jnp.ones(n_dims))
    affine = base.bijection
    object.__setattr__(affine, "loc", NonTrainable(jnp.zeros(n_dims)))
    object.__setattr__(affine, "scale", NonTrainable(jnp.ones(n_dims)))
    return base


def flow_from_blocks(blocks: Sequence[Sequence[AbstractBijection]]) -> Transformed:
    """The flow whose density is N(0, I) pulled back through blocks of layers.

    Args:
        blocks: Blocks in data order, each a sequence of layers in data order. All blocks have
            the same structure: they run through one scan.

    Returns:
        A flow: `flow.bijection.inverse(x)` is z, and `flow.bijection.bijection.bijections` are
        the layers in data order. As of every flowjax distribution, `log_prob` of a row with NaN
        or an infinite value is −∞: look for such rows before calling the rest anomalies.

    Raises:
        ValueError: If there is no block, a block is no sequence of layers or empty, or the
            blocks differ in structure.

    Example:
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> blocks = [
        ...     (gf.HouseholderRotation(3, key=key), gf.MixtureGaussianCDF(3, n_components=4))
        ...     for key in jr.split(jr.key(0), 2)
        ... ]
        >>> flow = gf.flow_from_blocks(blocks)
        >>> flow.sample(jr.key(1), (5,)).shape
        (5, 3)
    """
    for index, block in enumerate(blocks):
        if not isinstance(block, Sequence) or len(block) == 0:
            raise ValueError(
                "Expected blocks, each a sequence of at least one layer; got "
                f"{block!r} as block {index}."
            )
    chain = BlockChain.from_blocks([Chain(list(block)) for block in blocks])
    return Transformed(standard_normal(chain.shape[0]), Invert(chain))


def forward_with_intermediates(
    flow: AbstractTransformed,
    x: Float[ArrayLike, "... n_dims"],
    condition: Float[ArrayLike, "... cond_dim"] | None = None,
) -> tuple[Float[Array, "... n_dims"], ...]:
    """Every state on the way from data to latent.

    Args:
        flow: A flow made by this library's factories or `flow_from_blocks`.
        x: Points, of shape (..., n_dims).
        condition: Their conditions, of shape (..., cond_dim), for a conditional flow.

    Returns:
        ``x``, the state after each layer in data order, and so z last; each of ``x``'s shape.

    Raises:
        ValueError: If the flow's bijection does not run from latent to data as an inverted
            chain, if ``x`` or the condition has another width, or if a condition is given to a
            flow without one, or not to a flow with one.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=3)
        >>> states = gf.forward_with_intermediates(flow, jnp.ones((5, 2)))
        >>> len(states), states[-1].shape
        (7, (5, 2))
    """
    chain = flow.bijection.bijection if isinstance(flow.bijection, Invert) else None
    if not isinstance(chain, BlockChain):
        raise ValueError(
            "Expected a flow whose bijection is Invert(BlockChain); got "
            f"{type(flow.bijection).__name__}."
        )
    x = jnp.asarray(x)
    if x.shape[-1:] != flow.shape:
        raise ValueError(f"Expected x of width {flow.shape[0]}; got shape {x.shape}.")
    chain = unwrap(chain)
    run = chain.intermediates
    if condition is None or flow.cond_shape is None:
        if condition is not None or flow.cond_shape is not None:
            shape = flow.cond_shape
            wanted = f"a condition of shape {shape}" if shape else "no condition"
            got = "none" if condition is None else "one"
            raise ValueError(f"Expected {wanted}, as the flow has it; got {got}.")
        for _ in range(x.ndim - 1):
            run = jax.vmap(run)
        return run(x)
    condition = jnp.asarray(condition)
    if condition.shape[-1:] != flow.cond_shape:
        raise ValueError(
            f"Expected a condition of width {flow.cond_shape[0]}; got shape {condition.shape}."
        )
    condition = jnp.broadcast_to(condition, (*x.shape[:-1], condition.shape[-1]))
    for _ in range(x.ndim - 1):
        run = jax.vmap(run)
    return run(x, condition)
