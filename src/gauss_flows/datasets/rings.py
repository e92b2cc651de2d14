"""Concentric circles with noise."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax.scipy.special import i0e as jax_i0e
from scipy.special import i0e, xlogy

from gauss_flows.datasets._checks import positive, positives
from gauss_flows.datasets._quadrature import settled
from gauss_flows.datasets._random import radius
from gauss_flows.datasets.base import PlanarDensity

# Beyond so many deviations lies less than 1e-18 of a normal's mass.
_REACH = 9


@dataclass(frozen=True)
class Rings(PlanarDensity):
    r"""Circles about the origin, smeared by isotropic normal noise.

    A circle of radius r, uniform in angle, with noise of deviation s has the density

    $$p_r(x) = \frac{1}{2\pi s^2} \exp\Bigl(-\frac{(\lvert x \rvert - r)^2}{2 s^2}\Bigr) \,
    e^{-z} I_0(z), \qquad z = \frac{\lvert x \rvert \, r}{s^2},$$

    with the modified Bessel function I₀. The default circles are those of FFJORD's rings.

    Args:
        radii: Radius of every circle.
        noise: Deviation s of the noise.
        weights: Probability of every circle, scaled to sum 1; by default all circles have the
            same, so that the inner ones are denser.

    Raises:
        ValueError: If a radius, a weight or the noise is no finite number above 0, or radii and
            weights differ in number.

    References:
        Grathwohl, Chen, Bettencourt, Sutskever and Duvenaud, *FFJORD: Free-form Continuous
        Dynamics for Scalable Reversible Generative Models* (2019).

    Example:
        >>> from gauss_flows.datasets import Rings
        >>> ring = Rings(radii=(1.0,), noise=0.05)
        >>> print(f"{ring.log_prob([0.0, 1.0]):.3f}")
        0.239
    """

    radii: tuple[float, ...] = (0.75, 1.5, 2.25, 3.0)
    noise: float = 0.08
    weights: tuple[float, ...] | None = None

    def __post_init__(self):
        object.__setattr__(self, "radii", positives("radii", self.radii))
        object.__setattr__(self, "noise", positive("noise", self.noise))
        given = (1.0,) * len(self.radii) if self.weights is None else self.weights
        weights = positives("weights", given)
        if len(weights) != len(self.radii):
            raise ValueError(f"Expected {len(self.radii)} weights, one a radius; got {weights!r}.")
        total = math.fsum(weights)
        object.__setattr__(self, "weights", tuple(weight / total for weight in weights))

    def _shares(self):
        return np.array(self.weights)

    def _sample(self, key, n):
        key_ring, key_angle, key_noise = jr.split(key, 3)
        radii = jr.choice(
            key_ring, jnp.asarray(self.radii, float), (n,), p=jnp.asarray(self._shares(), float)
        )
        angle = jr.uniform(key_angle, (n,), maxval=2 * math.pi)
        x = radii[:, None] * jnp.stack([jnp.cos(angle), jnp.sin(angle)], axis=-1)
        return x + self.noise * jr.normal(key_noise, (n, 2))

    def _log_prob(self, x):
        r = radius(x)[..., None]
        rings = jnp.asarray(self.radii, x.dtype)
        exponent = jnp.asarray(np.log(self._shares()), x.dtype)
        exponent -= 0.5 * ((r - rings) / self.noise) ** 2
        exponent += jnp.log(jax_i0e(r * (rings / self.noise**2)))
        return jax.nn.logsumexp(exponent, axis=-1) - math.log(2 * math.pi * self.noise**2)

    def _entropy(self):
        def integral(order):
            r, weights = self._radial_rule(order)
            u, z = (r[:, None] - self.radii) / self.noise, r[:, None] * self.radii / self.noise**2
            p = (np.exp(-0.5 * u**2) * i0e(z)) @ self._shares() / (2 * math.pi * self.noise**2)
            return -weights @ (2 * math.pi * r * xlogy(p, p))

        return settled(integral)

    def _radial_rule(self, order):
        """Rule on panels of one deviation that cover all that lies within reach of a circle."""
        near = np.floor(np.array(self.radii) / self.noise)[:, None]
        near = np.unique(near + np.arange(-_REACH, _REACH + 1))
        unit, unit_weights = np.polynomial.legendre.leggauss(order)
        nodes = (near[near >= 0][:, None] + 0.5 + 0.5 * unit) * self.noise
        weights = np.broadcast_to(0.5 * self.noise * unit_weights, nodes.shape)
        return nodes.ravel(), weights.ravel()

    def _moments(self):
        second = self._shares() @ np.array(self.radii) ** 2 / 2 + self.noise**2
        return np.zeros(2), second * np.eye(2)
