"""What Keras's training methods are given: pairs of data and condition, and their faults."""

from typing import Any

import numpy as np
from keras import ops

from gaussianization.gauss_keras.bijectors.base import check_finite


def as_pair(inputs: Any, condition: Any) -> tuple[Any, Any]:
    """Data and condition, however they came."""
    if isinstance(inputs, (tuple, list)) and len(inputs) == 2 and hasattr(inputs[0], "shape"):
        return inputs[0], inputs[1]
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1 and hasattr(inputs[0], "shape"):
        return inputs[0], condition
    return inputs, condition


def check_arrays(inputs: Any, input_dim: int | None, condition_dim: int | None) -> None:
    """Refuse arrays of another shape than the model's, empty ones and values that are not finite.

    What is no array, a data set or a generator, is let through: only its batches could tell.

    Args:
        inputs: Data, or a pair of them and the condition.
        input_dim: Number of coordinates, `None` while it is unknown.
        condition_dim: Width of the condition, `None` for none.
    """
    x, condition = as_pair(inputs, None)
    if not is_array(x):
        return
    _check_table(x, input_dim, "x")
    if condition is None and condition_dim is not None:
        raise ValueError(
            f"Expected a pair (x, condition), the condition of shape (batch, {condition_dim}). "
            "Received: condition=None"
        )
    if condition is not None and condition_dim is None:
        raise ValueError(f"Expected no condition. Received: condition.shape={np.shape(condition)}")
    if condition is not None and is_array(condition):
        _check_table(condition, condition_dim, "condition")


def validation_pair(data: Any, condition_dim: int | None) -> Any:
    """Validation data whose bare pair means, as in `fit((x, condition))`, data and condition."""
    if condition_dim is None or not isinstance(data, (tuple, list)) or len(data) != 2:
        return data
    return (tuple(data),) if is_array(data[0]) and is_array(data[1]) else data


def is_array(values: Any) -> bool:
    """Whether these are rows, rather than a data set or a generator of them."""
    # Data frames are arrays too; data sets, though some have an element's shape, are not.
    return hasattr(values, "__array__") and hasattr(values, "shape")


def _check_table(values: Any, width: int | None, name: str) -> None:
    shape = tuple(values.shape)
    if len(shape) != 2 or shape[0] == 0 or (width is not None and shape[1] != width):
        wanted = "d" if width is None else width
        raise ValueError(
            f"Expected {name} of shape (n, {wanted}) with n >= 1. Received: {name}.shape={shape}"
        )
    check_finite(
        ops.convert_to_numpy(values) if ops.is_tensor(values) else np.asarray(values), name
    )
