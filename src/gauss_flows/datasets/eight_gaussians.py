"""Eight normal components on a circle."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from gauss_flows.datasets._checks import positive
from gauss_flows.datasets._smoothed import by_rows, log_smoothed, smoothed_entropy
from gauss_flows.datasets.base import PlanarDensity

_COUNT = 8


@dataclass(frozen=True)
class EightGaussians(PlanarDensity):
    r"""Eight isotropic normal components, equal in weight and evenly spaced on a circle.

    $$p(x) = \tfrac18 \sum_{k=0}^7 N\bigl(x; r (\cos \tfrac{k\pi}{4}, \sin \tfrac{k\pi}{4}),
    s^2 I\bigr)$$

    The default sizes are FFJORD's, whose radius 4 and noise ½ are divided by √2.

    Args:
        radius: Radius r of the circle.
        noise: Deviation s of a component.

    Raises:
        ValueError: If either is no finite number above 0.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, *FFJORD: Free-form Continuous
        Dynamics for Scalable Reversible Generative Models* (2019).

    Example:
        >>> from gauss_flows.datasets import EightGaussians
        >>> print(f"{EightGaussians(radius=4.0, noise=0.1).entropy():.6f}")
        0.312148
    """

    radius: float = 2 * math.sqrt(2)
    noise: float = math.sqrt(2) / 4

    def __post_init__(self):
        for name in ("radius", "noise"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))

    def _centres(self):
        angles = 2 * math.pi * np.arange(_COUNT) / _COUNT
        return self.radius * np.stack([np.cos(angles), np.sin(angles)], axis=-1)

    def _sample(self, key, n):
        key_component, key_noise = jr.split(key)
        centres = jnp.asarray(self._centres(), float)
        component = jr.randint(key_component, (n,), 0, _COUNT)
        return centres[component] + self.noise * jr.normal(key_noise, (n, 2))

    def _log_prob(self, x):
        centres = jnp.asarray(self._centres(), x.dtype)
        log_weights = jnp.full(_COUNT, -math.log(_COUNT), x.dtype)
        return by_rows(lambda rows: log_smoothed(rows, centres, log_weights, self.noise), x, _COUNT)

    def _entropy(self):
        return smoothed_entropy(self._centres(), np.full(_COUNT, 1 / _COUNT), self.noise)

    def _moments(self):
        return np.zeros(2), (self.radius**2 / 2 + self.noise**2) * np.eye(2)
