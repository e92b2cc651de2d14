"""A density shifted and scaled to mean 0 and unit deviations."""

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np

from gauss_flows.datasets.base import Density


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
