"""Coupling flows: a network reads some coordinates and sets the map of the others."""

from collections.abc import Callable

import jax.random as jr
import numpy as np
from flowjax.bijections import AbstractBijection
from flowjax.distributions import Transformed
from jaxtyping import PRNGKeyArray

from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.bijections.spline_coupling import RQSplineCoupling
from gauss_flows.flows.assemble import flow_from_blocks
from gauss_flows.flows.mixing import (
    Block,
    RotationName,
    check_coupled,
    check_sizes,
    mixing_layer,
)


def coupling_gaussianization_flow(
    key: PRNGKeyArray,
    *,
    n_dims: int,
    n_layers: int = 8,
    n_bins: int = 8,
    nn_width: int = 64,
    nn_depth: int = 2,
    interval: float = 3.0,
    rotation: RotationName = "permute",
    cond_dim: int | None = None,
) -> Transformed:
    r"""A spline coupling flow: blocks of rational-quadratic coupling and permutation.

    It starts as a permutation of the coordinates.

    Args:
        key: Random key.
        n_dims: Number of coordinates.
        n_layers: Number of blocks.
        n_bins: Inner knots of each spline.
        nn_width: Width of the conditioners.
        nn_depth: Number of their hidden layers.
        interval: Half-width of the box inside which the splines bend; outside they are straight.
            The default suits standardised data.
        rotation: What mixes the coordinates between couplings, see `gaussianization_flow`.
        cond_dim: Width of a condition, for p(x | condition); ``None`` for p(x).

    Returns:
        The flow.

    Raises:
        ValueError: If a size is below 1, the rotation is unknown, or there is one coordinate
            and no condition.

    References:
        Durkan, Bekasov, Murray & Papamakarios (2019), *Neural Spline Flows*.

    Example:
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> flow = gf.coupling_gaussianization_flow(
        ...     jr.key(0), n_dims=2, n_layers=2, n_bins=8, nn_width=16, nn_depth=1
        ... )
        >>> flow.sample(jr.key(1), (3,)).shape
        (3, 2)
    """
    check_sizes(n_dims=n_dims, n_layers=n_layers, n_bins=n_bins)
    check_coupled(n_dims, cond_dim, "coupling_gaussianization_flow")

    def coupling(coupling_key: PRNGKeyArray) -> AbstractBijection:
        return RQSplineCoupling(
            coupling_key,
            n_dims=n_dims,
            n_bins=n_bins,
            interval=interval,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
        )

    return _coupled_and_mixed(key, coupling, rotation, n_dims, n_layers)


def affine_coupling_flow(
    key: PRNGKeyArray,
    *,
    n_dims: int,
    n_layers: int = 8,
    nn_width: int = 64,
    nn_depth: int = 2,
    rotation: RotationName = "permute",
    cond_dim: int | None = None,
) -> Transformed:
    r"""An affine coupling flow: blocks of shift-and-scale coupling and permutation.

    Args:
        key: Random key.
        n_dims: Number of coordinates.
        n_layers: Number of blocks.
        nn_width: Width of the conditioners.
        nn_depth: Number of their hidden layers.
        rotation: What mixes the coordinates between couplings, see `gaussianization_flow`.
        cond_dim: Width of a condition, for p(x | condition); ``None`` for p(x).

    Returns:
        The flow.

    Raises:
        ValueError: If a size is below 1, the rotation is unknown, or there is one coordinate
            and no condition.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017), *Density estimation using Real NVP*.

    Example:
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> flow = gf.affine_coupling_flow(jr.key(0), n_dims=3, n_layers=2)
        >>> flow.shape
        (3,)
    """
    check_sizes(n_dims=n_dims, n_layers=n_layers)
    check_coupled(n_dims, cond_dim, "affine_coupling_flow")

    def coupling(coupling_key: PRNGKeyArray) -> AbstractBijection:
        return AffineCoupling(
            coupling_key,
            n_dims=n_dims,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
        )

    return _coupled_and_mixed(key, coupling, rotation, n_dims, n_layers)


def mixture_coupling_flow(
    key: PRNGKeyArray,
    *,
    n_dims: int,
    n_layers: int = 4,
    n_components: int = 8,
    nn_width: int = 64,
    nn_depth: int = 2,
    rotation: RotationName = "householder",
    cond_dim: int | None = None,
) -> Transformed:
    r"""A mixture coupling flow: blocks of rotation and two couplings of opposite masks.

    With zero final kernels, as it starts, it is a diagonal Gaussianization flow.

    Args:
        key: Random key.
        n_dims: Number of coordinates.
        n_layers: Number of blocks.
        n_components: Components of each coordinate's mixture.
        nn_width: Width of the conditioners.
        nn_depth: Number of their hidden layers.
        rotation: What mixes the coordinates, see `gaussianization_flow`.
        cond_dim: Width of a condition, for p(x | condition); ``None`` for p(x).

    Returns:
        The flow.

    Raises:
        ValueError: If a size is below 1, the rotation is unknown, or there is one coordinate
            and no condition.

    References:
        Meng, Song, Song & Ermon (2020), *Gaussianization Flows*, for the marginals; Ho, Chen,
        Srinivas, Duan & Abbeel (2019), *Flow++*, for couplings through a mixture's CDF.

    Example:
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> flow = gf.mixture_coupling_flow(jr.key(0), n_dims=3, n_layers=2, n_components=4)
        >>> flow.shape
        (3,)
    """
    check_sizes(n_dims=n_dims, n_layers=n_layers, n_components=n_components)
    check_coupled(n_dims, cond_dim, "mixture_coupling_flow")
    mask = np.arange(n_dims) < n_dims // 2
    # A single coordinate has no other to read it: the condition alone sets its map.
    masks = (mask, ~mask) if n_dims > 1 else (mask,)

    def coupling(coupling_key: PRNGKeyArray, coupling_mask: np.ndarray) -> AbstractBijection:
        return MixtureGaussianCDFCoupling(
            coupling_key,
            n_dims=n_dims,
            n_components=n_components,
            mask=coupling_mask,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
        )

    def block(block_key: PRNGKeyArray) -> Block:
        rotation_key, *coupling_keys = jr.split(block_key, 3)
        couplings = (coupling(k, m) for k, m in zip(coupling_keys, masks, strict=False))
        return (mixing_layer(rotation, rotation_key, n_dims), *couplings)

    return flow_from_blocks([block(k) for k in jr.split(key, n_layers)])


def _coupled_and_mixed(
    key: PRNGKeyArray,
    coupling: Callable[[PRNGKeyArray], AbstractBijection],
    rotation: RotationName,
    n_dims: int,
    n_layers: int,
) -> Transformed:
    def block(block_key: PRNGKeyArray) -> Block:
        coupling_key, mixing_key = jr.split(block_key)
        return (coupling(coupling_key), mixing_layer(rotation, mixing_key, n_dims))

    return flow_from_blocks([block(k) for k in jr.split(key, n_layers)])
