"""Rational-quadratic spline on every coordinate by itself."""

import equinox as eqx
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.numerics import rational_quadratic


class RQSplineMarginal(AbstractBijection):
    r"""Monotone rational-quadratic spline on each coordinate, linear outside a box.

    $$z_j = g(x_j; \theta_j), \qquad
    \log\left|\det \frac{\partial z}{\partial x}\right| = \sum_j \log g'(x_j; \theta_j).$$

    As in flowjax `n_bins` counts the inner knots of each spline: n_bins + 1 bins, with n_bins + 1
    widths, n_bins + 1 heights and n_bins + 2 knot derivatives, those of the two ends being the
    slopes of the tails. Bins and knot derivatives cannot degenerate, whatever the parameters.

    Args:
        n_dims: Number of coordinates d.
        n_bins: Number of inner knots.
        interval: Half-width of the box [-interval, interval], in units of x. The default suits
            standardised data.

    Attributes:
        raw: Unconstrained parameters, shape (d, 3 n_bins + 4); zero is the identity, where the
            layer starts.

    Raises:
        ValueError: if `n_dims` or `n_bins` < 1, or `interval` is not positive and finite.

    References:
        Durkan, Bekasov, Murray & Papamakarios, "Neural Spline Flows" (2019).

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows import RQSplineMarginal
        >>> layer = RQSplineMarginal(n_dims=2)
        >>> z, log_det = layer.transform_and_log_det(jnp.array([0.5, -40.0]))
        >>> z, log_det
        (Array([  0.5, -40. ], dtype=float32), Array(0., dtype=float32))
    """

    raw: Float[Array, "n_dims n_raw"]
    interval: float = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(self, n_dims: int, n_bins: int = 8, interval: float = 3.0):
        if n_dims < 1:
            raise ValueError(f"Expected n_dims >= 1; got {n_dims}.")
        self.interval = checked_interval(n_bins, interval)
        self.raw = jnp.zeros((n_dims, rational_quadratic.n_raw(n_bins)))
        self.shape = (n_dims,)
        self.cond_shape = None

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Data to latent: z of shape (n_dims,) and the log-determinant in nats."""
        z, log_det = rational_quadratic.forward(jnp.asarray(x), self.raw, self.interval)
        return z, log_det.sum()

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Latent to data: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        x, log_det = rational_quadratic.inverse(jnp.asarray(y), self.raw, self.interval)
        return x, log_det.sum()


def checked_interval(n_bins: int, interval: float) -> float:
    """The interval as a float, once it and `n_bins` are known to make a spline.

    Raises:
        ValueError: if `n_bins` < 1 or `interval` is not positive and finite.

    Example:
        >>> checked_interval(8, 3)
        3.0
    """
    if n_bins < 1:
        raise ValueError(f"Expected n_bins >= 1; got {n_bins}.")
    if not 0 < interval < float("inf"):
        raise ValueError(f"Expected a positive, finite interval; got {interval}.")
    return float(interval)
