"""What every invertible layer shares: the two directions, the checks, the precision."""

from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.numerics.tracing import concrete
from gaussianization.gauss_keras.registration import REGISTER


@REGISTER
class Bijector(keras.layers.Layer):
    r"""An invertible layer $x \mapsto z$ on vectors that knows its log-determinant.

    As a Keras layer it maps x to z. `forward_and_log_det` and `inverse_and_log_det` are the two
    directions with $\log|\det \partial z/\partial x|$ and $\log|\det \partial x/\partial z|$.

    A subclass creates its weights in `build(input_shape)`, calling `super().build(input_shape)`
    first, and implements `_forward(x, condition)` and `_inverse(z, condition)`, each returning
    the value (batch, d) and the log-determinant (batch,).

    Whatever the dtype policy, data and log-determinants are float64 under a float64 policy and
    float32 under every other: in half precision only a conditioner's networks compute.

    Args:
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.
    """

    def __init__(self, **kwargs: Any):
        # The state is not cast to a half-precision compute dtype on the way in.
        super().__init__(autocast=False, **kwargs)
        self.input_dim: int | None = None
        self.condition_dim: int | None = None

    @property
    def state_dtype(self) -> str:
        """The dtype of data, latents and log-determinants: float32 or float64."""
        return "float64" if self.variable_dtype == "float64" else "float32"

    def build(self, input_shape: Any) -> None:
        """Fix the number of coordinates.

        Args:
            input_shape: (batch, d).

        Raises:
            ValueError: If the shape has another rank or an unknown or empty last axis.
        """
        shape = tuple(input_shape)
        if len(shape) != 2 or shape[1] is None or int(shape[1]) < 1:
            raise ValueError(
                f"Expected data of shape (batch, d) with d >= 1 in layer '{self.name}'. "
                f"Received: input_shape={shape}"
            )
        self.input_dim = int(shape[1])
        self.built = True

    def call(self, inputs: Any, condition: Any = None, inverse: bool = False) -> Any:
        """Map data to latents, or back.

        Args:
            inputs: Data x, shape (batch, d); latents z with ``inverse=True``.
            condition: The condition, shape (batch, condition_dim), of a conditional layer.
            inverse: Whether to map latents to data.

        Returns:
            z, or x, of the same shape.
        """
        direction = self.inverse_and_log_det if inverse else self.forward_and_log_det
        return direction(inputs, condition)[0]

    def forward_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        """Map data to latents.

        Args:
            x: Data, shape (batch, d).
            condition: The condition, shape (batch, condition_dim), of a conditional layer.

        Returns:
            z, shape (batch, d), and log|det ∂z/∂x| in nats, shape (batch,).

        Raises:
            ValueError: If the layer is not built, a shape does not fit or a value is not finite.
        """
        return self.forward_unseen(*self._seen(x, condition, "x"))

    def inverse_and_log_det(self, z: Any, condition: Any = None) -> tuple[Any, Any]:
        """Map latents to data.

        Args:
            z: Latents, shape (batch, d).
            condition: The condition, shape (batch, condition_dim), of a conditional layer.

        Returns:
            x, shape (batch, d), and log|det ∂x/∂z| in nats, shape (batch,).

        Raises:
            ValueError: If the layer is not built, a shape does not fit or a value is not finite.
        """
        return self.inverse_unseen(*self._seen(z, condition, "z"))

    def inverse(self, z: Any, condition: Any = None) -> Any:
        """The data x, shape (batch, d), whose latents are z; see `inverse_and_log_det`."""
        return self.invert_unseen(*self._seen(z, condition, "z"))

    def forward_unseen(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        """`forward_and_log_det` of values that nobody looks at: a flow looks at its own door."""
        return self._forward(*self._checked(x, condition))

    def inverse_unseen(self, z: Any, condition: Any = None) -> tuple[Any, Any]:
        """`inverse_and_log_det` of values that nobody looks at."""
        return self._inverse(*self._checked(z, condition))

    def invert_unseen(self, z: Any, condition: Any = None) -> Any:
        """`inverse` of values that nobody looks at."""
        return self._invert(*self._checked(z, condition))

    def _forward(self, x: Any, condition: Any) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not implement _forward.")

    def _inverse(self, z: Any, condition: Any) -> tuple[Any, Any]:
        raise NotImplementedError(f"{type(self).__name__} does not implement _inverse.")

    def _invert(self, z: Any, condition: Any) -> Any:
        """X alone; layers whose log-determinant costs extra leave it out."""
        return self._inverse(z, condition)[0]

    def compute_output_shape(self, input_shape: Any, *_: Any, **__: Any) -> tuple[int | None, ...]:
        """The shape of z, which is that of x."""
        return tuple(input_shape)

    def compute_output_spec(self, inputs: Any, *_: Any, **__: Any) -> keras.KerasTensor:
        """Z of x's shape in the layer's state dtype."""
        if self.built:
            check_width(inputs, self.input_dim, "inputs", self.name)
        return keras.KerasTensor(inputs.shape, dtype=self.state_dtype)

    def _seen(self, x: Any, condition: Any, name: str) -> tuple[Any, Any]:
        x = as_state(x, self.state_dtype)
        check_finite(x, name)
        if condition is not None and self.condition_dim is not None:
            condition = as_state(condition, self.state_dtype)
            check_finite(condition, "condition")
        return x, condition

    def _checked(self, x: Any, condition: Any) -> tuple[Any, Any]:
        check_built(self)
        x = as_state(x, self.state_dtype)
        check_width(x, self.input_dim, "inputs", self.name)
        if self.condition_dim is None:
            # A layer without a condition ignores its flow's.
            return x, None
        if condition is None:
            raise ValueError(
                f"Expected a condition of shape (batch, {self.condition_dim}) in layer "
                f"'{self.name}'. Received: condition=None"
            )
        condition = as_state(condition, self.state_dtype)
        check_width(condition, self.condition_dim, "condition", self.name)
        check_rows(x, condition, "inputs", self.name)
        return x, condition

    def _tensor(self, variable: Any) -> Any:
        """A weight as a tensor of the state's dtype."""
        return ops.cast(ops.convert_to_tensor(variable), self.state_dtype)

    def _zero_log_det(self, x: Any) -> Any:
        return ops.zeros_like(x[:, 0])


def as_state(x: Any, dtype: str) -> Any:
    """A tensor of the given dtype from anything array-like."""
    if not keras.backend.is_keras_tensor(x):
        x = ops.convert_to_tensor(x)
    return x if keras.backend.standardize_dtype(x.dtype) == dtype else ops.cast(x, dtype)


def check_built(layer: keras.layers.Layer) -> None:
    """Refuse to work with weights that do not exist yet."""
    if not layer.built:
        raise ValueError(
            f"Expected '{layer.name}' to be built: call it on data once, or `build((None, d))`. "
            "Received: built=False"
        )


def check_width(x: Any, width: int | None, name: str, owner: str) -> None:
    """Refuse what is no batch of vectors of the given width."""
    shape = tuple(x.shape)
    if len(shape) != 2 or (shape[1] is not None and shape[1] != width):
        raise ValueError(
            f"Expected {name} of shape (batch, {width}) in '{owner}'. "
            f"Received: {name}.shape={shape}"
        )


def check_rows(x: Any, condition: Any, name: str, owner: str) -> None:
    """Refuse a condition of another number of rows, where both are known."""
    rows, given = x.shape[0], condition.shape[0]
    if rows is not None and given is not None and rows != given:
        raise ValueError(
            f"Expected a condition for each of the {rows} rows of {name} in '{owner}'. "
            f"Received: condition.shape={tuple(condition.shape)}"
        )


def check_finite(x: Any, name: str) -> None:
    """Refuse NaN and infinite values, by their place, where there are values to look at."""
    values = None if x is None else concrete(x)
    if values is None or values.dtype.kind != "f" or np.isfinite(values).all():
        return
    place = ", ".join(str(index) for index in np.argwhere(~np.isfinite(values))[0])
    raise ValueError(
        f"Expected finite numbers in {name}. "
        f"Received: {name}[{place}]={values[~np.isfinite(values)][0]}"
    )


def check_count(value: Any, name: str, least: int = 1) -> int:
    """A whole number of at least so many, as an int."""
    try:
        whole = int(value)
    except (TypeError, ValueError):
        whole = None
    if whole is None or isinstance(value, bool) or whole != value or whole < least:
        raise ValueError(
            f"Expected {name} to be a whole number of at least {least}. Received: {name}={value}"
        )
    return whole


def check_real(value: Any, name: str) -> float:
    """A number, as a float."""
    try:
        return float(value if not isinstance(value, (str, bool)) else "none")
    except (TypeError, ValueError):
        raise ValueError(f"Expected {name} to be a number. Received: {name}={value}") from None


def check_widths(values: Any) -> tuple[int, ...]:
    """Widths of hidden layers, as a tuple of ints."""
    if not isinstance(values, (tuple, list, np.ndarray)):
        raise ValueError(
            "Expected hidden to be a sequence of widths, one a hidden layer. "
            f"Received: hidden={values}"
        )
    return tuple(check_count(width, "hidden") for width in values)


def check_seed(seed: Any) -> Any:
    """A seed as Keras takes it: a whole number of 32 bits, a generator or nothing."""
    if seed is None or isinstance(seed, keras.random.SeedGenerator):
        return seed
    whole = check_count(seed, "seed", least=0)
    if whole >= 2**32:
        raise ValueError(f"Expected a seed below 2**32. Received: seed={seed}")
    return whole
