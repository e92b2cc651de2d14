"""A shift and a scale for every coordinate, set from data."""

from typing import Any

import numpy as np
from jaxtyping import Float
from keras import ops

from gaussianization.gauss_keras.bijectors.base import Bijector, check_width
from gaussianization.gauss_keras.registration import REGISTER


@REGISTER
class ActNorm(Bijector):
    r"""Trainable shift and scale, the identity until data set them.

    $$z_j = (x_j - m_j)\, e^{-s_j}, \qquad \mathrm{log\_det} = -\sum_j s_j.$$

    Args:
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

    References:
        Kingma & Dhariwal (2018), *Glow: Generative Flow with Invertible 1×1 Convolutions*.

    Example:
        >>> from gaussianization.gauss_keras import ActNorm
        >>> layer = ActNorm.from_data([[1.0, 10.0], [3.0, 30.0]])
        >>> z, log_det = layer.forward_and_log_det([[1.0, 20.0]])
        >>> [round(float(value), 4) for value in z[0]], round(float(log_det[0]), 4)
        ([-1.0, 0.0], -2.3026)
    """

    def build(self, input_shape: Any) -> None:
        """Create the shifts and log-scales, (d,) each, at zero."""
        super().build(input_shape)
        self.loc = self.add_weight(name="loc", shape=(self.input_dim,), initializer="zeros")
        self.log_scale = self.add_weight(
            name="log_scale", shape=(self.input_dim,), initializer="zeros"
        )

    @classmethod
    def from_data(cls, x: Any, **kwargs: Any) -> "ActNorm":
        """The layer that gives these data mean 0 and variance 1 in every coordinate.

        Args:
            x: Data, shape (n, d).
            **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

        Returns:
            The layer, built and trainable from there.

        Raises:
            ValueError: If ``x`` is no table of finite numbers or a column is constant.
        """
        table = as_table(x)
        layer = cls(**kwargs)
        layer.build((None, table.shape[1]))
        layer.set_from_data(table)
        return layer

    def set_from_data(self, x: Any) -> None:
        """Give these data mean 0 and variance 1 in every coordinate.

        Args:
            x: Data, shape (n, d).

        Raises:
            ValueError: If ``x`` is no table of d columns of finite numbers, or a column is
                constant.
        """
        table = as_table(x)
        if not self.built:
            self.build((None, table.shape[1]))
        check_width(table, self.input_dim, "x", self.name)
        low, high = table.min(axis=0), table.max(axis=0)
        constant = np.flatnonzero(low == high)
        if constant.size:
            column = constant[0]
            raise ValueError(
                "Expected columns of x that vary, so that a scale exists. "
                f"Received: column {column}, which is {low[column]:g} in every row"
            )
        loc = table.mean(axis=0)
        # Squares of the values relative to their range neither overflow nor underflow.
        span = high - low
        deviation = span * np.sqrt(np.mean(((table - loc) / span) ** 2, axis=0))
        self.loc.assign(loc)
        self.log_scale.assign(np.log(deviation))

    def _forward(self, x: Any, condition: Any) -> tuple[Any, Any]:
        log_scale = self._tensor(self.log_scale)
        z = (x - self._tensor(self.loc)) * ops.exp(-log_scale)
        return z, self._zero_log_det(x) - ops.sum(log_scale)

    def _inverse(self, z: Any, condition: Any) -> tuple[Any, Any]:
        log_scale = self._tensor(self.log_scale)
        x = z * ops.exp(log_scale) + self._tensor(self.loc)
        return x, self._zero_log_det(z) + ops.sum(log_scale)


def as_table(x: Any) -> Float[np.ndarray, "n d"]:
    """The data in double precision, once they are seen to be rows of finite numbers.

    Args:
        x: Anything array-like of shape (n, d).

    Returns:
        A float64 array.

    Raises:
        ValueError: If it is no table of numbers, is empty, or an entry is not finite.
    """
    table = np.asarray(ops.convert_to_numpy(x) if ops.is_tensor(x) else x)
    if table.dtype.kind not in "fiub":
        raise ValueError(f"Expected numbers in x. Received: x.dtype={table.dtype}")
    if table.ndim != 2 or table.size == 0:
        raise ValueError(
            f"Expected x of shape (n, d) with n >= 1 and d >= 1. Received: x.shape={table.shape}"
        )
    table = table.astype(np.float64)
    faulty = np.argwhere(~np.isfinite(table))
    if len(faulty):
        row, column = faulty[0]
        raise ValueError(
            f"Expected finite numbers in x. Received: x[{row}, {column}]={table[row, column]}"
        )
    return table
