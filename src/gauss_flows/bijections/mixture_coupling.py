"""Coupling whose elementwise map is the Gaussianizing map of a Gaussian mixture."""

from collections.abc import Callable

import equinox as eqx
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gauss_flows.bijections.coupling import Coupling, Mask
from gauss_flows.bijections.mixture_parameters import Mixture, unpack
from gauss_flows.numerics import gaussian_mixture


class MixtureGaussianCDFCoupling(AbstractBijection):
    r"""Coupling that Gaussianizes each transformed coordinate through a mixture of its own.

    $$z_{\text{passive}} = x_{\text{passive}}, \qquad
    z_j = \Phi^{-1}\Big(\sum_k w_{jk}\,
    \Phi\big(\tfrac{x_j - \mu_{jk}}{\sigma_{jk}}\big)\Big),$$

    where the conditioner reads the passive coordinates and returns what is added to a base mixture
    near N(0, 1), in the parametrisation of
    [`MixtureGaussianCDF`][gauss_flows.bijections.mixture_cdf.MixtureGaussianCDF]. With a zero
    last kernel, as at the start, it is that layer on the transformed coordinates, to the last
    digit.

    Args:
        key: Random key of the conditioner (unused if one is given).
        n_dims: Number of coordinates d.
        n_components: Components K of each mixture. The conditioner has 3 K outputs for each
            transformed coordinate: logits, means and log-scales.
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        cond_dim: Width of an external condition; `None` for none.
        nn_width: Width of the conditioner's hidden layers.
        nn_depth: Number of its hidden layers.
        conditioner: A network to use in place of the built-in one, see
            [`Coupling`][gauss_flows.bijections.coupling.Coupling].

    Raises:
        ValueError: if the mask or the conditioner does not fit, or `n_components` < 1.

    References:
        Meng, Song, Song & Ermon, "Gaussianization Flows" (2020).
        Ho, Chen, Srinivas, Duan & Abbeel, "Flow++" (2019).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows import MixtureGaussianCDFCoupling
        >>> layer = MixtureGaussianCDFCoupling(jr.key(0), n_dims=2, n_components=8)
        >>> z, log_det = layer.transform_and_log_det(jnp.array([0.5, -40.0]))
        >>> bool(jnp.allclose(layer.inverse(z), jnp.array([0.5, -40.0])))
        True
    """

    _coupling: Coupling
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        n_dims: int,
        n_components: int = 8,
        mask: Mask | None = None,
        cond_dim: int | None = None,
        nn_width: int = 64,
        nn_depth: int = 2,
        conditioner: Callable[[Array], Array] | None = None,
    ):
        if n_components < 1:
            raise ValueError(f"Expected n_components >= 1; got {n_components}.")
        self._coupling = Coupling(
            key,
            n_dims=n_dims,
            n_params=3 * n_components,
            mask=mask,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
            conditioner=conditioner,
            marginal_layer="MixtureGaussianCDF",
        )
        self.shape = self._coupling.shape
        self.cond_shape = self._coupling.cond_shape

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Data to latent: z of shape (n_dims,) and the log-determinant in nats."""
        passive, active = self._coupling.split(x)
        mixture = self._mixture(passive, condition)
        z, log_det = gaussian_mixture.gaussianize(active, *mixture)
        return self._coupling.merge(passive, z), log_det.sum()

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Latent to data: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        passive, active = self._coupling.split(y)
        mixture = self._mixture(passive, condition)
        x = gaussian_mixture.quantile(active, *mixture)
        _, log_det = gaussian_mixture.gaussianize(x, *mixture)
        return self._coupling.merge(passive, x), -log_det.sum()

    def _mixture(self, passive: Array, condition: ArrayLike | None) -> Mixture:
        raw = self._coupling.parameters(passive, condition)
        return unpack(raw.reshape(raw.shape[0], 3, -1))
