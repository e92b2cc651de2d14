"""The layer that mixes coordinates between the others, by name."""

import operator
from collections.abc import Callable, Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection, Permute
from jaxtyping import PRNGKeyArray

from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.householder import HouseholderRotation
from gauss_flows.bijections.lu_linear import LULinearPermute
from gauss_flows.bijections.orthogonal import OrthogonalRotation

RotationName = Literal["householder", "cayley", "exponential", "random", "lu", "permute"]


def mixing_layer(name: RotationName, key: PRNGKeyArray, n_dims: int) -> AbstractBijection:
    """A fresh layer of the named kind.

    Args:
        name: ``"householder"``, ``"cayley"`` or ``"exponential"`` (orthogonal, trainable),
            ``"random"`` (Haar, fixed), ``"lu"`` (linear, trainable) or ``"permute"`` (fixed).
        key: Random key.
        n_dims: Number of coordinates.

    Raises:
        ValueError: If the name is unknown.
    """
    if name not in get_args(RotationName):
        raise ValueError(f"Expected rotation to be one of {get_args(RotationName)}; got {name!r}.")
    return _BUILDERS[name](key, n_dims)


def _householder(key: PRNGKeyArray, n_dims: int) -> AbstractBijection:
    return HouseholderRotation(n_dims, key=key)


def _cayley(key: PRNGKeyArray, n_dims: int) -> AbstractBijection:
    return OrthogonalRotation(n_dims, key=key, method="cayley")


def _exponential(key: PRNGKeyArray, n_dims: int) -> AbstractBijection:
    return OrthogonalRotation(n_dims, key=key, method="exponential")


def _lu(key: PRNGKeyArray, n_dims: int) -> AbstractBijection:
    return LULinearPermute(n_dims, key=key)


def _permute(key: PRNGKeyArray, n_dims: int) -> AbstractBijection:
    # With two coordinates a random permutation would be the identity half of the time.
    order = jnp.arange(n_dims)[::-1] if n_dims <= 2 else jax.random.permutation(key, n_dims)
    return Permute(order)


_BUILDERS: dict[str, Callable[[PRNGKeyArray, int], AbstractBijection]] = {
    "householder": _householder,
    "cayley": _cayley,
    "exponential": _exponential,
    "random": FixedRotation.random,
    "lu": _lu,
    "permute": _permute,
}


def check_sizes(**sizes: int) -> None:
    """Refuse what is no whole number of at least 1, naming the argument."""
    for name, value in sizes.items():
        try:
            whole = operator.index(value)
        except TypeError:
            raise ValueError(f"Expected {name} to be a whole number; got {value!r}.") from None
        if whole < 1 or isinstance(value, bool):
            raise ValueError(f"Expected {name} >= 1; got {value}.")


def check_coupled(n_dims: int, cond_dim: int | None, factory: str) -> None:
    """A coupling needs two coordinates, or a condition to read."""
    if n_dims < 2 and cond_dim is None:
        raise ValueError(
            f"Expected n_dims >= 2 for {factory} without a condition; got {n_dims}. A coupling "
            "has nothing to couple there: use gaussianization_flow."
        )


Block = Sequence[AbstractBijection]
