"""Clusters of rows, which mixtures start from."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Labels = NDArray[np.int32]

# Rows from which k-means learns.
_MOST_CLUSTERED = 20_000
# Values times clusters that all starts of k-means may see at a time: few clusters are found from
# several, as one start in ten or so lays two of them into one heap.
_CLUSTER_STARTS_WORK = 1e6


def clusters_of(x: Array, n_clusters: int, *, seed: int = 0) -> Labels:
    """Find clusters by k-means, from no more rows than tell them.

    Args:
        x: Rows of shape (n, d), in units near 1.
        n_clusters: How many; some stay empty where fewer rows are distinct.
        seed: Seed of the starts.

    Returns:
        The number of each row's cluster, shape (n,).
    """
    if n_clusters == 1:
        return np.zeros(len(x), np.int32)
    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    some = x
    if len(x) > _MOST_CLUSTERED:
        some = x[np.random.default_rng([seed, 7]).permutation(len(x))[:_MOST_CLUSTERED]]
    with warnings.catch_warnings():
        # Fewer distinct rows than clusters: some stay empty.
        warnings.simplefilter("ignore", ConvergenceWarning)
        n_starts: Any = int(np.clip(_CLUSTER_STARTS_WORK // (some.size * n_clusters), 1, 5))
        found: Any = KMeans(n_clusters, n_init=n_starts, random_state=seed).fit(some)
    return found.labels_ if some is x else found.predict(x)
