"""Rows through a flow and through its layers, in double precision and a part at a time."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection, Affine, Chain, Invert, Scan
from flowjax.distributions import AbstractTransformed, StandardNormal
from jaxtyping import Array, Float
from paramax import AbstractUnwrappable, unwrap

from gauss_flows.bijections.block_chain import BlockChain
from gauss_flows.rbig.checks import check_finite_table
from gauss_flows.rbig.options import check_seed

Precision = Literal["float32", "float64"]

# Parts of one size, whatever the table's, so that a layer is compiled once for all that is asked.
_ROWS_AT_ONCE = 256


class Pushed(NamedTuple):
    """Rows after a map.

    Args:
        rows: Where they are, shape (n, d).
        log_det: Log-determinant of the way there in nats, shape (n,).
    """

    rows: Float[np.ndarray, "n d"]
    log_det: Float[np.ndarray, " n"]


class OpenFlow(NamedTuple):
    """A flow with latent N(0, I), taken apart.

    Args:
        to_latent: The map from data to latent.
        n_dims: Number of columns.
        cond_dim: Number of columns of the condition, or None.
    """

    to_latent: AbstractBijection
    n_dims: int
    cond_dim: int | None


class Rows(NamedTuple):
    """Checked rows and what they are conditioned on.

    Args:
        x: The rows, shape (n, d).
        condition: Their conditions, shape (n, c), or None.
    """

    x: Float[np.ndarray, "n d"]
    condition: Float[np.ndarray, "n c"] | None


def open_flow(flow: Any) -> OpenFlow:
    """Take a flow apart, whatever normal its latent is.

    Args:
        flow: A flowjax `Transformed` over rows whose base is a normal distribution.

    Returns:
        The map to N(0, I) and the widths.

    Raises:
        ValueError: If it is no such flow.
    """
    if not isinstance(flow, AbstractTransformed):
        raise ValueError(f"Expected a flow (a flowjax Transformed); got {type(flow).__name__}.")
    merged: Any = flow.merge_transforms()
    if len(flow.shape) != 1:
        raise ValueError(f"Expected a flow over rows, of shape (n_dims,); got shape {flow.shape}.")
    if not isinstance(merged.base_dist, StandardNormal):
        raise ValueError(
            "Expected a flow whose latent is normal; got one with base "
            f"{type(merged.base_dist).__name__}."
        )
    cond_dim = flow.cond_shape
    if cond_dim is not None and len(cond_dim) != 1:
        raise ValueError(f"Expected a condition of shape (cond_dim,); got shape {cond_dim}.")
    # A standard normal spelled as Normal(0, 1) is no layer.
    base: Any = flow.base_dist
    is_plain = isinstance(base, AbstractTransformed) and _is_identity(base.bijection)
    to_data = flow.bijection if is_plain else merged.bijection
    to_latent = to_data.bijection if isinstance(to_data, Invert) else Invert(to_data)
    return OpenFlow(
        cast(AbstractBijection, to_latent),
        flow.shape[0],
        None if cond_dim is None else cond_dim[0],
    )


def layers_of(flow: OpenFlow) -> list[AbstractBijection]:
    """The layers in data order, those of chains, scans and nested flows one by one."""
    return _flattened(flow.to_latent)


def layer_name(layer: AbstractBijection) -> str:
    """What a layer is called.

    Example:
        >>> from flowjax.bijections import Flip, Invert
        >>> layer_name(Flip((2,))), layer_name(Invert(Flip((2,))))
        ('Flip', 'inverse of Flip')
    """
    if isinstance(layer, Invert):
        return f"inverse of {layer_name(cast(AbstractBijection, layer.bijection))}"
    return type(layer).__name__


def check_rows(flow: OpenFlow, x: Any, condition: Any = None) -> Rows:
    """Check rows that a flow is to be judged by.

    Args:
        flow: The flow.
        x: An array or a data frame.
        condition: Conditions of the rows, for a conditional flow.

    Returns:
        Both in float64.

    Raises:
        ValueError: If one of them is no table of finite numbers of the flow's width, with row and
            column named; or if the condition is missing, or given to a flow without one.
    """
    table = check_finite_table(x, n_dims=flow.n_dims)
    if (condition is None) != (flow.cond_dim is None):
        wanted = "no condition" if flow.cond_dim is None else f"a condition of {flow.cond_dim}"
        raise ValueError(
            f"Expected {wanted}, as the flow has it; got {'none' if condition is None else 'one'}."
        )
    if condition is None:
        return Rows(table, None)
    conditions = check_finite_table(condition, n_dims=flow.cond_dim, name="condition")
    if len(conditions) != len(table):
        raise ValueError(
            f"Expected as many rows of condition as of x, {len(table)}; got {len(conditions)}."
        )
    return Rows(table, conditions)


def to_latent(flow: OpenFlow, rows: Rows, precision: Precision = "float64") -> Pushed:
    """Push rows forward.

    Args:
        flow: The flow.
        rows: Rows in its units.
        precision: In which to compute.

    Returns:
        z and the log-determinants of ∂z/∂x.
    """
    return push(flow.to_latent, rows, precision)


def to_data(flow: OpenFlow, rows: Rows, precision: Precision = "float64") -> Pushed:
    """Pull latents back.

    Args:
        flow: The flow.
        rows: Latents and their conditions.
        precision: In which to compute.

    Returns:
        x and the log-determinants of ∂x/∂z.
    """
    return push(flow.to_latent, rows, precision, inverse=True)


def push(
    bijection: AbstractBijection,
    rows: Rows,
    precision: Precision = "float64",
    *,
    inverse: bool = False,
) -> Pushed:
    """Apply a bijection or its inverse to rows, a part at a time."""
    dtype = np.dtype(precision)
    with jax.enable_x64(True):
        bijection = in_precision(bijection, precision)
        parts = []
        for start in range(0, len(rows.x), _ROWS_AT_ONCE):
            x, condition = (
                None if table is None else filled(table[start:], _ROWS_AT_ONCE, dtype)
                for table in rows
            )
            y, log_det = _pushed(bijection, x, condition, inverse=inverse)
            parts.append((np.asarray(y, np.float64), np.asarray(log_det, np.float64)))
        y, log_det = (np.concatenate(part)[: len(rows.x)] for part in zip(*parts, strict=True))
        return Pushed(y, log_det)


def draw(flow: OpenFlow, n: int, condition: Any, random_state: int) -> np.ndarray:
    """Draw rows from a flow.

    Args:
        flow: The flow.
        n: How many.
        condition: Checked conditions of shape (n, c), or None.
        random_state: Seed.

    Returns:
        Rows in float64, shape (n, d).
    """
    check_seed(random_state)
    z = np.random.default_rng([random_state, 7]).normal(size=(n, flow.n_dims))
    return to_data(flow, Rows(z, condition)).rows


def in_precision(tree: Any, precision: Precision) -> Any:
    """Return a tree whose real arrays are of one precision."""

    def cast_leaf(leaf: Any) -> Any:
        is_real = eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jnp.floating)
        return leaf.astype(precision) if is_real else leaf

    return jax.tree.map(cast_leaf, tree)


def filled(table: np.ndarray, size: int, dtype: Any) -> Array:
    """Return the first rows of a table, the last one repeated where there are too few."""
    part = table[:size]
    with np.errstate(over="ignore"):
        return jnp.asarray(np.pad(part, ((0, size - len(part)), (0, 0)), mode="edge").astype(dtype))


@eqx.filter_jit
def _pushed(bijection: AbstractBijection, x: Any, condition: Any, *, inverse: bool):
    run = bijection.inverse_and_log_det if inverse else bijection.transform_and_log_det
    return jax.vmap(run)(x) if condition is None else jax.vmap(run)(x, condition)


def _flattened(bijection: Any) -> list[AbstractBijection]:
    """Layers in the order in which the bijection applies them."""
    if isinstance(bijection, AbstractUnwrappable):
        bijection = unwrap(bijection)
    if isinstance(bijection, Invert):
        return [_inverted(layer) for layer in reversed(_flattened(bijection.bijection))]
    if isinstance(bijection, (Chain, BlockChain)):
        return [layer for part in bijection.bijections for layer in _flattened(part)]
    if isinstance(bijection, Scan):
        arrays, static = eqx.partition(bijection.bijection, eqx.is_array)
        n = jax.tree.leaves(arrays)[0].shape[0]
        parts = [
            eqx.combine(jax.tree.map(lambda leaf, i=i: leaf[i], arrays), static) for i in range(n)
        ]
        return [layer for part in parts for layer in _flattened(part)]
    return [bijection]


def _inverted(layer: AbstractBijection) -> AbstractBijection:
    return cast(AbstractBijection, layer.bijection) if isinstance(layer, Invert) else Invert(layer)


def _is_identity(layer: AbstractBijection) -> bool:
    if not isinstance(layer, Affine):
        return False
    affine: Any = unwrap(layer)
    return bool(np.all(np.asarray(affine.loc) == 0) and np.all(np.asarray(affine.scale) == 1))
