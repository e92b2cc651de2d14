"""Coupling whose elementwise map is a shift and a bounded scale."""

import math
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.bijectors.coupling import CouplingBijector
from gaussianization.gauss_keras.numerics.tanh import tanh
from gaussianization.gauss_keras.registration import REGISTER


@REGISTER
class AffineCoupling(CouplingBijector):
    r"""Coupling that shifts and scales each transformed coordinate.

    $$z_j = (x_j - m_j)\, e^{-s_j}, \qquad s_j = S \tanh(\sigma_j / S), \qquad
    \log\left|\det \frac{\partial z}{\partial x}\right| = -\sum_j s_j,$$

    with $(m_j, \sigma_j)$ from the conditioner. The log-scale cannot leave $[-S, S]$, so neither
    direction can blow up. A conditioner that returns zeros, as the built-in ones do at the start,
    makes the layer the identity.

    Args:
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        conditioner: Any Keras layer or model from (batch, d_passive + condition_dim) to
            (batch, d_active · 2); `None` for an MLP. Its output is read as (d_active, 2): shift
            and log-scale before its bound.
        max_log_scale: Bound S on the absolute log-scale, in nats.
        **kwargs: `condition_dim` and `hidden`, as of `CouplingBijector`; `name`, `dtype` and
            `trainable`, as of any Keras layer.

    Raises:
        ValueError: If ``max_log_scale`` is not positive and finite or the mask is no mask; when
            the layer is built, if mask or conditioner do not fit the data.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017), *Density estimation using Real NVP*; Draxler,
        Schwarz, Schnörr & Köthe (2020), *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows*.

    Example:
        >>> from gaussianization.gauss_keras import AffineCoupling
        >>> layer = AffineCoupling(mask=[True, False])
        >>> layer.build((None, 2))
        >>> z, log_det = layer.forward_and_log_det([[0.5, -40.0]])
        >>> [float(value) for value in z[0]], abs(float(log_det[0]))
        ([0.5, -40.0], 0.0)
    """

    def __init__(
        self,
        mask: Any = None,
        conditioner: keras.layers.Layer | None = None,
        *,
        max_log_scale: float = 5.0,
        **kwargs: Any,
    ):
        super().__init__(mask, conditioner, **kwargs)
        if not 0 < max_log_scale < math.inf:
            raise ValueError(
                "Expected a positive, finite max_log_scale. "
                f"Received: max_log_scale={max_log_scale}"
            )
        self.max_log_scale = float(max_log_scale)

    @property
    def params_per_dim(self) -> int:
        """Shift and log-scale."""
        return 2

    def _transform(self, active: Any, raw: Any) -> tuple[Any, Any]:
        log_scale = self._log_scale(raw)
        return (active - raw[..., 0]) * ops.exp(-log_scale), -log_scale

    def _untransform(self, active: Any, raw: Any) -> tuple[Any, Any]:
        log_scale = self._log_scale(raw)
        return active * ops.exp(log_scale) + raw[..., 0], log_scale

    def _log_scale(self, raw: Any) -> Any:
        return self.max_log_scale * tanh(raw[..., 1] * (1.0 / self.max_log_scale))

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "max_log_scale": self.max_log_scale}
