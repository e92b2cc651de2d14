"""Means over pairs of rows, a part at a time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.distance import cdist

# Distances held at a time.
_AT_ONCE = 4_000_000


def distances(
    z: Float[np.ndarray, "n d"], metric: Literal["euclidean", "sqeuclidean"] = "euclidean"
) -> Iterator[np.ndarray]:
    """Yield the distances of some rows to all rows, until all have had their turn.

    Args:
        z: Rows, shape (n, d).
        metric: `"euclidean"` or `"sqeuclidean"`.

    Yields:
        Distances of the next m rows, shape (m, n).
    """
    step = max(1, _AT_ONCE // len(z))
    for start in range(0, len(z), step):
        yield cdist(z[start : start + step], z, metric)


def parts_of(n: int, most: int, random_state: int) -> list[Int[np.ndarray, " m"]]:
    """Part the numbers of n rows at random into as few parts of at most so many as it takes.

    Args:
        n: Number of rows.
        most: Most rows in a part.
        random_state: Seed.

    Returns:
        Row numbers of each part, whose sizes differ by one at most.
    """
    n_parts = -(-n // most)
    if n_parts == 1:
        return [np.arange(n)]
    return np.array_split(np.random.default_rng([random_state, n]).permutation(n), n_parts)


def null_samples(n: int, d: int, n_samples: int, random_state: int) -> Iterator[np.ndarray]:
    """Yield samples of n rows of N(0, I)."""
    rng = np.random.default_rng([random_state, n, d])
    for _ in range(n_samples):
        yield rng.normal(size=(n, d))
