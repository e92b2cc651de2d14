"""What can be looked at while a program runs, and what only while it is being traced."""

from collections.abc import Callable
from typing import Any

import numpy as np
from keras import ops


def concrete(tensor: Any) -> np.ndarray | None:
    """The tensor's values, or `None` where it has none yet: inside `jit`, a graph, a vmap.

    Args:
        tensor: A tensor of the backend, or anything NumPy reads.

    Returns:
        A NumPy array of the same shape, or `None`.
    """
    try:
        values = ops.convert_to_numpy(tensor)
    except Exception:
        # Each backend refuses with an exception of its own, and they share no base class.
        return None
    return values if isinstance(values, np.ndarray) else None


def choose(flag: Any, branch: Callable[[], Any], otherwise: Callable[[], Any]) -> Any:
    """Run one of two branches: at once where the flag is known, as a conditional where not.

    Args:
        flag: A boolean scalar tensor.
        branch: Called where it is true.
        otherwise: Called where not; returns the same structure.

    Returns:
        What the branch returned.
    """
    value = concrete(flag)
    if value is None:
        return ops.cond(flag, branch, otherwise)
    return branch() if value else otherwise()
