"""What all couplings share: which coordinates condition, which are transformed, and by what."""

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.bijectors.base import (
    Bijector,
    check_built,
    check_count,
    check_widths,
)
from gaussianization.gauss_keras.bijectors.conditioners import make_mlp_network


def default_half_mask(input_dim: int) -> np.ndarray:
    """The mask whose first ⌊d/2⌋ coordinates pass through and condition.

    Args:
        input_dim: Number of coordinates d, at least 2.

    Returns:
        d booleans.

    Raises:
        ValueError: If there are fewer than 2 coordinates.

    Example:
        >>> from gaussianization.gauss_keras import default_half_mask
        >>> default_half_mask(5).tolist()
        [True, True, False, False, False]
    """
    input_dim = check_count(input_dim, "input_dim", least=2)
    return np.arange(input_dim) < input_dim // 2


class CouplingBijector(Bijector):
    r"""The frame of a coupling: a mask, and the conditioner that reads its passive side.

    $$x = (x_{\text{passive}}, x_{\text{active}}), \qquad
    \theta = \text{conditioner}(x_{\text{passive}}, \text{condition}), \qquad
    z_j = g(x_j; \theta_j) \text{ for } j \text{ active}.$$

    A subclass gives `params_per_dim` and the elementwise map g and its inverse, as
    `_transform(active, raw)` and `_untransform(active, raw)` with raw of shape
    (batch, d_active, params_per_dim).

    Args:
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        conditioner: Any Keras layer or model from (batch, d_passive + condition_dim) to
            (batch, d_active · params_per_dim); `None` for an MLP with a zero last layer.
        condition_dim: Width of an external condition, which joins the conditioner's input after
            the passive coordinates; `None` for none.
        hidden: Widths of the hidden layers of the built-in conditioner.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.

    Raises:
        ValueError: If the mask is not boolean, transforms nothing or leaves nothing to condition
            on; when the layer is built, if mask or conditioner do not fit.

    References:
        Dinh, Sohl-Dickstein & Bengio (2017), *Density estimation using Real NVP*.
    """

    def __init__(
        self,
        mask: Sequence[bool] | np.ndarray | None = None,
        conditioner: keras.layers.Layer | None = None,
        *,
        condition_dim: int | None = None,
        hidden: Sequence[int] = (64, 64),
        **kwargs: Any,
    ):
        super().__init__(**kwargs)
        if condition_dim is not None:
            condition_dim = check_count(condition_dim, "condition_dim")
        self.condition_dim = condition_dim
        self.mask = None if mask is None else _checked_mask(mask, condition_dim)
        if conditioner is not None and not isinstance(conditioner, keras.layers.Layer):
            raise ValueError(
                "Expected the conditioner to be a Keras layer or model. "
                f"Received: conditioner={conditioner}"
            )
        self.hidden = check_widths(hidden)
        self._given_conditioner = conditioner is not None
        self.conditioner: Any = conditioner

    # What the conditioner's output is multiplied by: what a given learning rate does with a network
    # is ours to choose. A power of two, so that a marginal layer's parameters survive it exactly.
    conditioner_gain = 1.0

    @property
    def params_per_dim(self) -> int:
        """Parameters of one transformed coordinate."""
        raise NotImplementedError(f"{type(self).__name__} does not implement params_per_dim.")

    def build(self, input_shape: Any) -> None:
        """Settle the mask, and make or check the conditioner."""
        super().build(input_shape)
        d = int(input_shape[1])
        if self.mask is None:
            if d == 1 and self.condition_dim is None:
                raise ValueError(
                    f"Expected at least 2 coordinates in coupling '{self.name}': of one there is "
                    "nothing to condition on. Use MixtureCDFGaussianization. "
                    f"Received: input_shape={tuple(input_shape)}"
                )
            self.mask = tuple(bool(value) for value in np.arange(d) < d // 2)
        if len(self.mask) != d:
            raise ValueError(
                f"Expected a mask of {d} booleans in layer '{self.name}', one a coordinate. "
                f"Received: mask={list(self.mask)}"
            )
        mask = np.array(self.mask)
        self._passive, self._active = np.flatnonzero(mask), np.flatnonzero(~mask)
        order = np.concatenate([self._passive, self._active])
        self._inverse_order = np.argsort(order)
        if self.conditioner is None:
            self.conditioner = make_mlp_network(
                self.conditioner_input_dim,
                self.conditioner_output_dim,
                self.hidden,
                dtype=self.dtype_policy,
            )
        self._check_conditioner(self.conditioner)

    @property
    def conditioner_input_dim(self) -> int:
        """Width of what the conditioner reads: passive coordinates, then the condition."""
        self._check_mask_is_settled()
        return len(self._passive) + (self.condition_dim or 0)

    @property
    def conditioner_output_dim(self) -> int:
        """Width of what the conditioner returns: d_active · params_per_dim."""
        self._check_mask_is_settled()
        return len(self._active) * self.params_per_dim

    def _check_mask_is_settled(self) -> None:
        # `build` settles it, and only then asks what the conditioner reads.
        if self.input_dim is None:
            check_built(self)

    def _check_conditioner(self, conditioner: Any) -> None:
        shape = conditioner(
            keras.KerasTensor((None, self.conditioner_input_dim), dtype=self.state_dtype)
        ).shape
        if len(shape) != 2 or shape[1] != self.conditioner_output_dim:
            raise ValueError(
                f"Expected a conditioner output width of {self.conditioner_output_dim} in layer "
                f"'{self.name}': {len(self._active)} transformed coordinates of "
                f"{self.params_per_dim} parameters each. "
                f"Received: conditioner output width={shape[-1]} (shape {tuple(shape)})"
            )

    def _forward(self, x: Any, condition: Any) -> tuple[Any, Any]:
        return self._couple(self._transform, x, condition)

    def _inverse(self, z: Any, condition: Any) -> tuple[Any, Any]:
        return self._couple(self._untransform, z, condition)

    def _invert(self, z: Any, condition: Any) -> Any:
        passive, active = self._split(z)
        raw = self.raw_parameters(passive, condition)
        return self._merge(passive, self._untransform_only(active, raw))

    def _couple(
        self, transform: Callable[[Any, Any], tuple[Any, Any]], x: Any, condition: Any
    ) -> tuple[Any, Any]:
        passive, active = self._split(x)
        value, log_det = transform(active, self.raw_parameters(passive, condition))
        return self._merge(passive, value), ops.sum(log_det, axis=-1)

    def _split(self, x: Any) -> tuple[Any, Any]:
        return _columns(x, self._passive), _columns(x, self._active)

    def _merge(self, passive: Any, active: Any) -> Any:
        if len(self._passive) == 0:
            return active
        return _columns(ops.concatenate([passive, active], axis=-1), self._inverse_order)

    def raw_parameters(self, passive: Any, condition: Any = None) -> Any:
        """The parameters that the conditioner sets, shape (batch, d_active, params_per_dim)."""
        inputs = passive
        if self.condition_dim is not None:
            inputs = ops.concatenate([passive, condition], axis=-1)
        raw = ops.cast(self.conditioner(inputs), self.state_dtype)
        if self.conditioner_gain != 1.0:
            raw = self.conditioner_gain * raw
        return ops.reshape(raw, (-1, len(self._active), self.params_per_dim))

    def _transform(self, active: Any, raw: Any) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not implement _transform.")

    def _untransform(self, active: Any, raw: Any) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not implement _untransform.")

    def _untransform_only(self, active: Any, raw: Any) -> Any:
        """X without its log-determinant, where that costs extra."""
        return self._untransform(active, raw)[0]

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments; a conditioner that was given with its own configuration."""
        conditioner = self.conditioner
        if not self._given_conditioner and conditioner is not None and conditioner.trainable:
            conditioner = None  # the one that a new layer makes for itself
        return {
            **super().get_config(),
            "mask": None if self.mask is None else list(self.mask),
            "conditioner": (
                None if conditioner is None else keras.saving.serialize_keras_object(conditioner)
            ),
            "condition_dim": self.condition_dim,
            "hidden": list(self.hidden),
        }

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> "CouplingBijector":
        """The layer of a configuration."""
        config = dict(config)
        if isinstance(config.get("conditioner"), dict):
            config["conditioner"] = keras.saving.deserialize_keras_object(config["conditioner"])
        return cls(**config)


def shared_conditioners(layers: Sequence[Bijector]) -> list[list[int]]:
    """Which layers use an earlier one's conditioner, as pairs of places: theirs, the earlier.

    A configuration holds each layer by itself; this is what it would lose.
    """
    first: dict[int, int] = {}
    pairs = []
    for index, layer in enumerate(layers):
        conditioner = getattr(layer, "conditioner", None)
        if conditioner is not None:
            earlier = first.setdefault(id(conditioner), index)
            if layers[earlier] is not layer:
                pairs.append([index, earlier])
    return pairs


def _columns(x: Any, indices: np.ndarray) -> Any:
    """Columns of a batch; neighbours are sliced, which is the cheapest."""
    if len(indices) == 0:
        return x[:, :0]
    start, stop = int(indices[0]), int(indices[-1]) + 1
    if np.array_equal(indices, np.arange(start, stop)):
        return x if (start, stop) == (0, x.shape[1]) else x[:, start:stop]
    return ops.take(x, indices, axis=1)


def _checked_mask(mask: Any, condition_dim: int | None) -> tuple[bool, ...]:
    try:
        values = np.asarray(mask)
    except ValueError:  # rows of several lengths
        values = np.asarray(None)
    if values.dtype != np.bool_ or values.ndim != 1 or values.size == 0:
        raise ValueError(
            "Expected a mask of booleans, one a coordinate: True passes through and conditions, "
            f"False is transformed. Received: mask={mask}"
        )
    if values.all():
        raise ValueError(
            "Expected a mask with at least one False, a coordinate to transform. "
            f"Received: mask={values.tolist()}"
        )
    if not values.any() and condition_dim is None:
        raise ValueError(
            "Expected a mask with at least one True, a coordinate to condition on, or a "
            "condition_dim. MixtureCDFGaussianization transforms every coordinate by itself. "
            f"Received: mask={values.tolist()}, condition_dim=None"
        )
    return tuple(bool(value) for value in values)
