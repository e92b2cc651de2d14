"""Coupling whose elementwise map is a shift and a bounded scale."""

import math
from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gauss_flows.bijections.coupling import Coupling, Mask


class AffineCoupling(AbstractBijection):
    r"""Coupling that shifts and scales each transformed coordinate.

    $$z_j = (x_j - m_j)\, e^{-s_j}, \qquad s_j = S \tanh(\sigma_j / S), \qquad
    \log\left|\det \frac{\partial z}{\partial x}\right| = -\sum_j s_j,$$

    with $(m_j, \sigma_j)$ from the conditioner. The log-scale cannot leave $[-S, S]$, so neither
    direction can blow up. A conditioner that returns zeros, as the built-in ones do at the start,
    makes the layer the identity.

    Args:
        key: Random key of the conditioner (unused if one is given).
        n_dims: Number of coordinates d.
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        cond_dim: Width of an external condition; `None` for none.
        nn_width: Width of the conditioner's hidden layers.
        nn_depth: Number of its hidden layers.
        conditioner: A network to use in place of the built-in one, two outputs for each
            transformed coordinate, see [`Coupling`][gauss_flows.bijections.coupling.Coupling].
        max_log_scale: Bound S on the absolute log-scale (nats).

    Raises:
        ValueError: if the mask or the conditioner does not fit, or `max_log_scale` is not
            positive and finite.

    References:
        Dinh, Sohl-Dickstein & Bengio, "Density estimation using Real NVP" (2017).
        Draxler, Schwarz, Schnörr & Köthe, "Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows" (2020).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows import AffineCoupling
        >>> layer = AffineCoupling(jr.key(0), n_dims=2)
        >>> layer.transform(jnp.array([0.5, -40.0]))
        Array([  0.5, -40. ], dtype=float32)
    """

    _coupling: Coupling
    max_log_scale: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        n_dims: int,
        mask: Mask | None = None,
        cond_dim: int | None = None,
        nn_width: int = 64,
        nn_depth: int = 2,
        conditioner: Callable[[Array], Array] | None = None,
        max_log_scale: float = 5.0,
    ):
        if not 0 < max_log_scale < math.inf:
            raise ValueError(f"Expected a positive, finite max_log_scale; got {max_log_scale}.")
        self.max_log_scale = float(max_log_scale)
        self._coupling = Coupling(
            key,
            n_dims=n_dims,
            n_params=2,
            mask=mask,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
            conditioner=conditioner,
            marginal_layer="ActNorm",
        )
        self.shape = self._coupling.shape
        self.cond_shape = self._coupling.cond_shape

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Data to latent: z of shape (n_dims,) and the log-determinant in nats."""
        passive, active = self._coupling.split(x)
        shift, log_scale = self._shift_and_log_scale(passive, condition)
        z = (active - shift) * jnp.exp(-log_scale)
        return self._coupling.merge(passive, z), -log_scale.sum()

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Latent to data: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        passive, active = self._coupling.split(y)
        shift, log_scale = self._shift_and_log_scale(passive, condition)
        x = active * jnp.exp(log_scale) + shift
        return self._coupling.merge(passive, x), log_scale.sum()

    def _shift_and_log_scale(
        self, passive: Array, condition: ArrayLike | None
    ) -> tuple[Array, Array]:
        raw = self._coupling.parameters(passive, condition)
        return raw[:, 0], self.max_log_scale * jnp.tanh(raw[:, 1] / self.max_log_scale)
