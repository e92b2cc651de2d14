"""Two interleaved half circles with noise."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jax import lax

from gauss_flows.datasets._checks import positive
from gauss_flows.datasets._quadrature import even_breaks, panel_rule
from gauss_flows.datasets._random import radius
from gauss_flows.datasets._smoothed import by_rows, log_smoothed, smoothed_entropy
from gauss_flows.datasets.base import PlanarDensity

# Half a turn about the middle of this segment takes one half circle to the other.
_INNER_CENTRE = (1.0, 0.5)
_ORDER = 32
# exp(−40) of the peak is what a quadrature window leaves out.
_WINDOW = 40.0


@dataclass(frozen=True)
class TwoMoons(PlanarDensity):
    r"""Two half circles of radius 1, smeared by isotropic normal noise.

    With t uniform on [0, π] and probability one half each,

    $$x = (\cos t, \sin t) + s \varepsilon \quad\text{or}\quad
    x = (1 - \cos t, \tfrac12 - \sin t) + s \varepsilon, \qquad \varepsilon \sim N(0, I),$$

    the geometry of scikit-learn's `make_moons`. The integral over t is taken by Gauss-Legendre
    rules on windows fitted to every point, which leaves rounding errors only, however far away
    the point is.

    Args:
        noise: Deviation s of the noise.

    Raises:
        ValueError: If `noise` is no finite number above 0.

    References:
        Pedregosa et al., *Scikit-learn: Machine Learning in Python* (2011).

    Example:
        >>> from gauss_flows.datasets import TwoMoons
        >>> print(TwoMoons().mean())
        [0.5  0.25]
    """

    noise: float = 0.05

    def __post_init__(self):
        object.__setattr__(self, "noise", positive("noise", self.noise))

    def _sample(self, key, n):
        key_t, key_moon, key_noise = jr.split(key, 3)
        t = jr.uniform(key_t, (n,), maxval=math.pi)
        x = jnp.stack([jnp.cos(t), jnp.sin(t)], axis=-1)
        outer = jr.rademacher(key_moon, (n, 1)) > 0
        x = jnp.where(outer, x, jnp.asarray(_INNER_CENTRE, x.dtype) - x)
        return x + self.noise * jr.normal(key_noise, (n, 2))

    def _log_prob(self, x):
        return by_rows(self._log_mixture, x, 4 * _ORDER)

    def _log_mixture(self, x):
        seen_by_each = jnp.stack([x, jnp.asarray(_INNER_CENTRE, x.dtype) - x])
        moons = _log_half_circle(seen_by_each, self.noise)
        return jax.nn.logsumexp(moons, axis=0) - math.log(2)

    def _entropy(self):
        breaks = even_breaks(0.0, math.pi, min(4 * self.noise, math.pi / 4))
        t, weights = panel_rule(breaks, 16)
        outer = np.stack([np.cos(t), np.sin(t)], axis=-1)
        points = np.concatenate([outer, np.array(_INNER_CENTRE) - outer])
        weights = np.concatenate([weights, weights]) / (2 * math.pi)
        return smoothed_entropy(points, weights, self.noise)

    def _moments(self):
        outer = np.array([0.0, 2 / math.pi])
        means = np.stack([outer, np.array(_INNER_CENTRE) - outer])
        mean = means.mean(0)
        within = np.diag([0.5, 0.5 - outer[1] ** 2]) + self.noise**2 * np.eye(2)
        return mean, within + np.outer(means[0] - mean, means[0] - mean)


def _log_half_circle(x, noise):
    """Log-density of the upper half of the unit circle about the origin, with noise."""
    nodes, weights = _windows(lax.stop_gradient(x), noise)
    points = jnp.stack([jnp.cos(nodes), jnp.sin(nodes)], axis=-1)
    return log_smoothed(x, points, jnp.log(weights / math.pi), noise)


def _windows(x, noise):
    """Nodes in t, and weights, on the two pieces of the half circle where the mass is.

    Seen from the direction φ of the point the noise falls off as exp(κ cos(t − φ)), κ = |x|/s².
    If φ lies on the half circle the pieces meet there; if not, either end is a local maximum,
    and the pieces begin at the ends.
    """
    angle = jnp.arctan2(x[..., 1], x[..., 0])
    within = angle >= 0
    reach = 0.5 * _WINDOW * noise**2 / jnp.maximum(radius(x), jnp.finfo(x.dtype).tiny)
    first = jnp.where(within, 0, -angle)
    last = jnp.where(within, 0, math.pi + angle)
    from_first, from_last = _fall(first, reach), _fall(last, reach)
    middle = jnp.where(within, angle, math.pi + angle)
    low_ends = (
        jnp.where(within, jnp.maximum(angle - from_first, 0), 0),
        jnp.where(within, angle, jnp.maximum(middle, math.pi - from_last)),
    )
    high_ends = (
        jnp.where(within, angle, jnp.minimum(middle, from_first)),
        jnp.where(within, jnp.minimum(angle + from_last, math.pi), math.pi),
    )
    low, high = (jnp.stack(ends, axis=-1)[..., None] for ends in (low_ends, high_ends))
    unit, unit_weights = (
        jnp.asarray(values, x.dtype) for values in np.polynomial.legendre.leggauss(_ORDER)
    )
    half = 0.5 * jnp.maximum(high - low, 0)
    flat = (*x.shape[:-1], 2 * _ORDER)
    return (low + half * (1 + unit)).reshape(flat), (half * unit_weights).reshape(flat)


def _fall(start, reach):
    """How far from an angle `start` off the peak κ cos has fallen by the window's depth.

    Solves cos(start) − cos(start + Δ) = 2 · reach for Δ through T = tan(Δ/2), which obeys
    (cos(start) − reach) T² + sin(start) T = reach; half a turn if it never falls so far.
    """
    sin, cos = jnp.sin(start), jnp.cos(start)
    discriminant = sin**2 + 4 * reach * (cos - reach)
    divisor = sin + jnp.sqrt(jnp.maximum(discriminant, 0))
    falls = (discriminant > 0) & (divisor > 0)
    return jnp.where(falls, 2 * jnp.arctan2(2 * reach, divisor), math.pi)
