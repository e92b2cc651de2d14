"""Coupling whose elementwise map is a rational-quadratic spline."""

from collections.abc import Callable

import equinox as eqx
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gauss_flows.bijections.coupling import Coupling, Mask
from gauss_flows.bijections.spline import checked_interval
from gauss_flows.numerics import rational_quadratic


class RQSplineCoupling(AbstractBijection):
    r"""Coupling with a monotone rational-quadratic spline for each transformed coordinate.

    $$z_{\text{passive}} = x_{\text{passive}}, \qquad
    z_j = g(x_j; \theta_j(x_{\text{passive}}, \text{condition})).$$

    As in flowjax `n_bins` counts the inner knots: n_bins + 1 bins, hence n_bins + 1 widths,
    n_bins + 1 heights and n_bins + 2 knot derivatives, 3 n_bins + 4 outputs of the conditioner
    for each transformed coordinate. Outside the box the spline is straight, with the slope of its
    end knot. A conditioner that returns zeros, as the built-in ones do at the start, makes the
    layer the identity.

    Args:
        key: Random key of the conditioner (unused if one is given).
        n_dims: Number of coordinates d.
        n_bins: Number of inner knots of each spline.
        interval: Half-width of the box [-interval, interval], in units of x. The default suits
            standardised data.
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        cond_dim: Width of an external condition; `None` for none.
        nn_width: Width of the conditioner's hidden layers.
        nn_depth: Number of its hidden layers.
        conditioner: A network to use in place of the built-in one, see
            [`Coupling`][gauss_flows.bijections.coupling.Coupling].

    Raises:
        ValueError: if the mask, the conditioner, `n_bins` or `interval` do not make a layer.

    References:
        Durkan, Bekasov, Murray & Papamakarios, "Neural Spline Flows" (2019).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows import RQSplineCoupling
        >>> layer = RQSplineCoupling(jr.key(0), n_dims=2, n_bins=8, nn_width=16, nn_depth=1)
        >>> z, log_det = layer.transform_and_log_det(jnp.array([0.5, -40.0]))
        >>> z, log_det
        (Array([  0.5, -40. ], dtype=float32), Array(0., dtype=float32))
    """

    _coupling: Coupling
    interval: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        n_dims: int,
        n_bins: int = 8,
        interval: float = 3.0,
        mask: Mask | None = None,
        cond_dim: int | None = None,
        nn_width: int = 64,
        nn_depth: int = 2,
        conditioner: Callable[[Array], Array] | None = None,
    ):
        self.interval = checked_interval(n_bins, interval)
        self._coupling = Coupling(
            key,
            n_dims=n_dims,
            n_params=rational_quadratic.n_raw(n_bins),
            mask=mask,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
            conditioner=conditioner,
            marginal_layer="RQSplineMarginal",
        )
        self.shape = self._coupling.shape
        self.cond_shape = self._coupling.cond_shape

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Data to latent: z of shape (n_dims,) and the log-determinant in nats."""
        passive, active = self._coupling.split(x)
        raw = self._coupling.parameters(passive, condition)
        z, log_det = rational_quadratic.forward(active, raw, self.interval)
        return self._coupling.merge(passive, z), log_det.sum()

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Latent to data: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        passive, active = self._coupling.split(y)
        raw = self._coupling.parameters(passive, condition)
        x, log_det = rational_quadratic.inverse(active, raw, self.interval)
        return self._coupling.merge(passive, x), log_det.sum()
