"""Coupling whose elementwise map is a rational-quadratic spline."""

import math
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.bijectors.base import check_count, check_real
from gaussianization.gauss_keras.bijectors.coupling import CouplingBijector
from gaussianization.gauss_keras.numerics import rational_quadratic
from gaussianization.gauss_keras.registration import REGISTER


@REGISTER
class RQSplineCoupling(CouplingBijector):
    r"""Coupling with a monotone rational-quadratic spline for each transformed coordinate.

    $$z_{\text{passive}} = x_{\text{passive}}, \qquad
    z_j = g(x_j; \theta_j(x_{\text{passive}}, \text{condition})).$$

    ``num_bins`` counts the inner knots: num_bins + 1 bins, hence as many widths and heights, and
    num_bins + 2 knot derivatives, 3 num_bins + 4 outputs of the conditioner for each transformed
    coordinate. Outside the box the spline is straight, with the slope of its end knot. A
    conditioner that returns zeros, as the built-in ones do at the start, makes the layer the
    identity.

    Args:
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        conditioner: Any Keras layer or model from (batch, d_passive + condition_dim) to
            (batch, d_active · (3 num_bins + 4)); `None` for an MLP. Its output is read as
            (d_active, 3 num_bins + 4): widths, heights, derivatives.
        num_bins: Number of inner knots of each spline.
        interval: Half-width of the box [−interval, interval], in units of x. The default suits
            standardised data.
        **kwargs: `condition_dim` and `hidden`, as of `CouplingBijector`; `name`, `dtype` and
            `trainable`, as of any Keras layer.

    Raises:
        ValueError: If ``num_bins`` is below 1, ``interval`` is not positive and finite or the
            mask is no mask; when the layer is built, if mask or conditioner do not fit the data.

    References:
        Durkan, Bekasov, Murray & Papamakarios (2019), *Neural Spline Flows*.

    Example:
        >>> from gaussianization.gauss_keras import RQSplineCoupling
        >>> layer = RQSplineCoupling(mask=[True, False], num_bins=8, hidden=(16,))
        >>> layer.build((None, 2))
        >>> z, log_det = layer.forward_and_log_det([[0.5, -40.0]])
        >>> [float(value) for value in z[0]], float(log_det[0])
        ([0.5, -40.0], 0.0)
    """

    def __init__(
        self,
        mask: Any = None,
        conditioner: keras.layers.Layer | None = None,
        num_bins: int = 8,
        interval: float = 3.0,
        **kwargs: Any,
    ):
        super().__init__(mask, conditioner, **kwargs)
        self.num_bins = check_count(num_bins, "num_bins")
        self.interval = check_real(interval, "interval")
        if not 0 < self.interval < math.inf:
            raise ValueError(f"Expected a positive, finite interval. Received: interval={interval}")

    @property
    def params_per_dim(self) -> int:
        """Widths, heights and derivatives: 3 num_bins + 4."""
        return rational_quadratic.raw_size(self.num_bins)

    def _transform(self, active: Any, raw: Any) -> tuple[Any, Any]:
        return rational_quadratic.forward(active, ops.transpose(raw, (2, 0, 1)), self.interval)

    def _untransform(self, active: Any, raw: Any) -> tuple[Any, Any]:
        return rational_quadratic.inverse(active, ops.transpose(raw, (2, 0, 1)), self.interval)

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "num_bins": self.num_bins, "interval": self.interval}
