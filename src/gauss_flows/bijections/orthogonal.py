"""Orthogonal matrices as layers: what all rotations share, and the Cayley/exponential one."""

import math
from abc import abstractmethod
from functools import partial
from typing import Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray
from paramax import NonTrainable, unwrap

Matrix: TypeAlias = Float[ArrayLike, "n_dims n_dims"] | NonTrainable

# A product of float32 rotations stays within this of orthogonal; a faulty matrix does not.
_ORTHOGONALITY_TOLERANCE = 1e-5
# Sign flips stop here: each one before multiplies a bounded determinant by more than 1.1².
_LARGEST_SKEW_ENTRY = 1.1
# The eigenvalues of A fill a semicircle of radius twice this: a Cayley transform then has trace 0
# on average, and the angles of an exponential stay within half a turn.
_START_SPREAD = {"cayley": 2**0.5, "exponential": 0.5 * math.pi}


class AbstractRotation(AbstractBijection):
    r"""A layer z = Q x with an orthogonal Q, so that log_det = 0 and x = Qᵀ z.

    A subclass says what Q is. Q depends on the parameters and not on x, so that under `jax.vmap`
    it is built once for the whole batch.
    """

    @abstractmethod
    def _orthogonal_matrix(self) -> Float[Array, "n_dims n_dims"]:
        """Q of shape (n_dims, n_dims), from the parameters."""

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Rotate: z = Q x, of shape (n_dims,), and log_det = 0."""
        z = _matvec(self._orthogonal_matrix(), x)
        return z, jnp.zeros((), z.dtype)

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Rotate back: x = Qᵀ z, of shape (n_dims,), and log_det = 0."""
        x = _matvec(self._orthogonal_matrix().T, y)
        return x, jnp.zeros((), x.dtype)


