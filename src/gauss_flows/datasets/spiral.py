"""Two spiral arms with noise."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from gauss_flows.datasets._checks import positive, real
from gauss_flows.datasets._quadrature import even_breaks, panel_rule
from gauss_flows.datasets._smoothed import by_rows, log_smoothed, smoothed_entropy
from gauss_flows.datasets.base import PlanarDensity

_ORDER = 16
_WIDEST_TURN = math.pi / 4


@dataclass(frozen=True)
class Spiral(PlanarDensity):
    r"""Two arms of an Archimedean spiral, smeared by isotropic normal noise.

    $$x = \pm t \, (\cos \omega t, \sin \omega t) + s \varepsilon, \qquad
    t \sim U[\text{start}, \text{stop}], \quad \varepsilon \sim N(0, I),$$

    with either sign as likely. The defaults are those of the data set on which diagonal and
    coupling flows are compared; its points are `Spiral().standardized()`, up to the error of the
    sample's own mean and deviation.

    The integral over t is taken by Gauss-Legendre rules on panels of four deviations. The error of
    the log-density is rounding near the arms, below 1e-8 within twelve deviations of one, and a
    relative 1e-4 at most far away, where the rule is coarser than what it integrates.

    Args:
        start: Radius at which the arms begin.
        stop: Radius at which they end.
        rate: Angle ω, in radians, by which they turn for each unit of radius.
        noise: Deviation s of the noise.

    Raises:
        ValueError: If a radius or the noise is no finite number above 0, `stop` is not above
            `start`, or `rate` no finite number.

    Example:
        >>> from gauss_flows.datasets import Spiral
        >>> Spiral(noise=0.1)
        Spiral(start=0.5, stop=3.5, rate=2.5, noise=0.1)
    """

    start: float = 0.5
    stop: float = 3.5
    rate: float = 2.5
    noise: float = 0.08

    def __post_init__(self):
        for name in ("start", "stop", "noise"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))
        object.__setattr__(self, "rate", real("rate", self.rate))
        if not self.start < self.stop:
            raise ValueError(f"Expected stop above start = {self.start}; got {self.stop}.")

    def _sample(self, key, n):
        key_t, key_arm, key_noise = jr.split(key, 3)
        t = jr.uniform(key_t, (n,), minval=self.start, maxval=self.stop)
        side = jr.rademacher(key_arm, (n, 1), dtype=float)
        x = side * jnp.stack(self._arm(jnp, t), axis=-1)
        return x + self.noise * jr.normal(key_noise, (n, 2))

    def _arm(self, xp, t):
        return t * xp.cos(self.rate * t), t * xp.sin(self.rate * t)

    def _log_prob(self, x):
        points, weights = self._nodes()
        points, log_weights = jnp.asarray(points, x.dtype), jnp.asarray(np.log(weights), x.dtype)
        return by_rows(
            lambda rows: log_smoothed(rows, points, log_weights, self.noise), x, len(weights)
        )

    def _entropy(self):
        return smoothed_entropy(*self._nodes(), self.noise)

    def _moments(self):
        points, weights = self._nodes()
        return np.zeros(2), (points.T * weights) @ points + self.noise**2 * np.eye(2)

    def _nodes(self):
        """Points along both arms and their weights, of sum 1."""
        # Arm length is nearly proportional to t², so panels equal in t² are nearly equal in length.
        low, high = self.start**2, self.stop**2
        length_rate = max(math.hypot(1, self.rate * t) / (2 * t) for t in (self.start, self.stop))
        turn_rate = abs(self.rate) / (2 * self.start)
        width = min(4 * self.noise / length_rate, _WIDEST_TURN / max(turn_rate, 1e-300))
        t, weights = panel_rule(np.sqrt(even_breaks(low, high, width)), _ORDER)
        arm = np.stack(self._arm(np, t), axis=-1)
        weights = np.concatenate([weights, weights]) / (2 * (self.stop - self.start))
        return np.concatenate([arm, -arm]), weights
