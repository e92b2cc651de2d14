"""Many rows through one compiled function, whatever their number."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

_FEWEST, _MOST = 256, 16_384


def in_parts(function: Callable[..., Any], *rows: np.ndarray) -> Any:
    """Apply a function to rows, a part at a time, in parts of few different sizes.

    A compiled function is compiled anew for every shape, which takes longer than most tables do
    to go through it. Parts are of 256 rows or twice, four times … as many, at most 16 384; the
    last one is filled up with copies of its last row.

    Args:
        function: What to apply: it takes each of the arrays with so many rows.
        rows: Arrays of n rows, shape (n, ...).

    Returns:
        What the function gives of all rows, as NumPy arrays.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from gauss_flows.numerics.in_parts import in_parts
        >>> in_parts(jax.jit(lambda x: x.sum(1)), np.ones((300, 2))).shape
        (300,)
    """
    n_rows = len(rows[0])
    size = min(max(_FEWEST, 1 << (n_rows - 1).bit_length()), _MOST)
    parts = []
    for start in range(0, max(n_rows, 1), size):
        part = [np.asarray(one[start : start + size]) for one in rows]
        parts.append(function(*(jnp.asarray(_filled(one, size)) for one in part)))
    return jax.tree.map(lambda *found: np.concatenate(found)[:n_rows], *parts)


def _filled(rows: np.ndarray, size: int) -> np.ndarray:
    missing = [(0, size - len(rows)), *[(0, 0)] * (rows.ndim - 1)]
    return np.pad(rows, missing, mode="edge" if len(rows) else "constant")
