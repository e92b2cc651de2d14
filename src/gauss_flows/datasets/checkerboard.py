"""The uniform law on every other square of a board."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from gauss_flows.datasets._checks import positive
from gauss_flows.datasets._random import interior_uniform
from gauss_flows.datasets.base import PlanarDensity

_COLUMNS = 4


@dataclass(frozen=True)
class Checkerboard(PlanarDensity):
    r"""The uniform law on eight of the sixteen squares of a board on [−h, h]².

    With squares of side h/2, those are filled whose column and row have an even sum, both counted
    from the lower left: the corners at (−h, −h) and (h, h) are. The entropy is log 2h². The
    default board, [−4, 4]² with squares of side 2, is FFJORD's.

    Args:
        half_width: Half the board's side, h.

    Raises:
        ValueError: If `half_width` is no finite number above 0.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, *FFJORD: Free-form Continuous
        Dynamics for Scalable Reversible Generative Models* (2019).

    Example:
        >>> from gauss_flows.datasets import Checkerboard
        >>> print(Checkerboard().log_prob([[-3.0, -3.0], [-1.0, -3.0], [5.0, 5.0]]))
        [-3.465736      -inf      -inf]
    """

    half_width: float = 4.0

    def __post_init__(self):
        object.__setattr__(self, "half_width", positive("half_width", self.half_width))

    @property
    def _side(self):
        return 2 * self.half_width / _COLUMNS

    def _sample(self, key, n):
        key_square, key_row, key_place = jr.split(key, 3)
        column = jr.randint(key_square, (n,), 0, _COLUMNS)
        row = 2 * jr.randint(key_row, (n,), 0, _COLUMNS // 2) + column % 2
        corner = jnp.stack([column, row], axis=-1) - _COLUMNS // 2
        return self._side * (corner + interior_uniform(key_place, (n, 2)))

    def _log_prob(self, x):
        inside = jnp.all(jnp.abs(x) <= self.half_width, axis=-1)
        # The upper edges belong to the last column and row.
        square = jnp.minimum(jnp.floor(x / self._side), _COLUMNS // 2 - 1)
        filled = square.sum(-1) % 2 == 0
        level = jnp.asarray(-self._entropy(), x.dtype)
        return jnp.where(inside & filled, level, -jnp.inf)

    def _entropy(self):
        return math.log(2) + 2 * math.log(self.half_width)

    def _moments(self):
        column, row = np.indices((_COLUMNS, _COLUMNS)).reshape(2, -1)
        filled = (column + row) % 2 == 0
        middles = np.stack([column, row], axis=-1)[filled] - (_COLUMNS - 1) / 2
        covariance = middles.T @ middles / len(middles) + np.eye(2) / 12
        return np.zeros(2), covariance * self._side**2
