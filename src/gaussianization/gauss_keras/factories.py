"""Which layers in which order."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from gaussianization.gauss_keras.bijectors.base import Bijector, check_count
from gaussianization.gauss_keras.bijectors.conditioners import make_shared_mlp_conditioner
from gaussianization.gauss_keras.bijectors.coupling import default_half_mask
from gaussianization.gauss_keras.bijectors.flow import GaussianizationFlow
from gaussianization.gauss_keras.bijectors.marginal import MixtureCDFGaussianization
from gaussianization.gauss_keras.bijectors.mixture_coupling import MixtureCDFCoupling
from gaussianization.gauss_keras.bijectors.rotation import Householder


def make_gaussianization_flow(
    input_dim: int,
    num_blocks: int = 8,
    num_components: int = 8,
    num_reflectors: int | None = None,
    *,
    condition_dim: int | None = None,
    hidden: Sequence[int] = (64, 64),
    **kwargs: Any,
) -> GaussianizationFlow:
    r"""A diagonal flow: blocks of [rotation, marginal Gaussianization].

    Args:
        input_dim: Number of coordinates d.
        num_blocks: Number of blocks.
        num_components: Components of each marginal's mixture.
        num_reflectors: Reflections in each rotation; d by default.
        condition_dim: Width of a condition, for p(x | condition): a network then sets each
            marginal's mixture from it. `None` for p(x).
        hidden: Widths of that network's hidden layers.
        **kwargs: `name` and `dtype` of the model; the dtype is its layers' too.

    Returns:
        The flow, built and near the identity up to its random rotations.

    Raises:
        ValueError: If a size is below 1.

    References:
        Meng, Song, Song & Ermon (2020), *Gaussianization Flows*.

    Example:
        >>> from gaussianization.gauss_keras import make_gaussianization_flow
        >>> flow = make_gaussianization_flow(input_dim=2, num_blocks=4, num_components=8)
        >>> flow.count_params()
        208
    """
    input_dim = check_count(input_dim, "input_dim")
    dtype = {"dtype": kwargs["dtype"]} if "dtype" in kwargs else {}

    def marginal() -> Bijector:
        if condition_dim is None:
            return MixtureCDFGaussianization(num_components, **dtype)
        return MixtureCDFCoupling(
            np.zeros(input_dim, bool),
            num_components=num_components,
            condition_dim=condition_dim,
            hidden=hidden,
            **dtype,
        )

    bijectors: list[Bijector] = []
    for _ in range(check_count(num_blocks, "num_blocks")):
        bijectors += [Householder(num_reflectors, **dtype), marginal()]
    return GaussianizationFlow(bijectors, input_dim=input_dim, **kwargs)


def make_coupling_flow(
    input_dim: int,
    num_blocks: int = 4,
    num_components: int = 8,
    hidden: Sequence[int] = (64, 64),
    shared_mixture: bool = False,
    *,
    mask: Sequence[bool] | np.ndarray | None = None,
    num_reflectors: int | None = None,
    condition_dim: int | None = None,
    log_scale_clamp: Callable[[Any], Any] | str | None = None,
    **kwargs: Any,
) -> GaussianizationFlow:
    r"""A coupling flow: blocks of [rotation, mixture coupling, its complement].

    Args:
        input_dim: Number of coordinates d, at least 2.
        num_blocks: Number of blocks.
        num_components: Components of each mixture.
        hidden: Widths of the conditioners' hidden layers.
        shared_mixture: Whether one head serves all transformed coordinates, which takes fewer
            parameters; see `make_shared_mlp_conditioner`.
        mask: Mask of each block's first coupling, its second has the opposite; by default the
            first ⌊d/2⌋ coordinates condition.
        num_reflectors: Reflections in each rotation; d by default.
        condition_dim: Width of a condition, for p(x | condition); `None` for p(x).
        log_scale_clamp: Bound on the log-scales, see `MixtureCDFCoupling`.
        **kwargs: `name` and `dtype` of the model; the dtype is its layers' too.

    Returns:
        The flow, built and near the identity up to its random rotations.

    Raises:
        ValueError: If a size is below 1, there is nothing to couple or the mask does not fit.

    References:
        Ho, Chen, Srinivas, Duan & Abbeel (2019), *Flow++*.

    Example:
        >>> from gaussianization.gauss_keras import make_coupling_flow
        >>> flow = make_coupling_flow(input_dim=2, num_blocks=4, num_components=8)
        >>> len(flow.bijector_layers), flow.count_params()
        (12, 46800)
    """
    input_dim = check_count(input_dim, "input_dim")
    if input_dim < 2:
        raise ValueError(
            "Expected at least 2 coordinates for a coupling flow: of one there is nothing to "
            f"condition on. Use make_gaussianization_flow. Received: input_dim={input_dim}"
        )
    first = default_half_mask(input_dim) if mask is None else np.asarray(mask)
    if first.dtype != np.bool_ or first.shape != (input_dim,) or first.all() or not first.any():
        raise ValueError(
            f"Expected a mask of {input_dim} booleans, some True and some False. "
            f"Received: mask={first.tolist()}"
        )
    dtype = {"dtype": kwargs["dtype"]} if "dtype" in kwargs else {}

    def coupling(mask: np.ndarray) -> Bijector:
        conditioner = None
        if shared_mixture:
            n_active = int(np.sum(~mask))
            conditioner = make_shared_mlp_conditioner(n_active, num_components, hidden, **dtype)
        return MixtureCDFCoupling(
            mask,
            conditioner,
            num_components,
            condition_dim=condition_dim,
            hidden=hidden,
            log_scale_clamp=log_scale_clamp,
            **dtype,
        )

    bijectors: list[Bijector] = []
    for _ in range(check_count(num_blocks, "num_blocks")):
        bijectors += [Householder(num_reflectors, **dtype), coupling(first), coupling(~first)]
    return GaussianizationFlow(bijectors, input_dim=input_dim, **kwargs)
