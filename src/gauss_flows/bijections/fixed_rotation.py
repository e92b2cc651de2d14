"""Rotations that training leaves alone: given, random, or found in data."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from paramax import NonTrainable, unwrap

from gauss_flows.bijections.actnorm import as_table
from gauss_flows.bijections.orthogonal import (
    AbstractRotation,
    Matrix,
    check_n_dims,
    check_square,
    checked_orthogonal,
)

_ICA_ITERATIONS = 500
# Entries this close count as equally large where the largest decides a sign.
_TIE = 1e-6


class FixedRotation(AbstractRotation):
    r"""Rotation z = Q x by a matrix that is not trained.

    Args:
        matrix: Orthogonal matrix Q of shape (d, d), of determinant 1 or −1. What rounding has
            taken from its orthogonality is restored.

    Raises:
        ValueError: if the matrix is not square or not orthogonal.

    References:
        Laparra, Camps-Valls & Malo, "Iterative Gaussianization: from ICA to Random Rotations"
        (2011).

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows.bijections import FixedRotation
        >>> x = jnp.array([[1.0, 1.0], [-1.0, -1.0], [0.5, -0.5], [-0.5, 0.5]])
        >>> FixedRotation.from_data(x).transform(x[0]).round(4)
        Array([1.4142, 0.    ], dtype=float32)
        >>> FixedRotation(jnp.array([[1.0, 0.1], [0.0, 1.0]]))
        Traceback (most recent call last):
            ...
        ValueError: Expected no entry of QᵀQ − I above 1e-05, as of an orthogonal matrix; got 0.1.
    """

    matrix: NonTrainable[Array]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, matrix: Matrix):
        values = unwrap(matrix)
        if isinstance(values, Tracer):  # inside a jitted function there are no values to look at
            check_square(values.shape)
        else:
            values = checked_orthogonal(values)
        self.matrix = NonTrainable(jnp.asarray(values, float))
        self.shape = (self.matrix.tree.shape[0],)
        self.cond_shape = None

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> "FixedRotation":
        """The same as the constructor, under the name that all rotations share."""
        return cls(matrix)

    @classmethod
    def from_data(
        cls,
        x: Float[ArrayLike, "n_rows n_dims"],
        *,
        sample_weight: Float[ArrayLike, " n_rows"] | None = None,
    ) -> "FixedRotation":
        """Rotation to the principal axes of the data, the largest variance first.

        The sign of every axis is such that its largest entry is positive.

        Args:
            x: Data of shape (n_rows, n_dims); they need not be centred.
            sample_weight: Weight of every row, of shape (n_rows,), not negative; `None` for equal
                ones.

        Returns:
            The layer, whose z has no correlation between coordinates on these data.

        Raises:
            ValueError: if `x` is no table of finite numbers with at least 2 rows, or a weight is
                negative or not finite, or all are zero.

        References:
            Pearson, "On Lines and Planes of Closest Fit to Systems of Points in Space" (1901).
        """
        _, axes, _ = _principal_axes(_centred(_table_of_rows(x), sample_weight), sample_weight)
        return cls(_with_positive_peaks(axes.T))

    @classmethod
    def ica(cls, x: Float[ArrayLike, "n_rows n_dims"], random_state: int = 0) -> "FixedRotation":
        """Rotation to directions that are as independent as a rotation can make them.

        scikit-learn's FastICA unmixes the whitened data; with each of its directions, in the
        coordinates given, scaled to length 1, the nearest orthogonal matrix is taken. If the data
        are an orthogonal mixture of independent sources, that is the unmixing itself.

        Args:
            x: Data of shape (n_rows, n_dims); they need not be centred or white.
            random_state: Seed of FastICA's start.

        Returns:
            The layer; the principal axes, with a warning, where FastICA does not converge (as on
            normal data, where no direction is better than another) or the covariance is singular.

        Raises:
            ValueError: if `x` is no table of finite numbers with at least 2 rows.

        References:
            Hyvärinen, "Fast and Robust Fixed-Point Algorithms for Independent Component Analysis"
            (1999).
        """
        centred = _centred(_table_of_rows(x), None)
        variances, axes, rank = _principal_axes(centred, None)
        n_dims = len(axes)
        fallback = _with_positive_peaks(axes.T)
        if n_dims == 1:
            return cls(fallback)
        if rank < n_dims:
            warnings.warn(
                f"ICA needs a covariance of full rank; got rank {rank} of {n_dims}. The rotation "
                "to the principal axes is used instead.",
                stacklevel=2,
            )
            return cls(fallback)
        whitening = axes.T / np.sqrt(variances)[:, None]
        unmixing = _fast_ica(centred @ whitening.T, random_state)
        if unmixing is None:
            warnings.warn(
                f"FastICA did not converge in {_ICA_ITERATIONS} iterations, as happens where the "
                "data are close to normal. The rotation to the principal axes is used instead.",
                stacklevel=2,
            )
            return cls(fallback)
        directions = unmixing @ whitening
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        left, _, right = np.linalg.svd(directions)
        return cls(_with_positive_peaks(left @ right))

    @classmethod
    def random(cls, key: PRNGKeyArray, n_dims: int) -> "FixedRotation":
        """A rotation drawn uniformly from all orthogonal matrices, of either determinant.

        Args:
            key: Random key.
            n_dims: Number of coordinates d.

        Returns:
            The layer.

        Raises:
            ValueError: if `n_dims` < 1.

        References:
            Mezzadri, "How to Generate Random Matrices from the Classical Compact Groups" (2007).
        """
        check_n_dims(n_dims)
        q, r = jnp.linalg.qr(jax.random.normal(key, (n_dims, n_dims)))
        # The factorisation's own choice of signs would make Q anything but uniform.
        return cls(q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0))

    def _orthogonal_matrix(self) -> Array:
        return unwrap(self.matrix)


def _table_of_rows(x: ArrayLike) -> np.ndarray:
    table = as_table(x)
    if len(table) < 2:
        raise ValueError("Expected at least 2 rows, to have directions to find; got 1.")
    return table


def _centred(table: np.ndarray, sample_weight: ArrayLike | None) -> np.ndarray:
    """Data of weighted mean zero and unit size: the directions do not depend on the scale."""
    if sample_weight is not None:
        weights = np.asarray(sample_weight, dtype=np.float64)
        if weights.shape != (len(table),):
            raise ValueError(
                f"Expected sample_weight of shape ({len(table)},); got {weights.shape}."
            )
        if not (np.all(np.isfinite(weights)) and np.all(weights >= 0) and np.any(weights > 0)):
            raise ValueError(
                "Expected finite weights of at least 0, not all of them 0; got weights from "
                f"{weights.min():g} to {weights.max():g}."
            )
    table = table / max(np.max(np.abs(table)), np.finfo(np.float64).tiny)
    centred = table - np.average(table, axis=0, weights=sample_weight)
    return centred / max(np.max(np.abs(centred)), np.finfo(np.float64).tiny)


def _principal_axes(
    centred: np.ndarray, sample_weight: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray, int]:
    """Variances, falling; their axes as columns; and how many variances are not rounding."""
    if sample_weight is None:
        covariance = centred.T @ centred / len(centred)
    else:
        weights = np.asarray(sample_weight, dtype=np.float64)
        covariance = (centred.T * (weights / np.sum(weights))) @ centred
    variances, axes = np.linalg.eigh(covariance)
    variances, axes = variances[::-1], axes[:, ::-1]
    rounding = 8 * len(axes) * np.finfo(np.float64).eps * variances[0]
    return variances, axes, int(np.sum(variances > rounding))


def _with_positive_peaks(rows: np.ndarray) -> np.ndarray:
    """Rows with the sign that makes the (first) largest entry positive."""
    sizes = np.abs(rows)
    peaks = np.argmax(sizes >= (1 - _TIE) * sizes.max(axis=1, keepdims=True), axis=1)
    return rows * np.where(rows[np.arange(len(rows)), peaks] < 0, -1.0, 1.0)[:, None]


def _fast_ica(white: np.ndarray, random_state: int) -> np.ndarray | None:
    """FastICA's orthogonal unmixing of white data, or nothing if it does not converge."""
    from sklearn.decomposition import FastICA  # slow to import, and few need it
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        warnings.simplefilter("error", ConvergenceWarning)
        try:
            ica = FastICA(
                whiten=False,  # pyright: ignore[reportArgumentType]
                max_iter=_ICA_ITERATIONS,
                random_state=random_state,
            )
            return ica.fit(white).components_
        except ConvergenceWarning:
            return None
