"""A shift and a scale for every coordinate, set from data."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.bijections.orthogonal import check_n_dims


class ActNorm(AbstractBijection):
    r"""Trainable shift and scale, the identity until data set them.

    $$z_j = (x_j - m_j)\, e^{-s_j}, \qquad \mathrm{log\_det} = -\sum_j s_j.$$

    Args:
        n_dims: Number of coordinates d.

    Raises:
        ValueError: if `n_dims` < 1.

    References:
        Kingma & Dhariwal, "Glow: Generative Flow with Invertible 1×1 Convolutions" (2018).

    Example:
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from gauss_flows.bijections import ActNorm
        >>> x = jnp.array([[1.0, 10.0], [3.0, 30.0]])
        >>> jax.vmap(ActNorm.from_data(x).transform)(x).round(4)
        Array([[-1., -1.],
               [ 1.,  1.]], dtype=float32)
    """

    loc: Float[Array, " n_dims"]
    log_scale: Float[Array, " n_dims"]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, n_dims: int):
        check_n_dims(n_dims)
        self.loc = jnp.zeros(n_dims)
        self.log_scale = jnp.zeros(n_dims)
        self.shape = (n_dims,)
        self.cond_shape = None

    @classmethod
    def from_data(cls, x: Float[ArrayLike, "n_rows n_dims"]) -> "ActNorm":
        """The layer that gives these data mean 0 and variance 1 in every coordinate.

        Args:
            x: Data of shape (n_rows, n_dims).

        Returns:
            The layer, trainable from there.

        Raises:
            ValueError: if `x` is no table of finite numbers or a column is constant.
        """
        table = as_table(x)
        low, high = table.min(axis=0), table.max(axis=0)
        constant = np.flatnonzero(low == high)
        if constant.size:
            column = constant[0]
            raise ValueError(
                "Expected columns that vary, so that a scale exists; got a constant column "
                f"{column}, which is {low[column]:g} in every row."
            )
        loc = table.mean(axis=0)
        # Squares of the values relative to their range neither overflow nor underflow.
        span = high - low
        deviation = span * np.sqrt(np.mean(((table - loc) / span) ** 2, axis=0))
        return eqx.tree_at(
            lambda layer: (layer.loc, layer.log_scale),
            cls(table.shape[1]),
            (jnp.asarray(loc, float), jnp.asarray(np.log(deviation), float)),
        )

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Standardise: z of shape (n_dims,) and the log-determinant in nats."""
        x = jnp.asarray(x)
        return (x - self.loc) * jnp.exp(-self.log_scale), -jnp.sum(self.log_scale)

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Undo it: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        y = jnp.asarray(y)
        return y * jnp.exp(self.log_scale) + self.loc, jnp.sum(self.log_scale)


def as_table(x: ArrayLike) -> Float[np.ndarray, "n_rows n_dims"]:
    """The data in double precision, once they are seen to be rows of finite numbers."""
    table = np.asarray(x)
    if table.dtype.kind not in "fiub":
        raise ValueError(f"Expected real numbers; got {table.dtype}.")
    if table.ndim != 2 or table.size == 0:
        raise ValueError(
            f"Expected data of shape (n_rows, n_dims), neither of them 0; got {table.shape}."
        )
    table = table.astype(np.float64)
    faulty = np.argwhere(~np.isfinite(table))
    if len(faulty):
        row, column = faulty[0]
        raise ValueError(
            f"Expected finite numbers; got {table[row, column]} in row {row}, column {column}."
        )
    return table
