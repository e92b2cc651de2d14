"""Faults that the arguments of a density show by themselves."""

import math
from collections.abc import Iterable
from numbers import Integral, Real
from typing import TypeGuard

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PRNGKeyArray


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


def random_key(key: object) -> PRNGKeyArray:
    """Take a random key of JAX.

    Args:
        key: The key, of either of JAX's kinds.

    Returns:
        The key.

    Raises:
        ValueError: If it is none.
    """
    if isinstance(key, jax.Array | np.ndarray) and (
        (jnp.issubdtype(key.dtype, jax.dtypes.prng_key) and key.ndim == 0)
        or (key.dtype == np.uint32 and key.ndim == 1)
    ):
        return jnp.asarray(key)
    raise ValueError(f"Expected key to be a random key such as jax.random.key(0); got {key!r}.")


def reals(name: str, values: object) -> Array:
    """Take an array of real numbers, or what JAX makes one of.

    Args:
        name: The argument's name, for the message.
        values: Its value.

    Returns:
        The array, of floats.

    Raises:
        ValueError: If it is none.
    """
    try:
        found = values if isinstance(values, jax.Array) else np.asarray(values)
    except ValueError:  # ragged lists
        found = np.asarray(None)
    floating = jnp.issubdtype(found.dtype, jnp.floating)
    if not floating and found.dtype.kind not in "biu":
        raise ValueError(f"Expected {name} to be an array of real numbers; got {values!r}.")
    return jnp.asarray(found, None if floating else float)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)
