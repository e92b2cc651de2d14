"""Asking a flow that was fitted elsewhere, in double precision."""

from typing import Any, TypeGuard

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from flowjax.distributions import AbstractTransformed
from numpy.typing import NDArray

from gauss_flows.information.maps import Map
from gauss_flows.information.tables import finite_rows
from gauss_flows.rbig.options import check_seed
from gauss_flows.selection.evaluate import ask, in_double_precision

Array = NDArray[np.float64]


def is_flow(x: Any) -> TypeGuard[AbstractTransformed]:
    """Whether something is a flow rather than a table."""
    return isinstance(x, AbstractTransformed)


def checked_flow(flow: AbstractTransformed) -> AbstractTransformed:
    """Refuse a flow that has no single density over vectors.

    Args:
        flow: The flow.

    Returns:
        The flow.

    Raises:
        ValueError: If it is conditional or not of vectors.
    """
    if flow.cond_shape is not None or len(flow.shape) != 1:
        raise ValueError(
            "Expected a flow of vectors without a condition; got one of shape "
            f"{flow.shape} and condition {flow.cond_shape}."
        )
    return flow


def map_of(flow: AbstractTransformed) -> Map:
    """A flow as a map, none of whose parameters counts as fitted to the rows at hand.

    Args:
        flow: The flow, whose base must be standard normal.

    Returns:
        The map.
    """

    def push(rows: Array) -> tuple[Array, Array]:
        z, log_density = ask(_latent_and_log_density, flow, rows)
        return z, log_density

    return Map(push, 0, 1)


def log_density(flow: AbstractTransformed, x: Any) -> Array:
    """Log-density of rows under a flow.

    Args:
        flow: The flow.
        x: Rows, shape (n, d).

    Returns:
        Nats, shape (n,).
    """
    return ask(_latent_and_log_density, flow, finite_rows(x, flow.shape[0]))[1]


def draw(flow: AbstractTransformed, n: int, random_state: int) -> Array:
    """Draw rows from a flow.

    Args:
        flow: The flow.
        n: How many.
        random_state: Seed.

    Returns:
        Rows, shape (n, d).
    """
    check_seed(random_state)
    with jax.enable_x64(True):
        return np.asarray(in_double_precision(flow).sample(jr.key(random_state), (n,)), np.float64)


@eqx.filter_jit
def _latent_and_log_density(flow, x):
    return jax.vmap(flow.bijection.inverse)(x), flow.log_prob(x)
