"""Smooth bounds for log-scales, so that a network cannot make them blow up or collapse."""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.bijectors.base import check_real
from gaussianization.gauss_keras.numerics.tanh import tanh
from gaussianization.gauss_keras.registration import REGISTER

# Share of a bound that a raw value of reasonable size reaches.
_REACHED = 0.999


@REGISTER
class TanhLogScaleClamp:
    """See `tanh_log_scale_clamp`."""

    def __init__(self, bound: float):
        self.bound = check_real(bound, "bound")
        if not 0 < self.bound < math.inf:
            raise ValueError(f"Expected a positive, finite bound. Received: bound={bound}")

    def __call__(self, raw: Any) -> Any:
        """The clamped log-scale, of raw's shape."""
        return self.bound * tanh(ops.convert_to_tensor(raw) * (1.0 / self.bound))

    def inverse(self, log_scale: np.ndarray) -> np.ndarray:
        """The raw value of a log-scale, or of the nearest one that is reached."""
        share = np.clip(np.asarray(log_scale) / self.bound, -_REACHED, _REACHED)
        return self.bound * np.arctanh(share)

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"bound": self.bound}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "TanhLogScaleClamp":
        """The clamp of a configuration."""
        return cls(**config)


@REGISTER
class SigmoidLogScaleClamp:
    """See `sigmoid_log_scale_clamp`."""

    def __init__(self, min_log_scale: float, max_log_scale: float):
        self.min_log_scale = check_real(min_log_scale, "min_log_scale")
        self.max_log_scale = check_real(max_log_scale, "max_log_scale")
        if not -math.inf < self.min_log_scale < self.max_log_scale < math.inf:
            raise ValueError(
                "Expected finite min_log_scale < max_log_scale. Received: "
                f"min_log_scale={min_log_scale}, max_log_scale={max_log_scale}"
            )

    def __call__(self, raw: Any) -> Any:
        """The clamped log-scale, of raw's shape."""
        width = self.max_log_scale - self.min_log_scale
        return self.min_log_scale + width * ops.sigmoid(ops.convert_to_tensor(raw) * (4.0 / width))

    def inverse(self, log_scale: np.ndarray) -> np.ndarray:
        """The raw value of a log-scale, or of the nearest one that is reached."""
        width = self.max_log_scale - self.min_log_scale
        share = 2.0 * (np.asarray(log_scale) - self.min_log_scale) / width - 1.0
        return 0.5 * width * np.arctanh(np.clip(share, -_REACHED, _REACHED))

    def get_config(self) -> dict[str, Any]:
        """The arguments."""
        return {"min_log_scale": self.min_log_scale, "max_log_scale": self.max_log_scale}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "SigmoidLogScaleClamp":
        """The clamp of a configuration."""
        return cls(**config)


def tanh_log_scale_clamp(bound: float = 5.0) -> TanhLogScaleClamp:
    r"""The map $s \mapsto S \tanh(s / S)$: the identity near 0, bounded by ±S.

    Args:
        bound: S, in nats.

    Returns:
        A callable on tensors that Keras can save.

    Raises:
        ValueError: If the bound is not positive and finite.

    Example:
        >>> from gaussianization.gauss_keras import tanh_log_scale_clamp
        >>> [round(float(value), 3) for value in tanh_log_scale_clamp(3.0)([-100.0, 0.0, 0.01])]
        [-3.0, 0.0, 0.01]
    """
    return TanhLogScaleClamp(bound)


def sigmoid_log_scale_clamp(
    min_log_scale: float = -5.0, max_log_scale: float = 5.0
) -> SigmoidLogScaleClamp:
    r"""The map $s \mapsto a + (b - a)\,\sigma(4 s / (b - a))$, of slope 1 at 0, from a to b.

    At 0 it is the middle of the interval: an interval that is not symmetric moves the start of a
    layer away from the identity.

    Args:
        min_log_scale: a, in nats.
        max_log_scale: b, in nats.

    Returns:
        A callable on tensors that Keras can save.

    Raises:
        ValueError: If the bounds are not finite and in order.

    Example:
        >>> from gaussianization.gauss_keras import sigmoid_log_scale_clamp
        >>> [float(value) for value in sigmoid_log_scale_clamp(-2.0, 2.0)([-1e3, 0.0, 1e3])]
        [-2.0, 0.0, 2.0]
    """
    return SigmoidLogScaleClamp(min_log_scale, max_log_scale)


_BY_NAME: dict[str, Callable[[], Callable[[Any], Any]]] = {
    "tanh": tanh_log_scale_clamp,
    "sigmoid": sigmoid_log_scale_clamp,
}


def resolve_clamp(clamp: Any) -> Callable[[Any], Any] | None:
    """A clamp from its name, its saved configuration or itself; `None` stays `None`."""
    if isinstance(clamp, str):
        if clamp not in _BY_NAME:
            raise ValueError(
                f"Expected log_scale_clamp to be one of {sorted(_BY_NAME)}, a callable or None. "
                f"Received: log_scale_clamp={clamp!r}"
            )
        return _BY_NAME[clamp]()
    if isinstance(clamp, dict):
        clamp = keras.saving.deserialize_keras_object(clamp)
    if clamp is not None and not callable(clamp):
        raise ValueError(
            "Expected log_scale_clamp to be a name, a callable or None. "
            f"Received: log_scale_clamp={clamp!r}"
        )
    return clamp
