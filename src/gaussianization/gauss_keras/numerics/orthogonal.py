"""Orthogonal matrices in double-precision NumPy: checked, drawn, found in data, factored."""

from typing import Any

import numpy as np
from jaxtyping import Float

# A product of float32 rotations stays within this of orthogonal; a faulty matrix does not.
_TOLERANCE = 1e-5
# Entries this close count as equally large where the largest decides a sign.
_TIE = 1e-6


def checked_orthogonal(matrix: Any, dtype: str = "float64") -> Float[np.ndarray, "d d"]:
    """The matrix in double precision and orthogonal to the last digit, if it is close to it.

    Args:
        matrix: Anything array-like of shape (d, d).
        dtype: The precision that counts: a matrix that is orthogonal to its rounding is
            returned as it came.

    Returns:
        The matrix, or where that is not orthogonal enough its nearest orthogonal one.

    Raises:
        ValueError: If it is not square or not orthogonal.

    Example:
        >>> from gaussianization.gauss_keras.numerics.orthogonal import checked_orthogonal
        >>> checked_orthogonal([[0.0, 1.0], [1.0, 0.1]])
        Traceback (most recent call last):
            ...
        ValueError: Expected no entry of QᵀQ − I above 1e-05, as of an orthogonal matrix Q.
        Received: max|QᵀQ − I|=0.1
    """
    values = np.asarray(matrix, dtype=np.float64)
    if values.ndim != 2 or values.shape[0] != values.shape[1] or values.size == 0:
        raise ValueError(f"Expected a square matrix. Received: matrix.shape={values.shape}")
    identity = np.eye(len(values))
    deviation = np.max(np.abs(values.T @ values - identity))
    if not deviation <= _TOLERANCE:  # also true of NaN
        raise ValueError(
            f"Expected no entry of QᵀQ − I above {_TOLERANCE:g}, as of an orthogonal matrix Q. "
            f"Received: max|QᵀQ − I|={deviation:.2g}"
        )
    # What rounding every entry of an orthogonal matrix can do, and what this product can.
    rounding = max(2 * np.finfo(dtype).eps, 8 * len(values) * np.finfo(np.float64).eps)
    if deviation > rounding:
        for _ in range(2):  # each step squares the deviation
            values = values @ (1.5 * identity - 0.5 * values.T @ values)
    return values


def principal_axes(x: Float[np.ndarray, "n d"]) -> Float[np.ndarray, "d d"]:
    """The rotation to the principal axes of finite data, the largest variance first.

    Args:
        x: Rows, shape (n, d); they need not be centred.

    Returns:
        Q, shape (d, d), an axis a row; each with the sign that makes its largest entry positive.

    References:
        Pearson (1901), *On Lines and Planes of Closest Fit to Systems of Points in Space*.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras.numerics.orthogonal import principal_axes
        >>> principal_axes(np.array([[1.0, 1.0], [-1.0, -1.0], [0.1, -0.1]])).round(2).tolist()
        [[0.71, 0.71], [0.71, -0.71]]
    """
    # The directions do not depend on the scale, and squares of unit sizes do not overflow.
    centred = _of_unit_size(x)
    centred = _of_unit_size(centred - centred.mean(axis=0))
    _, axes = np.linalg.eigh(centred.T @ centred)
    rows = axes[:, ::-1].T
    sizes = np.abs(rows)
    peaks = np.argmax(sizes >= (1 - _TIE) * sizes.max(axis=1, keepdims=True), axis=1)
    return rows * np.where(rows[np.arange(len(rows)), peaks] < 0, -1.0, 1.0)[:, None]


def random_rotation(n_dims: int, rng: np.random.Generator) -> Float[np.ndarray, "d d"]:
    """A matrix drawn uniformly from all orthogonal ones, of either determinant.

    Args:
        n_dims: Number of coordinates d.
        rng: Source of chance.

    Returns:
        Q, shape (d, d).

    References:
        Mezzadri (2007), *How to Generate Random Matrices from the Classical Compact Groups*.
    """
    q, r = np.linalg.qr(rng.standard_normal((n_dims, n_dims)))
    # The factorisation's own choice of signs would make Q anything but uniform.
    return q * np.where(np.diagonal(r) < 0, -1.0, 1.0)


def random_reflectors(
    n_reflectors: int, n_dims: int, rng: np.random.Generator
) -> Float[np.ndarray, "r d"]:
    """Vectors of length √d whose reflections send axis k to a random direction k, then Gaussian.

    Independent Gaussian vectors alone would leave the product near the identity: its mean is
    (1 − 2/d)^r I.

    Args:
        n_reflectors: Number of vectors r.
        n_dims: Number of coordinates d.
        rng: Source of chance.

    Returns:
        The vectors, as rows; the first min(r, d − 1) columns of their product are Haar.

    References:
        Stewart (1980), *The Efficient Generation of Random Orthogonal Matrices with an
        Application to Condition Estimators*.
    """
    vectors = rng.standard_normal((n_reflectors, n_dims))
    n_axes = min(n_reflectors, n_dims)
    head = np.triu(vectors[:n_axes])
    # Direction minus axis: the reflection takes one to the other. The usual choice of sign, plus
    # where that is larger, would never reach half of the sphere.
    head[np.arange(n_axes), np.arange(n_axes)] -= np.linalg.norm(head, axis=1)
    if n_axes == n_dims:
        # The last axis has itself left, or its opposite: the latter, so that det Q is (−1)^r.
        head[-1] = np.eye(n_dims)[-1]
    vectors[:n_axes] = head
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * (n_dims**0.5 / np.maximum(lengths, np.finfo(np.float64).tiny))


def _of_unit_size(x):
    return x / max(np.max(np.abs(x)), np.finfo(np.float64).tiny)
