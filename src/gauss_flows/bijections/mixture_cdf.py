"""Marginal Gaussianization: each coordinate through its own mixture's CDF and Φ⁻¹."""

import math
from typing import Self

import equinox as eqx
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float

from gauss_flows.bijections.mixture_parameters import Mixture, pack, unpack
from gauss_flows.numerics import gaussian_mixture, logistic_mixture

_LOG_SCALE_RATIO = math.log(math.pi / math.sqrt(3.0))


def _initial_raw(n_dims: int, n_components: int) -> Array:
    for name, value in (("n_dims", n_dims), ("n_components", n_components)):
        if value < 1:
            raise ValueError(f"Expected {name} >= 1; got {value}.")
    return jnp.zeros((n_dims, 3, n_components))


def _packed(log_weights: Array, means: Array, log_scales: Array) -> Array:
    shapes = [jnp.shape(a) for a in (log_weights, means, log_scales)]
    if len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(
            f"Expected three arrays of one shape (n_dims, n_components); got {shapes}."
        )
    return pack(jnp.asarray(log_weights), jnp.asarray(means), jnp.asarray(log_scales))


class MixtureGaussianCDF(AbstractBijection):
    r"""Gaussianize each coordinate through a mixture of Gaussians.

    $$z_i = \Phi^{-1}\Big(\sum_k w_{ik}\,\Phi\big(\tfrac{x_i-\mu_{ik}}{\sigma_{ik}}\big)\Big),$$

    exact in both tails. It starts near the identity with distinct components.

    Args:
        n_dims: Number of coordinates.
        n_components: Components of each coordinate's mixture.

    Raises:
        ValueError: If ``n_dims`` or ``n_components`` is below 1.

    References:
        Meng, Song, Song & Ermon (2020), *Gaussianization Flows*.

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows import MixtureGaussianCDF
        >>> layer = MixtureGaussianCDF(n_dims=2, n_components=4)
        >>> z, log_det = layer.transform_and_log_det(jnp.array([0.5, 100.0]))
        >>> bool(jnp.allclose(layer.inverse(z), jnp.array([0.5, 100.0])))
        True
    """

    raw: Float[Array, "n_dims 3 n_components"]
    shape: tuple[int, ...]
    cond_shape: tuple[int, ...] | None

    def __init__(self, n_dims: int, n_components: int = 8):
        self.raw = _initial_raw(n_dims, n_components)
        self.shape = (n_dims,)
        self.cond_shape = None

    @classmethod
    def from_mixture(
        cls,
        log_weights: Float[Array, "n_dims n_components"],
        means: Float[Array, "n_dims n_components"],
        log_scales: Float[Array, "n_dims n_components"],
    ) -> Self:
        """The layer of given mixtures, one for each coordinate; log-weights normalised."""
        raw = _packed(log_weights, means, log_scales)
        layer = cls(raw.shape[0], raw.shape[-1])
        return eqx.tree_at(lambda tree: tree.raw, layer, raw)

    @property
    def mixture(self) -> Mixture:
        """The mixtures in effect, each field (n_dims, n_components)."""
        return unpack(self.raw)

    def transform_and_log_det(self, x, condition=None):
        """Gaussianize: z (d,) and the log-determinant of dz/dx, in nats."""
        z, log_det = gaussian_mixture.gaussianize(x, *self.mixture)
        return z, jnp.sum(log_det)

    def inverse_and_log_det(self, y, condition=None):
        """Invert: x (d,) at the scores y and the log-determinant of dx/dz; NaN where it failed."""
        mixture = self.mixture
        x = gaussian_mixture.quantile(y, *mixture)
        _, log_det = gaussian_mixture.gaussianize(x, *mixture)
        return x, -jnp.sum(log_det)


class MixtureLogisticCDF(AbstractBijection):
    r"""Gaussianize each coordinate through a mixture of logistic distributions.

    $$z_i = \Phi^{-1}\Big(\sum_k w_{ik}\,\sigma\big(\tfrac{x_i-\mu_{ik}}{s_{ik}}\big)\Big)$$

    Its exponential tails suit data with outliers: z grows as the square root of x.

    Args:
        n_dims: Number of coordinates.
        n_components: Components of each coordinate's mixture.

    Raises:
        ValueError: If ``n_dims`` or ``n_components`` is below 1.

    References:
        Ho, Chen, Srinivas, Duan & Abbeel (2019), *Flow++*.

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows import MixtureLogisticCDF
        >>> layer = MixtureLogisticCDF(n_dims=1, n_components=3)
        >>> bool(jnp.isfinite(layer.transform(jnp.array([1e6])))[0])
        True
    """

    raw: Float[Array, "n_dims 3 n_components"]
    shape: tuple[int, ...]
    cond_shape: tuple[int, ...] | None

    def __init__(self, n_dims: int, n_components: int = 8):
        self.raw = _initial_raw(n_dims, n_components)
        self.shape = (n_dims,)
        self.cond_shape = None

    @classmethod
    def from_mixture(
        cls,
        log_weights: Float[Array, "n_dims n_components"],
        means: Float[Array, "n_dims n_components"],
        log_scales: Float[Array, "n_dims n_components"],
    ) -> Self:
        """The layer of given mixtures, one for each coordinate; log-scales are log s."""
        raw = _packed(log_weights, means, jnp.asarray(log_scales) + _LOG_SCALE_RATIO)
        layer = cls(raw.shape[0], raw.shape[-1])
        return eqx.tree_at(lambda tree: tree.raw, layer, raw)

    @property
    def mixture(self) -> Mixture:
        """The mixtures in effect, each field (n_dims, n_components); log-scales are log s."""
        # The base mixture speaks of standard deviations, and a logistic's is s·π/√3.
        log_weights, means, log_deviations = unpack(self.raw)
        return Mixture(log_weights, means, log_deviations - _LOG_SCALE_RATIO)

    def transform_and_log_det(self, x, condition=None):
        """Gaussianize: z (d,) and the log-determinant of dz/dx, in nats."""
        z, log_det = logistic_mixture.gaussianize(x, *self.mixture)
        return z, jnp.sum(log_det)

    def inverse_and_log_det(self, y, condition=None):
        """Invert: x (d,) at the scores y and the log-determinant of dx/dz; NaN where it failed."""
        mixture = self.mixture
        x = logistic_mixture.quantile(y, *mixture)
        _, log_det = logistic_mixture.gaussianize(x, *mixture)
        return x, -jnp.sum(log_det)
