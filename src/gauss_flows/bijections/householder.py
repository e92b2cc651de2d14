"""Trainable rotations as products of Householder reflections."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, Float, PRNGKeyArray

from gauss_flows.bijections.orthogonal import (
    AbstractRotation,
    Matrix,
    check_n_dims,
    checked_orthogonal,
)
from gaussianization.reflectors import padded_reflectors, reflectors_of


class HouseholderRotation(AbstractRotation):
    r"""Trainable rotation, the product of r reflections.

    $$Q = H_1 H_2 \cdots H_r, \qquad H_i = I - 2\,\frac{v_i v_i^\top}{\lVert v_i \rVert^2},
    \qquad z = Q x.$$

    Q is orthogonal for any vectors, and only their directions matter. It is built as a matrix,
    from the vectors alone: $Q = I - W^\top V$ with the vectors as rows of V and W the solution of a
    triangular system (the compact WY form).

    det Q = (−1)^r. A vector of zeros stands for the identity in place of a reflection and gets no
    gradient, which is how the other determinant is reached: training stays on one of the two
    components of O(d), and d − 1 reflections reach all of it.

    Args:
        n_dims: Number of coordinates d.
        n_reflections: Number of reflections r; `None` for `n_dims`.
        key: Random key of the start, at which the first min(r, d − 1) columns of Q are uniformly
            distributed orthonormal vectors.

    Raises:
        ValueError: if `n_dims` or `n_reflections` is below 1.

    References:
        Schreiber & Van Loan, "A Storage-Efficient WY Representation for Products of Householder
        Transformations" (1989); Stewart, "The Efficient Generation of Random Orthogonal Matrices
        with an Application to Condition Estimators" (1980); Tomczak & Welling, "Improving
        Variational Auto-Encoders using Householder Flow" (2016).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows.bijections import HouseholderRotation
        >>> rotation = HouseholderRotation(3, key=jr.key(0))
        >>> z, log_det = rotation.transform_and_log_det(jnp.array([3.0, 0.0, 4.0]))
        >>> print(f"{jnp.linalg.norm(z):.3f} {log_det:.1f}")
        5.000 0.0
    """

    vectors: Float[Array, "n_reflections n_dims"]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, n_dims: int, n_reflections: int | None = None, *, key: PRNGKeyArray):
        check_n_dims(n_dims)
        n_reflections = n_dims if n_reflections is None else n_reflections
        if n_reflections < 1:
            raise ValueError(f"Expected n_reflections >= 1; got {n_reflections}.")
        self.shape = (n_dims,)
        self.cond_shape = None
        self.vectors = _random_vectors(key, n_reflections, n_dims)

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> "HouseholderRotation":
        """The layer whose matrix is a given Q, with d vectors, trainable from there.

        Reflections that Q does not need come in equal pairs, which cancel until training parts
        them; if one is left over, its vector is zero.

        Args:
            matrix: Orthogonal matrix of shape (d, d), of determinant 1 or −1.

        Returns:
            The layer; its `matrix` is Q up to rounding.

        Raises:
            ValueError: if the matrix is not square or not orthogonal.

        Example:
            >>> import jax.numpy as jnp
            >>> from gauss_flows.bijections import HouseholderRotation
            >>> turn = jnp.array([[0.0, 1.0], [-1.0, 0.0]])
            >>> bool(jnp.allclose(HouseholderRotation.from_matrix(turn).matrix, turn, atol=1e-6))
            True
        """
        vectors = reflectors_of(checked_orthogonal(matrix))
        n_dims = vectors.shape[1]
        vectors = padded_reflectors(vectors, n_dims)
        layer = eqx.filter_eval_shape(lambda: cls(n_dims, key=jax.random.key(0)))
        scaled = jnp.asarray(vectors * n_dims**0.5, float)
        return eqx.tree_at(lambda rotation: rotation.vectors, layer, scaled)

    @property
    def matrix(self) -> Float[Array, "n_dims n_dims"]:
        """The orthogonal matrix Q of shape (n_dims, n_dims)."""
        vectors, is_zero = _scaled_rows(self.vectors)
        products = jnp.matmul(vectors, vectors.T, precision="highest")
        triangle = 2 * jnp.triu(products, 1) + jnp.diag(jnp.diagonal(products) + is_zero)
        # Row i of `partial` is 2 H_1 ⋯ H_i-1 v_i / |v_i|², of length 2 / |v_i| however the vectors
        # lie: the triangular solve loses no digits to vectors that nearly coincide.
        partial = 2 * solve_triangular(triangle, vectors, trans="T", lower=False)
        identity = jnp.eye(self.shape[0], dtype=vectors.dtype)
        return identity - jnp.matmul(partial.T, vectors, precision="highest")

    def _orthogonal_matrix(self) -> Array:
        return self.matrix


def _scaled_rows(vectors: Array) -> tuple[Array, Array]:
    """Rows whose largest entry is ±1, and which rows are zeros and stay so."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(vectors), axis=1))
    is_zero = largest == 0
    # Q does not depend on the lengths, so the scale may be held fixed: no square can overflow.
    return vectors / jnp.where(is_zero, 1.0, largest)[:, None], is_zero


@partial(jax.jit, static_argnums=(1, 2))
def _random_vectors(key: PRNGKeyArray, n_reflections: int, n_dims: int) -> Array:
    """Vectors of length √d whose reflections send axis k to a random direction k, then Gaussian.

    Independent Gaussian vectors alone would leave Q near the identity: their product has mean
    (1 − 2/d)^r I.
    """
    vectors = jax.random.normal(key, (n_reflections, n_dims))
    n_axes = min(n_reflections, n_dims)
    head = jnp.triu(vectors[:n_axes])
    lengths = jnp.linalg.norm(head, axis=1)
    # Direction minus axis: the reflection takes one to the other. The usual choice of sign, plus
    # where that is larger, would never reach half of the sphere.
    head = head.at[np.arange(n_axes), np.arange(n_axes)].add(-lengths)
    if n_axes == n_dims:
        # The last axis has itself left, or its opposite: the latter, so that det Q is (−1)^r.
        head = head.at[-1].set(jnp.zeros(n_dims).at[-1].set(1.0))
    vectors = jnp.concatenate([head, vectors[n_axes:]])
    lengths = jnp.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors * (n_dims**0.5 / jnp.maximum(lengths, jnp.finfo(vectors.dtype).tiny))
