"""What may be given to the trainer: each fault is found here, once, and named."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import ArrayLike

from gauss_flows.training.epoch import Rows, count_batches

_MIN_EPOCHS, _MIN_STEPS = 100, 2000


@dataclass(frozen=True)
class Settings:
    """The trainer's options, checked, with what was left open filled in.

    Args:
        batch_size: Largest number of rows in a batch.
        n_batches: Steps an epoch takes.
        max_epochs: Most epochs to run.
        n_steps: Most steps to run.
        patience: Epochs without a new best loss after which training ends.
        clip_norm: Largest global norm of a gradient.
    """

    batch_size: int
    n_batches: int
    max_epochs: int
    n_steps: int
    patience: float
    clip_norm: float


def check_count(name: str, value: object) -> None:
    """Refuse what is not a positive integer.

    Args:
        name: The option's name.
        value: Its value.

    Raises:
        ValueError: If the value is not an integer of at least 1.
    """
    if not isinstance(value, int | np.integer) or isinstance(value, bool) or value < 1:
        raise ValueError(f"Expected {name} to be an integer of at least 1; got {value!r}.")


def check_settings(
    n_rows: int,
    *,
    batch_size: int,
    max_epochs: int | None,
    max_steps: int | None,
    patience: float | None,
    clip_norm: float | None,
) -> Settings:
    """Check the options and fill in the open ones.

    Args:
        n_rows: Number of training rows.
        batch_size: Largest number of rows in a batch.
        max_epochs: Most epochs to run; by default as many as ``max_steps`` takes, and
            without that 100, or more where a hundred epochs are under 2000 steps.
        max_steps: Most steps to run.
        patience: Epochs without a new best after which training ends; never if it is None.
        clip_norm: Largest global norm of a gradient; none if it is None.

    Returns:
        The settings.

    Raises:
        ValueError: If an option is out of its range.
    """
    check_count("batch_size", batch_size)
    n_batches = count_batches(n_rows, batch_size)
    if max_steps is not None:
        check_count("max_steps", max_steps)
    if max_epochs is not None:
        check_count("max_epochs", max_epochs)
    elif max_steps is not None:
        max_epochs = math.ceil(max_steps / n_batches)
    else:
        max_epochs = max(_MIN_EPOCHS, math.ceil(_MIN_STEPS / n_batches))
    n_steps = min(max_epochs * n_batches, max_steps or math.inf)
    if patience is None:
        patience = math.inf
    if not _is_number(patience) or not patience >= 1:
        raise ValueError(f"Expected patience to be at least 1 or None; got {patience!r}.")
    if clip_norm is None:
        clip_norm = math.inf
    if not _is_number(clip_norm) or not clip_norm > 0:
        raise ValueError(f"Expected clip_norm to be positive or None; got {clip_norm!r}.")
    return Settings(
        batch_size, n_batches, max_epochs, int(n_steps), float(patience), float(clip_norm)
    )


def check_optimizer(
    optimizer: Any, learning_rate: float | Callable | None
) -> optax.GradientTransformation | None:
    """Check that there is at most one source of step sizes, and that it is one.

    Args:
        optimizer: An optax transformation, or None.
        learning_rate: A rate or schedule, or None.

    Returns:
        The optimizer.

    Raises:
        ValueError: If both are given, or the optimizer is not one of optax.
    """
    if optimizer is None:
        return None
    if not isinstance(optimizer, optax.GradientTransformation):
        raise ValueError(f"Expected an optax optimizer or None; got {optimizer!r}.")
    if learning_rate is not None:
        raise ValueError(
            "Expected optimizer or learning_rate, not both: the optimizer has its own rate."
        )
    return optimizer


def check_rows(
    flow: Any, x: ArrayLike, condition: ArrayLike | None, sample_weight: ArrayLike | None
) -> Rows:
    """Check a table against the flow.

    Args:
        flow: The flow, with ``shape`` and ``cond_shape``.
        x: The data, of shape (n, d).
        condition: The conditioning variables, of shape (n, c), or None.
        sample_weight: Weights of shape (n,), not negative, or None.

    Returns:
        The rows of positive weight as numpy arrays of the default floating dtype.

    Raises:
        ValueError: If a shape does not fit, or a value is not finite.
    """
    shape, cond_shape = getattr(flow, "shape", None), getattr(flow, "cond_shape", None)
    if not hasattr(flow, "log_prob") or not isinstance(shape, tuple) or len(shape) != 1:
        raise ValueError(
            "Expected a flow over vectors, a flowjax distribution of shape (d,); "
            f"got {type(flow).__name__} of shape {shape}."
        )
    table, conditions = _table("x", x, shape[0]), None
    n_rows = len(table)
    if (cond_shape is None) != (condition is None):
        wanted = "no condition" if cond_shape is None else f"a condition of shape {cond_shape}"
        got = "none" if condition is None else "one"
        raise ValueError(f"Expected {wanted}, as the flow has it; got {got}.")
    if condition is not None and cond_shape is not None:
        if len(cond_shape) != 1:
            raise ValueError(f"Expected a flow conditioned on vectors; got shape {cond_shape}.")
        conditions = _table("condition", condition, cond_shape[0])
        if len(conditions) != n_rows:
            raise ValueError(
                f"Expected one row of condition for each of the {n_rows} rows of x; "
                f"got {len(conditions)}."
            )
    weight = np.ones(n_rows, table.dtype)
    if sample_weight is not None:
        weight = _weights(sample_weight, n_rows).astype(table.dtype)
        kept = weight > 0
        table, weight = table[kept], weight[kept]
        conditions = None if conditions is None else conditions[kept]
    return Rows(table, conditions, weight)


def _table(name: str, values: ArrayLike, width: int) -> np.ndarray:
    table = np.asarray(values)
    if table.dtype.kind not in "biuf":
        raise ValueError(f"Expected {name} to hold real numbers; got dtype {table.dtype}.")
    if table.ndim != 2:
        raise ValueError(f"Expected {name} of shape (n_rows, {width}); got shape {table.shape}.")
    if table.shape[0] == 0:
        raise ValueError(f"Expected {name} to have rows; got none.")
    if table.shape[1] != width:
        raise ValueError(
            f"Expected {name} to have {width} columns, as the flow has; got {table.shape[1]}."
        )
    faults = ~np.isfinite(table)
    if faults.any():
        raise ValueError(f"Expected finite values in {name}; got {_first(table, faults)}.")
    with np.errstate(over="ignore"):  # reported below, with its place
        rows = table.astype(jnp.zeros(()).dtype)
    beyond = ~np.isfinite(rows)
    if beyond.any():
        raise ValueError(
            f"Expected values of {name} within the range of {rows.dtype}; got "
            f"{_first(table, beyond)}. Standardise {name} first."
        )
    return rows


def _first(table: np.ndarray, faults: np.ndarray) -> str:
    """The first of some values, its place, and how many others there are."""
    row, column = np.unravel_index(np.argmax(faults), faults.shape)
    more = int(faults.sum()) - 1
    also = f", and {more} more such value{'s' if more > 1 else ''}" if more else ""
    return f"{table[row, column]:g} in row {row}, column {column}{also}"


def _weights(sample_weight: ArrayLike, n_rows: int) -> np.ndarray:
    weight = np.asarray(sample_weight, dtype=float)
    if weight.shape != (n_rows,):
        raise ValueError(f"Expected sample_weight of shape ({n_rows},); got {weight.shape}.")
    if not np.isfinite(weight).all() or (weight < 0).any():
        row = int(np.argmin(np.isfinite(weight) & (weight >= 0)))
        raise ValueError(
            f"Expected weights that are finite and not negative; got {weight[row]} in row {row}."
        )
    if not weight.any():
        raise ValueError("Expected a positive weight; got none.")
    return weight / weight.mean()


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool)
