"""Arms about the origin, twisted."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from scipy.special import logsumexp, xlogy

from gauss_flows.datasets._checks import positive, real, whole
from gauss_flows.datasets._quadrature import even_breaks, panel_rule, settled
from gauss_flows.datasets._random import radius
from gauss_flows.datasets.base import PlanarDensity

_REACH = 9


@dataclass(frozen=True)
class Pinwheel(PlanarDensity):
    r"""Normal arms, evenly spaced about the origin and twisted by an angle that grows outwards.

    Arm k of n is normal about (cos θₖ, sin θₖ), θₖ = 2πk/n, with one deviation along the direction
    θₖ and another across it. A point y of this mixture is turned by

    $$\psi(\lvert y \rvert) = \text{rate} \cdot e^{\lvert y \rvert},$$

    held constant beyond the radius 1 + 8 · radial_std, eight deviations along an arm, so that it
    stays finite. A turn by an angle that depends on the radius alone keeps areas:

    $$\log p(x) = \log p_y\bigl(R(-\psi(\lvert x \rvert))\, x\bigr), \qquad H(x) = H(y).$$

    The usual pinwheel turns by rate · exp(y₁) instead, with the coordinate y₁ along the arm. That
    does not keep areas, and its arms overlap in a way that has no closed density; near the arms,
    where y₁ ≈ |y|, the two look alike. The arms have radius about 1; some authors scale the
    points by 2 or 10.

    Args:
        n_arms: Number of arms. From three on the covariance is isotropic; fewer are refused.
        radial_std: Deviation along an arm.
        tangential_std: Deviation across it.
        rate: Strength of the twist; 0 leaves the arms straight.

    Raises:
        ValueError: If `n_arms` is no integer of at least 3, a deviation no finite number above 0,
            or `rate` no finite number.

    References:
        Johnson, Duvenaud, Wiltschko, Datta and Adams, *Composing Graphical Models with Neural
        Networks for Structured Representations and Fast Inference* (2016).

    Example:
        >>> from gauss_flows.datasets import Pinwheel
        >>> print(Pinwheel().entropy() == Pinwheel(rate=0.0).entropy())
        True
    """

    n_arms: int = 5
    radial_std: float = 0.3
    tangential_std: float = 0.1
    rate: float = 0.25

    def __post_init__(self):
        object.__setattr__(self, "n_arms", whole("n_arms", self.n_arms, 3))
        for name in ("radial_std", "tangential_std"):
            object.__setattr__(self, name, positive(name, getattr(self, name)))
        object.__setattr__(self, "rate", real("rate", self.rate))

    def _twisted(self, x, direction):
        """Turn points by their angle of twist, forwards (1) or back (−1)."""
        twist = self.rate * jnp.exp(jnp.minimum(radius(x), 1 + 8 * self.radial_std))
        return _turned(x, direction * twist)

    def _sample(self, key, n):
        key_arm, key_noise = jr.split(key)
        noise = jr.normal(key_noise, (n, 2))
        y = jnp.stack([1 + self.radial_std * noise[:, 0], self.tangential_std * noise[:, 1]], -1)
        arm = jr.randint(key_arm, (n,), 0, self.n_arms)
        return self._twisted(_turned(y, arm * (2 * math.pi / self.n_arms)), 1)

    def _log_prob(self, x):
        y = self._twisted(x, -1)[..., None, :]
        arms = jnp.arange(self.n_arms, dtype=x.dtype) * (2 * math.pi / self.n_arms)
        return jax.nn.logsumexp(self._log_arm(_turned(y, -arms)), axis=-1)

    def _log_arm(self, y):
        """Log-density of an arm along the first axis, less the logarithm of their number."""
        along, across = (y[..., 0] - 1) / self.radial_std, y[..., 1] / self.tangential_std
        area = 2 * math.pi * self.radial_std * self.tangential_std * self.n_arms
        return -0.5 * (along**2 + across**2) - math.log(area)

    def _entropy(self):
        narrow = min(self.radial_std, self.tangential_std)
        outer = math.hypot(1 + _REACH * self.radial_std, _REACH * self.tangential_std)
        sector = 2 * math.pi / self.n_arms

        def integral(order):
            r, weights = panel_rule(even_breaks(0.0, outer, narrow), order)
            # Periodic in the angle: equal steps converge as fast as a Gauss rule.
            n_angles = math.ceil(order * sector * min(outer / narrow, 1e3) / 4)
            angles = sector * np.arange(n_angles) / n_angles
            directions = angles[:, None] - sector * np.arange(self.n_arms)
            total = 0.0
            for ring, weight in zip(r, weights, strict=True):
                y = ring * np.stack([np.cos(directions), np.sin(directions)], axis=-1)
                p = np.exp(logsumexp(self._log_arm(y), axis=-1))
                total -= 2 * math.pi * weight * ring * np.mean(xlogy(p, p))
            return total

        return settled(integral)

    def _moments(self):
        variance = 0.5 * (1 + self.radial_std**2 + self.tangential_std**2)
        return np.zeros(2), variance * np.eye(2)


def _turned(x, angle):
    """Points turned counterclockwise by angles."""
    cos, sin = jnp.cos(angle), jnp.sin(angle)
    return jnp.stack(
        [cos * x[..., 0] - sin * x[..., 1], sin * x[..., 0] + cos * x[..., 1]], axis=-1
    )
