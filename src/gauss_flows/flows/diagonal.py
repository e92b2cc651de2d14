"""Diagonal Gaussianization flows: rotations and marginal mixtures."""

import jax.random as jr
import numpy as np
from flowjax.distributions import Transformed
from jaxtyping import PRNGKeyArray

from gauss_flows.bijections.mixture_cdf import MixtureGaussianCDF
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.flows.assemble import flow_from_blocks
from gauss_flows.flows.mixing import Block, RotationName, check_sizes, mixing_layer


def gaussianization_flow(
    key: PRNGKeyArray,
    *,
    n_dims: int,
    n_layers: int = 8,
    n_components: int = 8,
    rotation: RotationName = "householder",
    cond_dim: int | None = None,
    nn_width: int = 64,
    nn_depth: int = 2,
) -> Transformed:
    r"""A diagonal Gaussianization flow: blocks of rotation and marginal Gaussianization.

    $$z = \Psi_L(R_L \cdots \Psi_1(R_1 x)), \qquad
    \Psi(y)_i = \Phi^{-1}(F_i(y_i)).$$

    The marginals start near the identity. With a condition, a network sets each marginal's
    mixture from it.

    Args:
        key: Random key.
        n_dims: Number of coordinates.
        n_layers: Number of blocks.
        n_components: Components of each marginal's mixture.
        rotation: What mixes the coordinates: ``"householder"``, ``"cayley"`` or
            ``"exponential"`` (orthogonal, trained), ``"random"`` (orthogonal, fixed), ``"lu"``
            (linear, trained) or ``"permute"``.
        cond_dim: Width of a condition, for p(x | condition); ``None`` for p(x).
        nn_width: Width of the conditional marginals' network.
        nn_depth: Its number of hidden layers.

    Returns:
        The flow. With ``rotation="householder"`` and no condition it has
        ``n_layers · (3 n_dims n_components + n_dims²) + 2 n_dims`` numbers.

    Raises:
        ValueError: If a size is below 1 or the rotation is unknown.

    References:
        Meng, Song, Song & Ermon (2020), *Gaussianization Flows*.

    Example:
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=4, n_components=8)
        >>> flow.sample(jr.key(1), (3,)).shape
        (3, 2)
    """
    check_sizes(n_dims=n_dims, n_layers=n_layers, n_components=n_components)

    def block(block_key: PRNGKeyArray) -> Block:
        rotation_key, marginal_key = jr.split(block_key)
        if cond_dim is None:
            marginal = MixtureGaussianCDF(n_dims, n_components)
        else:
            marginal = MixtureGaussianCDFCoupling(
                marginal_key,
                n_dims=n_dims,
                n_components=n_components,
                mask=np.zeros(n_dims, bool),
                cond_dim=cond_dim,
                nn_width=nn_width,
                nn_depth=nn_depth,
            )
        return (mixing_layer(rotation, rotation_key, n_dims), marginal)

    return flow_from_blocks([block(k) for k in jr.split(key, n_layers)])
