r"""Orthogonal matrices as products of Householder reflections, factored in double precision.

With unit vectors v the reflections are $H = I - 2 v v^\top$.
"""

import numpy as np
from jaxtyping import Float


def reflectors_of(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "n d"]:
    """Unit vectors with H_1 ⋯ H_n = Q, as few as possible: n is the rank of Q − I.

    Args:
        matrix: Q, orthogonal to double precision.

    Returns:
        The vectors, as rows, at most d of them.
    """
    n_dims = len(matrix)
    negligible = 8 * n_dims * np.finfo(np.float64).eps
    reduced = matrix.copy()
    vectors = []
    for k in range(n_dims):  # H_k sends axis k to column k
        column = reduced[k:, k]
        vector = np.zeros(n_dims)
        vector[k:] = column
        # column[0] − 1 without cancellation, for a column of length 1.
        rest = column[1:] @ column[1:]
        vector[k] = -rest / (1 + column[0]) if column[0] > 0 else column[0] - 1
        length = np.linalg.norm(vector)
        if length > negligible:
            vector /= length
            reduced -= 2 * np.outer(vector, vector @ reduced)
            vectors.append(vector)
    return np.array(vectors).reshape(-1, n_dims)


def padded_reflectors(
    vectors: Float[np.ndarray, "n d"], n_reflectors: int
) -> Float[np.ndarray, "r d"]:
    """More vectors for the same product: pairs that cancel, and a zero if one is left over.

    Args:
        vectors: Unit vectors, as rows.
        n_reflectors: The number r wanted, at least as many.

    Returns:
        All r; the pairs lie outside the span of the others as long as there is room.
    """
    n_needed, n_dims = vectors.shape
    n_pairs, n_zeros = divmod(n_reflectors - n_needed, 2)
    directions = np.linalg.svd(vectors, full_matrices=True)[2]
    spare = directions[(n_needed + np.arange(n_pairs)) % n_dims]
    return np.concatenate([vectors, np.repeat(spare, 2, axis=0), np.zeros((n_zeros, n_dims))])
