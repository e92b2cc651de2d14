"""Faults that the arguments of this room's functions show by themselves."""

import math
from collections.abc import Iterable
from typing import Any

import numpy as np
from jaxtyping import Float
from paramax import unwrap

from gauss_flows.bijections.orthogonal import checked_orthogonal


def check_n_active(n_active: int, n_dims: int) -> None:
    """Refuse a number of active coordinates that leaves none to condition on, or to move.

    Args:
        n_active: The number.
        n_dims: Number of all coordinates D.

    Raises:
        ValueError: If D is 1, or the number is not an integer from 1 to D − 1.
    """
    if n_dims < 2:
        raise ValueError("Expected at least two columns, one to condition on; got one.")
    whole = isinstance(n_active, int | np.integer) and not isinstance(n_active, bool)
    if not whole or not 1 <= n_active <= n_dims - 1:
        raise ValueError(
            f"Expected n_active from 1 to {n_dims - 1} for data of {n_dims} columns; "
            f"got {n_active!r}."
        )


def check_rotation_matrix(rotation: Any, n_dims: int) -> Float[np.ndarray, "d d"]:
    """A rotation as a matrix that is orthogonal to rounding.

    Args:
        rotation: The matrix, a rotation layer, which has one, or `None` for the identity.
        n_dims: Number of coordinates D.

    Returns:
        The matrix in float64.

    Raises:
        ValueError: If it has another shape or is not orthogonal.
    """
    if rotation is None:
        return np.eye(n_dims)
    rotation = unwrap(rotation)
    expected = f"a rotation of shape ({n_dims}, {n_dims})"
    matrix = real_array(getattr(rotation, "matrix", rotation), expected)
    if matrix.shape != (n_dims, n_dims):
        raise ValueError(f"Expected {expected}; got {matrix.shape}.")
    if not np.isfinite(matrix).all():
        row, column = np.argwhere(~np.isfinite(matrix))[0]
        raise ValueError(
            f"Expected {expected}, of finite numbers; got {matrix[row, column]} in row {row}, "
            f"column {column}."
        )
    return checked_orthogonal(matrix)


def real_array(value: Any, expected: str) -> Float[np.ndarray, "..."]:
    """Numbers in float64.

    Args:
        value: An array or nested lists of real numbers.
        expected: What messages say was expected.

    Returns:
        The array, of whatever shape it has.

    Raises:
        ValueError: If it is no such thing.
    """
    try:
        array = np.asarray(value)
    except (TypeError, ValueError):  # ragged lists
        array = np.asarray(None)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"Expected {expected}, of real numbers; got {value!r}.")
    return array.astype(np.float64)


def finite_number(name: str, value: Any) -> float:
    """A finite number, which may be an array's only value.

    Args:
        name: The argument's name, for the message.
        value: Its value.

    Returns:
        The number.

    Raises:
        ValueError: If it is none.
    """
    number = _number(value)
    if not math.isfinite(number):
        raise ValueError(f"Expected {name} to be a finite number; got {value!r}.")
    return number


def positive_number(name: str, value: Any) -> float:
    """The same of a number above 0."""
    number = _number(value)
    if not 0 < number < math.inf:
        raise ValueError(f"Expected {name} to be a finite number above 0; got {value!r}.")
    return number


def step_share(step: Any) -> float:
    """Share of the way that a layer goes.

    Args:
        step: The share.

    Returns:
        The share.

    Raises:
        ValueError: If it is not in (0, 1].
    """
    share = _number(step)
    if not 0 < share <= 1:
        raise ValueError(f"Expected a step in (0, 1]; got {step!r}.")
    return share


def check_choice(name: str, value: object, choices: Iterable[str]) -> None:
    """Refuse an unknown name.

    Args:
        name: The option's name.
        value: Its value.
        choices: What it may be.

    Raises:
        ValueError: If it is none of them.
    """
    choices = tuple(choices)
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"Expected {name} to be one of {choices}; got {value!r}.")


def _number(value: Any) -> float:
    """A real number, which may be an array's only one, as Python's; NaN if it is none."""
    plain = value.item() if getattr(value, "ndim", None) == 0 else value
    real = isinstance(plain, int | float) and not isinstance(plain, bool)
    return float(plain) if real else math.nan
