"""Two normal components side by side, with unit variance along the line between them."""

import math
from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np

from gauss_flows.datasets._checks import real
from gauss_flows.datasets._quadrature import even_breaks, panel_rule
from gauss_flows.datasets.split import SplitDensity

# Beyond so many deviations lies less than 1e-18 of a normal's mass.
_REACH = 9.0
_ROWS = 1024


@dataclass(frozen=True)
class TwoGaussians(SplitDensity):
    r"""Half of N((−δ, 0), s²I) and half of N((δ, 0), s²I), with s² = 1 − δ².

    The mean is zero and the first coordinate has unit variance. Along a rotation by θ both
    coordinates are mixtures again: with c = δ cos θ and b = δ sin θ,

    $$m(p) = b \tanh \frac{c p}{s^2}, \qquad
    v(p) = s^2 + b^2 \operatorname{sech}^2 \frac{c p}{s^2}.$$

    Args:
        delta: Distance δ of either centre from the origin, at least 0 and below 1.

    Raises:
        ValueError: If `delta` lies outside.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Example 4.

    Example:
        >>> from gauss_flows.datasets import TwoGaussians
        >>> mean, variance = TwoGaussians().conditional_moments(0.0)
        >>> print(f"{mean:.4f} {variance:.4f}")
        0.0000 0.0975
    """

    delta: float = 0.95

    def __post_init__(self):
        delta = real("delta", self.delta)
        if not 0 <= delta < 1:
            raise ValueError(f"Expected delta of at least 0 and below 1; got {delta!r}.")
        object.__setattr__(self, "delta", delta)

    @property
    def _variance(self):
        return (1 - self.delta) * (1 + self.delta)

    def _sample(self, key, n):
        key_side, key_noise = jr.split(key)
        noise = math.sqrt(self._variance) * jr.normal(key_noise, (n, 2))
        return noise.at[:, 0].add(self.delta * jr.rademacher(key_side, (n,), dtype=float))

    def _log_prob(self, x):
        exponents = [
            -0.5 * ((x[..., 0] - centre) ** 2 + x[..., 1] ** 2) / self._variance
            for centre in (-self.delta, self.delta)
        ]
        return jnp.logaddexp(*exponents) - math.log(4 * math.pi * self._variance)

    def _entropy(self):
        separation = self.delta / math.sqrt(self._variance)
        information = float(_information(separation, np.zeros(1))[0])
        return math.log(2 * math.pi * math.e * self._variance) + information

    def _moments(self):
        return np.zeros(2), np.diag([1.0, self._variance])

    def _centre(self, angle):
        """The second component's centre, (p, a)."""
        return self.delta * math.cos(angle), self.delta * math.sin(angle)

    def _passive_log_prob(self, p, angle):
        centre = self._centre(angle)[0]
        exponents = [-0.5 * (p - side * centre) ** 2 / self._variance for side in (-1, 1)]
        return np.logaddexp(*exponents) - 0.5 * math.log(8 * math.pi * self._variance)

    def _conditional_moments(self, p, angle):
        passive, active = self._centre(angle)
        mean = active * np.tanh(passive * p / self._variance)
        return mean, self._variance + (active - mean) * (active + mean)

    def _conditional_negentropy(self, p, angle):
        passive, active = self._centre(angle)
        _, variance = self._conditional_moments(p, angle)
        log_odds = 2 * passive * p / self._variance
        separation = abs(active) / math.sqrt(self._variance)
        return 0.5 * np.log(variance / self._variance) - _information(separation, log_odds)

    def _passive_breaks(self, angle):
        centre = abs(self._centre(angle)[0])
        deviation = math.sqrt(self._variance)
        end = centre + _REACH * deviation
        # The conditional moments pass from one component's to the other's within this width.
        passage = 4 * self._variance / max(centre, 1e-300)
        inner = {0.0, centre, max(centre - _REACH * deviation, 0.0), passage}
        inner = np.array(sorted(value for value in inner if value < end))
        return np.unique([-end, *-inner, *inner, end])


def _information(separation, log_odds):
    r"""What u ~ N(±d, 1) says of its component, in nats, for a prior with given log-odds.

    With weights w and 1 − w it is $\sum_k w_k \mathrm{E}_z[-\log(w_k + (1 - w_k) e^{-2d(d + z)})]$,
    z standard normal. The logarithm bends within 1/2d; for d up to 9 panels of ¼ resolve that,
    and above the bend has no mass.
    """
    z, weights = panel_rule(even_breaks(-_REACH, _REACH, 0.25), 16)
    weights = weights * np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    shift = -2 * separation * (separation + z)
    log_odds = np.asarray(log_odds)
    flat = log_odds.reshape(-1, 1)
    found = np.zeros(len(flat))
    for start in range(0, len(flat), _ROWS):
        rows = flat[start : start + _ROWS]
        for odds in (rows, -rows):
            log_own, log_other = -np.logaddexp(0, -odds), -np.logaddexp(0, odds)
            surprise = -np.logaddexp(log_own, log_other + shift)
            found[start : start + _ROWS] += np.exp(log_own[:, 0]) * (surprise @ weights)
    return found.reshape(log_odds.shape)
