"""The uniform law on a square."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from gauss_flows.datasets._checks import positive
from gauss_flows.datasets._random import interior_uniform
from gauss_flows.datasets.split import UNIFORM_NEGENTROPY, SplitDensity


@dataclass(frozen=True)
class UniformSquare(SplitDensity):
    r"""The uniform law on [−h, h]².

    Along any rotation the passive coordinate has a trapezoidal density, f(p) = ℓ(p) / 4h² with the
    length ℓ of the chord at p, and the active one is uniform on that chord.

    Args:
        half_width: Half the side, h. √3 gives unit variances.

    Raises:
        ValueError: If `half_width` is no finite number above 0.

    Example:
        >>> from gauss_flows.datasets import UniformSquare
        >>> print(f"{UniformSquare().kl_to_normal():.10f}")
        0.7849160386
    """

    half_width: float = 1.0

    def __post_init__(self):
        object.__setattr__(self, "half_width", positive("half_width", self.half_width))

    def _sample(self, key, n):
        return self.half_width * (2 * interior_uniform(key, (n, 2)) - 1)

    def _log_prob(self, x):
        inside = jnp.all(jnp.abs(x) <= self.half_width, axis=-1)
        level = jnp.asarray(-2 * math.log(2 * self.half_width), x.dtype)
        return jnp.where(inside, level, -jnp.inf)

    def _entropy(self):
        return 2 * math.log(2 * self.half_width)

    def _moments(self):
        return np.zeros(2), np.eye(2) * self.half_width**2 / 3

    def _chord(self, p, angle):
        """Centre and length of the active coordinate's range; the length is NaN outside."""
        cos, sin = math.cos(angle), math.sin(angle)
        low, high = np.full(p.shape, -np.inf), np.full(p.shape, np.inf)
        # x = p cos θ + a sin θ and y = −p sin θ + a cos θ both lie within h of 0.
        for constant, slope in ((p * cos, sin), (-p * sin, cos)):
            if slope:
                ends = (-self.half_width - constant) / slope, (self.half_width - constant) / slope
                low = np.maximum(low, np.minimum(*ends))
                high = np.minimum(high, np.maximum(*ends))
            else:
                high = np.where(np.abs(constant) <= self.half_width, high, -np.inf)
        length = np.where(high >= low, high - low, np.nan)
        return np.where(high >= low, 0.5 * (low + high), np.nan), length

    def _passive_log_prob(self, p, angle):
        length = np.nan_to_num(self._chord(p, angle)[1])
        with np.errstate(divide="ignore"):
            return np.log(length) - 2 * math.log(2 * self.half_width)

    def _conditional_moments(self, p, angle):
        centre, length = self._chord(p, angle)
        return centre, length**2 / 12

    def _conditional_negentropy(self, p, angle):
        return np.where(np.isnan(self._chord(p, angle)[1]), np.nan, UNIFORM_NEGENTROPY)

    def _passive_breaks(self, angle):
        cos, sin = abs(math.cos(angle)), abs(math.sin(angle))
        end, kink = self.half_width * (cos + sin), self.half_width * abs(cos - sin)
        return np.unique([-end, -kink, kink, end])
