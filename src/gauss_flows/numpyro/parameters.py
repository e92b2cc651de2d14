"""A flow's trainable arrays as NumPyro parameters, one site for each."""

from collections.abc import Mapping
from typing import TypeVar, cast

import equinox as eqx
import jax
import numpyro
from jaxtyping import Array, ArrayLike
from paramax import NonTrainable

_Flow = TypeVar("_Flow", bound=eqx.Module)


def trainable_arrays(prefix: str, flow: eqx.Module) -> dict[str, Array]:
    """Every trainable array by the name of its site.

    Args:
        prefix: What the names start with.
        flow: The flow; what it holds as `paramax.NonTrainable` is left out.

    Returns:
        Names, made of the prefix and the array's place in the flow, and arrays.
    """
    leaves, _ = jax.tree_util.tree_flatten_with_path(flow, is_leaf=_is_fixed)
    return {
        prefix + jax.tree_util.keystr(path): leaf
        for path, leaf in leaves
        if eqx.is_inexact_array(leaf)
    }


def with_arrays(prefix: str, flow: _Flow, params: Mapping[str, ArrayLike]) -> _Flow:
    """The flow with its trainable arrays replaced by those of the same name.

    Args:
        prefix: What the names start with.
        flow: The flow that gives everything else.
        params: Arrays by the names that `trainable_arrays` gives; others are ignored.

    Returns:
        The flow.

    Raises:
        ValueError: If an array is missing or has another shape.
    """

    def replaced(path, leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        name = prefix + jax.tree_util.keystr(path)
        if name not in params:
            raise ValueError(f"Expected a parameter {name!r}, as SVI learns it; got none.")
        array = jax.numpy.asarray(params[name])
        if array.shape != leaf.shape:
            raise ValueError(
                f"Expected the parameter {name!r} to have shape {leaf.shape}; got {array.shape}."
            )
        return array

    return jax.tree_util.tree_map_with_path(replaced, flow, is_leaf=_is_fixed)


def registered(prefix: str, flow: _Flow) -> _Flow:
    """The flow with every trainable array as a `numpyro.param` site."""
    sites = {
        # Of a site with an initial value the value is never None.
        name: cast(Array, numpyro.param(name, array))
        for name, array in trainable_arrays(prefix, flow).items()
    }
    return with_arrays(prefix, flow, sites)


def _is_fixed(leaf: object) -> bool:
    return isinstance(leaf, NonTrainable)
