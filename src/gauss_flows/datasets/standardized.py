"""A density shifted and scaled to mean 0 and unit deviations."""

from dataclasses import dataclass
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from gauss_flows.datasets.base import Density
from gauss_flows.datasets.split import SplitDensity


@dataclass(frozen=True)
class Standardized(Density):
    r"""The density of $z = (x - \mu) / \sigma$, coordinate by coordinate.

    $$\log p(z) = \log p_x(\mu + \sigma z) + \sum_j \log \sigma_j, \qquad
    H(z) = H(x) - \sum_j \log \sigma_j$$

    The coordinates stay correlated as they are; standardizing once more changes nothing.

    Args:
        density: The density of x.

    Raises:
        ValueError: If `density` is none.

    Example:
        >>> from gauss_flows.datasets import Standardized, UniformSquare
        >>> density = Standardized(UniformSquare())
        >>> print(f"{density.kl_to_normal():.10f}")
        0.3529704166
    """

    density: Density

    def __new__(cls, density: object = None):
        """Make what knows its conditionals of a density that does."""
        is_split = isinstance(density, SplitDensity) and cls is Standardized
        return object.__new__(_StandardizedSplit if is_split else cls)

    def __post_init__(self):
        if not isinstance(self.density, Density):
            raise ValueError(f"Expected density to be a Density; got {self.density!r}.")

    @property
    def n_dims(self) -> int:
        """Number of coordinates, d."""
        return self.density.n_dims

    def _deviation(self):
        return np.sqrt(np.diagonal(self.density.covariance()))

    def _sample(self, key, n):
        x = self.density.sample(key, n)
        shift, scale = (
            jnp.asarray(value, x.dtype) for value in (self.density.mean(), self._deviation())
        )
        return (x - shift) / scale

    def _log_prob(self, x):
        deviation = self._deviation()
        shift, scale = (jnp.asarray(value, x.dtype) for value in (self.density.mean(), deviation))
        return self.density.log_prob(shift + scale * x) + float(np.log(deviation).sum())

    def _entropy(self):
        return self.density.entropy() - float(np.log(self._deviation()).sum())

    def _moments(self):
        deviation = self._deviation()
        correlation = self.density.covariance() / np.outer(deviation, deviation)
        np.fill_diagonal(correlation, 1.0)
        return np.zeros(self.n_dims), correlation


class _Turn(NamedTuple):
    r"""$[p, a] = M [p', a'] + c$ with a lower triangular M and [p', a'] = Q(θ') x."""

    angle: float  # θ'
    matrix: np.ndarray
    shift: np.ndarray

    def own(self, p: np.ndarray) -> np.ndarray:
        return (p - self.shift[0]) / self.matrix[0, 0]


@dataclass(frozen=True)
class _StandardizedSplit(Standardized, SplitDensity):
    r"""A standardised density whose original has exact conditionals.

    The passive coordinate of $z = S^{-1} (x - \mu)$ is, up to its scale, that of x at the angle
    $\theta' = \operatorname{atan2}(\sin\theta / \sigma_2, \cos\theta / \sigma_1)$, and the
    active one is linear in both of x there.
    """

    density: SplitDensity

    def __repr__(self):
        return f"Standardized(density={self.density!r})"

    def _passive_log_prob(self, p, angle):
        turn = self._turn(angle)
        own = self.density.passive_log_prob(turn.own(p), turn.angle)
        return own - np.log(turn.matrix[0, 0])

    def _conditional_moments(self, p, angle):
        turn = self._turn(angle)
        own = turn.own(p)
        mean, variance = self.density.conditional_moments(own, turn.angle)
        (_, _), (slope, scale) = turn.matrix
        return slope * own + scale * mean + turn.shift[1], scale**2 * variance

    def _conditional_negentropy(self, p, angle):
        turn = self._turn(angle)
        return self.density.conditional_negentropy(turn.own(p), turn.angle)

    def _passive_breaks(self, angle):
        turn = self._turn(angle)
        return turn.shift[0] + turn.matrix[0, 0] * self.density.passive_breaks(turn.angle)

    def _turn(self, angle: float) -> _Turn:
        cos, sin = np.cos(angle), np.sin(angle)
        unscaled = np.array([[cos, -sin], [sin, cos]]) / self._deviation()
        own = float(np.arctan2(-unscaled[0, 1], unscaled[0, 0]))
        cos, sin = np.cos(own), np.sin(own)
        matrix = unscaled @ np.array([[cos, sin], [-sin, cos]])
        return _Turn(own, matrix, -unscaled @ self.density.mean())
