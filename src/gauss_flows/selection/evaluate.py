"""Asking a flow in double precision, whatever precision it was trained in."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flowjax.distributions import AbstractTransformed
from numpy.typing import NDArray

from gauss_flows.numerics.in_parts import in_parts
from gauss_flows.numerics.quick_jit import quick_jit

_ROWS_AT_ONCE = 16384

_Array = NDArray[np.float64]


def log_density(flow: AbstractTransformed, x: _Array, condition: _Array | None = None) -> _Array:
    """Compute the log density of rows.

    Args:
        flow: The flow.
        x: Rows in its units, shape (n, d).
        condition: What they are given, shape (n, c), for a conditional flow.

    Returns:
        Nats, shape (n,).
    """
    return ask(_log_density, flow, *_with(x, condition))


def to_latent(flow: AbstractTransformed, x: _Array) -> _Array:
    """Push rows forward.

    Args:
        flow: The flow.
        x: Rows in its units, shape (n, d).

    Returns:
        z, shape (n, d).
    """
    return ask(_to_latent, flow, x)


def to_data(flow: AbstractTransformed, z: _Array, condition: _Array | None = None) -> _Array:
    """Bring rows back.

    Args:
        flow: The flow.
        z: Latent rows, shape (n, d).
        condition: What they are given, as above.

    Returns:
        x in the flow's units, shape (n, d).
    """
    return ask(_to_data, flow, *_with(z, condition))


def draw(flow: AbstractTransformed, n: int, seed: int) -> _Array:
    """Draw rows.

    Args:
        flow: The flow.
        n: How many.
        seed: Seed of the draws; the first rows do not depend on `n`.

    Returns:
        Rows in the flow's units, shape (n, d).

    Raises:
        ValueError: If a row is not finite: a draw beyond what the flow's units can hold.
    """
    with jax.enable_x64(True):
        keys = jr.split(jr.key(seed), -(-n // _ROWS_AT_ONCE))
        z = np.concatenate([jr.normal(key, (_ROWS_AT_ONCE, *flow.shape)) for key in keys])[:n]
    x = ask(_to_data, flow, z)
    if not np.isfinite(x).all():
        raise ValueError("the flow cannot draw rows: one of them is not finite")
    return x


def ask(function: Callable[..., Any], flow: Any, *rows: _Array) -> Any:
    """Apply a function to a flow and many rows, in double precision.

    Args:
        function: What to apply to a flow and rows: an array, or several, whose first axis is the
            rows'.
        flow: The flow; the function gets it in double precision.
        rows: Rows of shape (n, d), and more arrays of n rows that it takes with them.

    Returns:
        What the function gives of all rows, as NumPy arrays.
    """
    with jax.enable_x64(True):
        flow = in_double_precision(flow)
        return in_parts(partial(function, flow), *rows)


def in_double_precision(flow: Any) -> Any:
    """Return a flow with its numbers in double precision; inside `jax.enable_x64`."""

    def widen(leaf: Any) -> Any:
        return leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(widen, flow)


def _with(rows: _Array, condition: _Array | None) -> tuple[_Array, ...]:
    return (rows,) if condition is None else (rows, condition)


@quick_jit
def _log_density(flow, x, condition=None):
    return flow.log_prob(x, condition)


@quick_jit
def _to_latent(flow, x):
    return jax.vmap(flow.bijection.inverse)(x)


@quick_jit
def _to_data(flow, z, *condition):
    return jax.vmap(flow.bijection.transform)(z, *condition)
