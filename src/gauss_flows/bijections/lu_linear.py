"""Trainable invertible matrices in LU form."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from flowjax.bijections import AbstractBijection
from jax.scipy.linalg import solve_triangular
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray
from paramax import unwrap

from gauss_flows.bijections.orthogonal import Matrix, check_n_dims, check_square

_START_SCALE = 0.01


class LULinearPermute(AbstractBijection):
    r"""Trainable linear map that is a fixed permutation times triangular factors.

    $$z = P L U x, \qquad L_{ii} = 1, \qquad U_{ii} = \pm e^{u_i}, \qquad
    \mathrm{log\_det} = \sum_i u_i.$$

    The map is invertible for any parameters. The permutation P and the signs of U's diagonal are
    fixed; the signs are all positive unless `from_matrix` needs others.

    Args:
        n_dims: Number of coordinates d.
        key: Random key of the permutation and of the factors, which start close to the identity.

    Raises:
        ValueError: if `n_dims` < 1.

    References:
        Oliva et al., "Transformation Autoregressive Networks" (2018); Kingma & Dhariwal, "Glow:
        Generative Flow with Invertible 1×1 Convolutions" (2018).

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows.bijections import LULinearPermute
        >>> layer = LULinearPermute.from_matrix(jnp.array([[0.0, 2.0], [3.0, 0.0]]))
        >>> z, log_det = layer.transform_and_log_det(jnp.array([1.0, 1.0]))
        >>> print(z, log_det, jnp.log(6.0))
        [2. 3.] 1.7917595 1.7917595
    """

    factors: Float[Array, "n_dims n_dims"]  # L below the diagonal, U above, log|diag U| on it
    permutation: Int[Array, " n_dims"]
    signs: Int[Array, " n_dims"]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, n_dims: int, *, key: PRNGKeyArray):
        check_n_dims(n_dims)
        permutation_key, factors_key = jax.random.split(key)
        self.factors = _START_SCALE * jax.random.normal(factors_key, (n_dims, n_dims))
        self.permutation = jax.random.permutation(permutation_key, n_dims)
        self.signs = jnp.ones(n_dims, jnp.int8)
        self.shape = (n_dims,)
        self.cond_shape = None

    @classmethod
    def from_matrix(cls, matrix: Matrix) -> "LULinearPermute":
        """The layer z = M x for a given invertible M, orthogonal or not, trainable from there.

        Args:
            matrix: Invertible matrix of shape (d, d).

        Returns:
            The layer; its `matrix` is M up to rounding.

        Raises:
            ValueError: if the matrix is not square, not finite, or singular.
        """
        values = np.asarray(unwrap(matrix), dtype=np.float64)
        check_square(values.shape)
        if not np.all(np.isfinite(values)):
            raise ValueError("Expected a matrix of finite numbers; got NaN or infinite entries.")
        with warnings.catch_warnings():  # a zero pivot is reported below, as an error
            warnings.simplefilter("ignore", scipy.linalg.LinAlgWarning)
            triangles, swaps = scipy.linalg.lu_factor(values)
        diagonal = np.diagonal(triangles)
        smallest, largest = np.min(np.abs(diagonal)), np.max(np.abs(diagonal))
        if smallest <= len(values) * np.finfo(np.float64).eps * largest:
            raise ValueError(
                "Expected an invertible matrix; got one whose pivots range from "
                f"{smallest:.2g} to {largest:.2g}."
            )
        factors = triangles - np.diag(diagonal) + np.diag(np.log(np.abs(diagonal)))
        order = np.arange(len(values))
        for i, j in enumerate(swaps):
            order[[i, j]] = order[[j, i]]
        return eqx.tree_at(
            lambda layer: (layer.factors, layer.permutation, layer.signs),
            eqx.filter_eval_shape(lambda: cls(len(values), key=jax.random.key(0))),
            (
                jnp.asarray(factors, float),
                jnp.asarray(np.argsort(order), int),
                jnp.asarray(np.sign(diagonal), jnp.int8),
            ),
        )

    @property
    def matrix(self) -> Float[Array, "n_dims n_dims"]:
        """The matrix P L U of shape (n_dims, n_dims)."""
        lower, upper = self._triangles()
        return jnp.matmul(lower, upper, precision="highest")[self.permutation]

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Multiply: z of shape (n_dims,) and the log-determinant in nats."""
        lower, upper = self._triangles()
        # Accelerators multiply float32 in fewer digits unless asked.
        z = jnp.matmul(lower, jnp.matmul(upper, x, precision="highest"), precision="highest")
        return z[self.permutation], jnp.sum(jnp.diagonal(self.factors))

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Solve: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        lower, upper = self._triangles()
        unpermuted = jnp.zeros_like(y).at[self.permutation].set(y, unique_indices=True)
        x = solve_triangular(lower, unpermuted, lower=True, unit_diagonal=True)
        x = solve_triangular(upper, x, lower=False)
        return x, -jnp.sum(jnp.diagonal(self.factors))

    def _triangles(self) -> tuple[Array, Array]:
        diagonal = jnp.exp(jnp.diagonal(self.factors)) * self.signs
        lower = jnp.tril(self.factors, -1) + jnp.eye(self.shape[0], dtype=self.factors.dtype)
        return lower, jnp.triu(self.factors, 1) + jnp.diag(diagonal)
