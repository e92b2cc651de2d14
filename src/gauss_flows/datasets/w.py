"""The W-shaped densities: a uniform coordinate that moves and scales another."""

import math
from abc import abstractmethod
from dataclasses import dataclass

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from gauss_flows.datasets._quadrature import even_breaks, panel_rule, settled
from gauss_flows.datasets._random import interior_uniform
from gauss_flows.datasets.split import UNIFORM_NEGENTROPY, SplitDensity

_HALF_WIDTH = 2.0
_FREQUENCY = 8 * math.pi / 3
_LOG_NORMALIZER = 0.5 * math.log(2 * math.pi)
_LOG_UNIFORM = -math.log(2 * math.sqrt(3))


def _location(xp, p):
    return 0.5 * xp.cos(math.pi * p)


def _scale(xp, p):
    return (3 - xp.cos(_FREQUENCY * p)) / 8


class _WShaped(SplitDensity):
    """What W and WU share: all but the shape of the conditional."""

    @abstractmethod
    def _standard_draws(self, key: PRNGKeyArray, shape: tuple[int, ...]) -> Array:
        """Draw the active coordinate at mean 0 and deviation 1."""

    @abstractmethod
    def _standard_log_prob(self, u: Array) -> Array:
        """Its log-density."""

    @abstractmethod
    def _standard_negentropy(self) -> float:
        """Its negentropy."""

    def _sample(self, key, n):
        key_p, key_a = jr.split(key)
        p = _HALF_WIDTH * (2 * interior_uniform(key_p, (n,)) - 1)
        a = _location(jnp, p) + _scale(jnp, p) * self._standard_draws(key_a, (n,))
        return jnp.stack([p, a], axis=-1)

    def _log_prob(self, x):
        p, a = x[..., 0], x[..., 1]
        scale = _scale(jnp, p)
        log_conditional = self._standard_log_prob((a - _location(jnp, p)) / scale) - jnp.log(scale)
        return jnp.where(
            jnp.abs(p) <= _HALF_WIDTH, log_conditional - math.log(2 * _HALF_WIDTH), -jnp.inf
        )

    def _entropy(self):
        def mean_log_scale(order):
            p, weights = panel_rule(even_breaks(0.0, _HALF_WIDTH, 0.125), order)
            return float(weights @ np.log(_scale(np, p))) / _HALF_WIDTH

        conditional = _LOG_NORMALIZER + 0.5 - self._standard_negentropy() + settled(mean_log_scale)
        return math.log(2 * _HALF_WIDTH) + conditional

    def _moments(self):
        # Whole periods of the location, not of the scale, lie in the range of p.
        turn = _FREQUENCY * _HALF_WIDTH
        cosine, squared = math.sin(turn) / turn, 0.5 + math.sin(2 * turn) / (4 * turn)
        variance = 0.125 + (9 - 6 * cosine + squared) / 64
        return np.zeros(2), np.diag([_HALF_WIDTH**2 / 3, variance])

    def _own_axes(self, angle):
        if angle != 0:
            raise ValueError(
                f"Expected angle to be 0, because {type(self).__name__} knows its conditionals "
                f"along its own axes only; got {angle!r}."
            )

    def _where_known(self, p, values):
        return np.where(np.abs(p) <= _HALF_WIDTH, values, np.nan)

    def _passive_log_prob(self, p, angle):
        self._own_axes(angle)
        return np.where(np.abs(p) <= _HALF_WIDTH, -math.log(2 * _HALF_WIDTH), -np.inf)

    def _conditional_moments(self, p, angle):
        self._own_axes(angle)
        return self._where_known(p, _location(np, p)), self._where_known(p, _scale(np, p) ** 2)

    def _conditional_negentropy(self, p, angle):
        self._own_axes(angle)
        return self._where_known(p, self._standard_negentropy())

    def _passive_breaks(self, angle):
        self._own_axes(angle)
        return np.array([-_HALF_WIDTH, _HALF_WIDTH])


@dataclass(frozen=True)
class W(_WShaped):
    r"""The W density: a normal coordinate whose mean and deviation a uniform one sets.

    $$p \sim U[-2, 2], \qquad a \mid p \sim N\bigl(m(p), \sigma(p)^2\bigr), \qquad
    m(p) = \tfrac12 \cos \pi p, \quad \sigma(p) = \tfrac18 \bigl(3 - \cos \tfrac{8\pi}{3} p\bigr)$$

    The coordinates are (p, a). One affine coupling layer that reads p leaves nothing of a to learn.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Example 1.

    Example:
        >>> from gauss_flows.datasets import W
        >>> print(f"{W().kl_to_normal():.10f}")
        0.8314144880
    """

    def _standard_draws(self, key, shape):
        return jr.normal(key, shape)

    def _standard_log_prob(self, u):
        return -0.5 * u**2 - _LOG_NORMALIZER

    def _standard_negentropy(self):
        return 0.0


@dataclass(frozen=True)
class WU(_WShaped):
    r"""The WU density: as `W`, with a uniform conditional of the same mean and deviation.

    $$p \sim U[-2, 2], \qquad
    a \mid p \sim U\bigl[m(p) - \sqrt3 \sigma(p), m(p) + \sqrt3 \sigma(p)\bigr]$$

    The coordinates are (p, a). After the best affine coupling layer the negentropy of the uniform
    law, ½ log(πe/6) = 0.1765 nats, is left of a.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Example 2.

    Example:
        >>> from gauss_flows.datasets import WU
        >>> print(f"{WU().kl_to_normal():.10f}")
        1.0078996963
    """

    def _standard_draws(self, key, shape):
        return math.sqrt(3) * (2 * interior_uniform(key, shape) - 1)

    def _standard_log_prob(self, u):
        return jnp.where(jnp.abs(u) <= math.sqrt(3), _LOG_UNIFORM, -jnp.inf)

    def _standard_negentropy(self):
        return UNIFORM_NEGENTROPY
