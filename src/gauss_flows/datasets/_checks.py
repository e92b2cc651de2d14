"""Faults that the arguments of a density show by themselves."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeGuard


def real(name: str, value: object) -> float:
    """Take a finite number.

    Args:
        name: The argument's name, for the message.
        value: Its value.

    Returns:
        The number.

    Raises:
        ValueError: If it is none.

    Example:
        >>> from gauss_flows.datasets._checks import real
        >>> real("angle", float("nan"))
        Traceback (most recent call last):
            ...
        ValueError: Expected angle to be a finite number; got nan.
    """
    if not _is_number(value) or not math.isfinite(value):
        raise ValueError(f"Expected {name} to be a finite number; got {value!r}.")
    return float(value)


def positive(name: str, value: object) -> float:
    """Take a finite number above 0.

    Args:
        name: The argument's name, for the message.
        value: Its value.

    Returns:
        The number.

    Raises:
        ValueError: If it is none.
    """
    if not _is_number(value) or not 0 < value < math.inf:
        raise ValueError(f"Expected {name} to be a finite number above 0; got {value!r}.")
    return float(value)


def positives(name: str, values: object) -> tuple[float, ...]:
    """Take one or more finite numbers above 0.

    Args:
        name: The argument's name, for the message.
        values: Its values.

    Returns:
        The numbers.

    Raises:
        ValueError: If they are none.
    """
    found = tuple(values) if isinstance(values, Iterable) else ()
    if not found or not all(_is_number(value) and 0 < value < math.inf for value in found):
        raise ValueError(f"Expected {name} to be finite numbers above 0; got {values!r}.")
    return tuple(float(value) for value in found)


def whole(name: str, value: object, least: int) -> int:
    """Take an integer that is large enough.

    Args:
        name: The argument's name, for the message.
        value: Its value.
        least: The smallest allowed.

    Returns:
        The integer.

    Raises:
        ValueError: If it is none, or too small.
    """
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        raise ValueError(f"Expected {name} to be an integer of at least {least}; got {value!r}.")
    return int(value)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)
