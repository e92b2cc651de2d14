"""Write a closed-form fit into a coupling: zero last kernel, the fit as its bias."""

from typing import Any, TypeVar

import equinox as eqx
from jaxtyping import Array, Float

from gauss_flows.bijections.conditioners import with_constant_output

_Layer = TypeVar("_Layer")


def with_constant_parameters(coupling: _Layer, values: Float[Array, "d_active ..."]) -> _Layer:
    """Make a coupling transform every active coordinate with the same parameters everywhere.

    Args:
        coupling: One of the library's coupling layers.
        values: What its conditioner is to return, one row an active coordinate.

    Returns:
        The coupling, its hidden layers untouched.

    Raises:
        ValueError: If the conditioner cannot be made constant.
    """

    def conditioner(layer: Any) -> Any:
        return layer._coupling.conditioner

    constant = with_constant_output(conditioner(coupling), values)
    return eqx.tree_at(conditioner, coupling, constant)