class OrthogonalRotation(AbstractRotation):
    r"""Trainable rotation through a skew-symmetric matrix A and fixed signs D.

    $$Q = (I - A)(I + A)^{-1} D \quad \text{(Cayley)} \qquad \text{or} \qquad
    Q = e^{A} D \quad \text{(exponential)}, \qquad A = -A^\top,\ D = \mathrm{diag}(\pm 1).$$

    The first factor has determinant 1; D, which training leaves alone, makes det Q = −1 reachable
    and the parametrisation well-conditioned: a Cayley transform has no eigenvalue −1, but for
    every orthogonal Q there are signs with Q D = Cayley(A) and no |A_ij| above 1.

    Args:
        n_dims: Number of coordinates d.
        key: Random key of the start, at which A has independent normal entries, scaled to make Q
            as far from the identity as a uniformly drawn one, and D random signs; `None` starts
            at the identity (or one reflected coordinate).
        method: "cayley" or "exponential".
        reflect: Whether det Q is −1 instead of 1.

    Raises:
        ValueError: if `n_dims` < 1 or `method` is unknown.

    References:
        O'Dorney, "Minimizing the Cayley transform of an orthogonal matrix by multiplying by
        signature matrices" (2014).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows.bijections import OrthogonalRotation
        >>> rotation = OrthogonalRotation(3, key=jr.key(0), reflect=True)
        >>> z, log_det = rotation.transform_and_log_det(jnp.array([3.0, 0.0, 4.0]))
        >>> print(f"{jnp.linalg.norm(z):.3f} {log_det:.1f}")
        5.000 0.0
        >>> print(f"{jnp.linalg.det(rotation.matrix):.3f}")
        -1.000
    """

    skew: Float[Array, " n_planes"]
    signs: Int[Array, " n_dims"]  # integers, so that no optimiser takes them for parameters
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)
    method: Literal["cayley", "exponential"] = eqx.field(static=True)

    def __init__(
        self,
        n_dims: int,
        *,
        key: PRNGKeyArray | None = None,
        method: Literal["cayley", "exponential"] = "cayley",
        reflect: bool = False,
    ):
        check_n_dims(n_dims)
        if method not in ("cayley", "exponential"):
            raise ValueError(f'Expected method "cayley" or "exponential"; got {method!r}.')
        self.shape = (n_dims,)
        self.cond_shape = None
        self.method = method
        determinant = -1 if reflect else 1
        if key is None:
            self.skew = jnp.zeros(n_dims * (n_dims - 1) // 2)
            self.signs = jnp.asarray([determinant] + [1] * (n_dims - 1), jnp.int8)
        else:
            spread = _START_SPREAD[method] / n_dims**0.5
            self.skew, self.signs = _random_start(key, n_dims, spread, determinant)

    @classmethod
    def from_matrix(
        cls, matrix: Matrix, *, method: Literal["cayley", "exponential"] = "cayley"
    ) -> "OrthogonalRotation":
        """The layer whose matrix is a given Q, trainable from there.

        Args:
            matrix: Orthogonal matrix of shape (d, d), of determinant 1 or −1.
            method: "cayley" or "exponential".

        Returns:
            The layer; its `matrix` is Q up to rounding.

        Raises:
            ValueError: if the matrix is not square or not orthogonal.

        Example:
            >>> import jax.numpy as jnp
            >>> from gauss_flows.bijections import OrthogonalRotation
            >>> swap = jnp.array([[0.0, 1.0], [1.0, 0.0]])
            >>> bool(jnp.allclose(OrthogonalRotation.from_matrix(swap).matrix, swap))
            True
        """
        target = checked_orthogonal(matrix)
        n_dims = target.shape[0]
        signs = _well_conditioned_signs(target)
        proper = target * signs
        skew = _inverse_cayley(proper) if method == "cayley" else _logarithm(proper)
        layer = cls(n_dims, method=method)
        return eqx.tree_at(
            lambda rotation: (rotation.skew, rotation.signs),
            layer,
            (jnp.asarray(skew[np.tril_indices(n_dims, -1)], float), jnp.asarray(signs, jnp.int8)),
        )

    @property
    def matrix(self) -> Float[Array, "n_dims n_dims"]:
        """The orthogonal matrix Q of shape (n_dims, n_dims)."""
        identity = jnp.eye(self.shape[0], dtype=self.skew.dtype)
        half = jnp.zeros_like(identity).at[np.tril_indices(self.shape[0], -1)].set(self.skew)
        skew = half - half.T
        if self.method == "cayley":
            proper = 2 * jnp.linalg.inv(identity + skew) - identity
        else:
            proper = jax.scipy.linalg.expm(skew)
        return _polish(proper) * self.signs

    def _orthogonal_matrix(self) -> Array:
        return self.matrix


@partial(jax.jit, static_argnums=1)
def _random_start(
    key: PRNGKeyArray, n_dims: int, spread: float, determinant: int
) -> tuple[Array, Array]:
    """Normal entries of A and signs of a given product."""
    skew_key, signs_key = jax.random.split(key)
    skew = spread * jax.random.normal(skew_key, (n_dims * (n_dims - 1) // 2,))
    signs = jax.random.rademacher(signs_key, (n_dims,), int)
    return skew, signs.at[0].multiply(jnp.prod(signs) * determinant).astype(jnp.int8)


def check_n_dims(n_dims: int) -> None:
    """Refuse a number of coordinates below 1."""
    if n_dims < 1:
        raise ValueError(f"Expected n_dims >= 1; got {n_dims}.")


def check_square(shape: tuple[int, ...]) -> None:
    """Refuse the shape of anything but a square matrix."""
    if len(shape) != 2 or shape[0] != shape[1] or shape[0] == 0:
        raise ValueError(f"Expected a square matrix; got shape {shape}.")


def checked_orthogonal(matrix: Matrix) -> Float[np.ndarray, "n_dims n_dims"]:
    """The matrix in double precision and orthogonal to its last digits, if it is close to it."""
    values = np.asarray(unwrap(matrix), dtype=np.float64)
    check_square(values.shape)
    deviation = np.max(np.abs(values.T @ values - np.eye(len(values))))
    if not deviation <= _ORTHOGONALITY_TOLERANCE:  # also true of NaN
        raise ValueError(
            f"Expected no entry of QᵀQ − I above {_ORTHOGONALITY_TOLERANCE:g}, as of an orthogonal "
            f"matrix; got {deviation:.2g}."
        )
    for _ in range(2):  # each step squares the deviation
        values = values @ (1.5 * np.eye(len(values)) - 0.5 * values.T @ values)
    return values


def _polish(matrix: Array) -> Array:
    """One Newton step to the nearest orthogonal matrix, for what a large A costs in digits."""
    gram = jnp.matmul(matrix.T, matrix, precision="highest")
    # Correcting by the small difference keeps a matrix that is orthogonal already as it is.
    correction = 0.5 * (gram - jnp.eye(len(matrix), dtype=matrix.dtype))
    return matrix - jnp.matmul(matrix, correction, precision="highest")


def _matvec(matrix: Array, x: ArrayLike) -> Array:
    # Accelerators multiply float32 in fewer digits unless asked, which is no rotation any more.
    return jnp.matmul(matrix, x, precision="highest")


def _well_conditioned_signs(matrix: np.ndarray) -> np.ndarray:
    """Signs D such that I + Q D is far from singular.

    det(I + QD) = ± det(D + Q): eliminating D + Q with d_k of its pivot's sign makes every pivot
    at least 1 in size. Flipping the pair d_i, d_j then multiplies the determinant by A_ij², so
    flipping while an entry is above the bound must end.
    """
    n_dims = len(matrix)
    signs = np.ones(n_dims)
    reduced = matrix.copy()
    for k in range(n_dims):
        signs[k] = -1.0 if reduced[k, k] < 0 else 1.0
        reduced[k, k] += signs[k]
        row = reduced[k, k + 1 :] / reduced[k, k]
        reduced[k + 1 :, k + 1 :] -= np.outer(reduced[k + 1 :, k], row)
    while True:
        skew = np.abs(_inverse_cayley(matrix * signs))
        i, j = np.unravel_index(np.argmax(skew), skew.shape)
        if skew[i, j] <= _LARGEST_SKEW_ENTRY:
            return signs
        signs[[i, j]] *= -1


def _inverse_cayley(proper: np.ndarray) -> np.ndarray:
    """A with (I − A)(I + A)⁻¹ = M, which is 2 (I + M)⁻¹ − I."""
    inverse = np.linalg.inv(np.eye(len(proper)) + proper)
    return inverse - inverse.T


def _logarithm(proper: np.ndarray) -> np.ndarray:
    """Real logarithm of a rotation of determinant 1, plane by plane of its real Schur form."""
    form, basis = scipy.linalg.schur(proper, output="real")[:2]
    n_dims = len(form)
    logarithm = np.zeros_like(form)
    k, reflected = 0, []
    while k < n_dims:
        if k + 1 < n_dims and form[k + 1, k] != 0:
            angle = np.arctan2(form[k + 1, k] - form[k, k + 1], form[k, k] + form[k + 1, k + 1])
            logarithm[k + 1, k], logarithm[k, k + 1] = angle, -angle
            k += 2
            continue
        if form[k, k] < 0:
            reflected.append(k)
        k += 1
    # A pair of eigenvalues −1 is half a turn of the plane that its vectors span.
    for i, j in zip(reflected[::2], reflected[1::2], strict=True):
        logarithm[j, i], logarithm[i, j] = np.pi, -np.pi
    logarithm = basis @ logarithm @ basis.T
    return 0.5 * (logarithm - logarithm.T)
