"""What every density of the room offers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gauss_flows.datasets._checks import random_key, reals, whole

if TYPE_CHECKING:
    from gauss_flows.datasets.standardized import Standardized


class Density(ABC):
    """A density whose truth is known: samples, log-density, entropy and moments.

    Densities are immutable and equal when their kind and parameters are, so they can be keys of a
    dictionary and static arguments of `jax.jit`. What is drawn and `log_prob` are JAX, in the
    precision of the moment; entropy and moments are NumPy, in float64 whatever JAX's precision,
    and computed once for every parameter set.
    """

    @property
    @abstractmethod
    def n_dims(self) -> int:
        """Number of coordinates, d."""

    @abstractmethod
    def _sample(self, key: PRNGKeyArray, n: int) -> Array:
        """Draw n rows."""

    @abstractmethod
    def _log_prob(self, x: Array) -> Array:
        """Log-density of floats of shape (..., d)."""

    @abstractmethod
    def _entropy(self) -> float:
        """Entropy in nats."""

    @abstractmethod
    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and covariance."""

    def sample(self, key: PRNGKeyArray, n: int) -> Float[Array, "n d"]:
        """Draw independent points.

        Args:
            key: Random key.
            n: How many; static under `jax.jit`.

        Returns:
            The points, of shape (n, d), in JAX's default precision.

        Raises:
            ValueError: If `key` is none, or `n` no integer of at least 0.
        """
        return _compiled_sample(self, random_key(key), whole("n", n, 0))

    def log_prob(self, x: Float[ArrayLike, "*n d"]) -> Float[Array, "*n"]:
        """Log-density, −∞ outside the support.

        Args:
            x: Points of shape (..., d).

        Returns:
            Their log-densities in nats, of shape (...); NaN where a coordinate is.

        Raises:
            ValueError: If `x` is no array of real numbers, or its last axis has not d entries.
        """
        x = reals("x", x)
        if x.ndim == 0 or x.shape[-1] != self.n_dims:
            raise ValueError(f"Expected x of shape (..., {self.n_dims}); got {x.shape}.")
        return _compiled_log_prob(self, x)

    def entropy(self) -> float:
        r"""Differential entropy $-\mathrm{E} \log p(x)$.

        Returns:
            The entropy in nats, exact or by quadrature to 1e-8.
        """
        return _known_entropy(self)

    def mean(self) -> Float[np.ndarray, " d"]:
        """Mean of every coordinate.

        Returns:
            The means, of shape (d,).
        """
        return _known_moments(self)[0].copy()

    def covariance(self) -> Float[np.ndarray, "d d"]:
        """Covariance of the coordinates.

        Returns:
            The matrix, of shape (d, d).
        """
        return _known_moments(self)[1].copy()

    def kl_to_normal(self) -> float:
        r"""Kullback-Leibler divergence to the standard normal.

        $$\mathrm{KL}(p \,\|\, N(0, I)) = -H(p) + \tfrac d2 \log 2\pi
        + \tfrac12 \bigl(\operatorname{tr} \Sigma + \lvert \mu \rvert^2\bigr)$$

        Returns:
            The divergence in nats.
        """
        mean, covariance = _known_moments(self)
        second_moment = float(np.trace(covariance) + mean @ mean)
        return 0.5 * (self.n_dims * math.log(2 * math.pi) + second_moment) - self.entropy()

    def standardized(self) -> Standardized:
        """The same density, every coordinate shifted to mean 0 and scaled to unit deviation.

        Returns:
            The density of (x − mean) / deviation.
        """
        # A standardized density is itself a density: the two files need each other.
        from gauss_flows.datasets.standardized import Standardized

        return Standardized(self)


class PlanarDensity(Density):
    """A density of two coordinates."""

    @property
    def n_dims(self) -> int:
        """Number of coordinates, 2."""
        return 2


# Compiled once for every parameter set and shape, because densities are equal by value.
@partial(jax.jit, static_argnums=(0, 2))
def _compiled_sample(density, key, n):
    return density._sample(key, n)


@partial(jax.jit, static_argnums=0)
def _compiled_log_prob(density, x):
    # A comparison with NaN is false, which must not pass for "outside the support".
    return jnp.where(jnp.isnan(x).any(-1), jnp.nan, density._log_prob(x))


@lru_cache(maxsize=1024)
def _known_entropy(density):
    return float(density._entropy())


@lru_cache(maxsize=1024)
def _known_moments(density):
    return density._moments()
