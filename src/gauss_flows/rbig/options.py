"""Faults that the options of a closed-form fit show by themselves."""

from typing import TypeGuard

import numpy as np


def check_count(name: str, value: object, alternative: str = "") -> None:
    """Refuse what is not a positive integer.

    Args:
        name: The option's name.
        value: Its value.
        alternative: What else it may be, for the message.

    Raises:
        ValueError: If it is none.

    Example:
        >>> from gauss_flows.rbig.options import check_count
        >>> check_count("n_components", 0)
        Traceback (most recent call last):
            ...
        ValueError: Expected n_components to be a positive integer; got 0.
    """
    if not _is_integer(value) or value < 1:
        raise ValueError(f"Expected {name} to be a positive integer{alternative}; got {value!r}.")


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse what is no integer, or too small a one.

    Args:
        name: The option's name.
        value: Its value.
        least: The smallest allowed.

    Raises:
        ValueError: If it is none.
    """
    if not _is_integer(value) or value < least:
        raise ValueError(f"Expected {name} to be an integer of at least {least}; got {value!r}.")


def check_seed(random_state: object) -> None:
    """Refuse what is no seed: every draw is to be repeatable.

    Args:
        random_state: The seed.

    Raises:
        ValueError: If it is not an integer of at least 0.

    Example:
        >>> from gauss_flows.rbig.options import check_seed
        >>> check_seed(None)
        Traceback (most recent call last):
            ...
        ValueError: Expected random_state to be an integer of at least 0; got None.
    """
    check_whole("random_state", random_state, 0)


def _is_integer(value: object) -> TypeGuard[int]:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
