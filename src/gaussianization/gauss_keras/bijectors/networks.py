"""The layers that conditioners are made of, each in the precision of its own policy."""

import math
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.bijectors.base import check_count
from gaussianization.gauss_keras.numerics.tanh import tanh
from gaussianization.gauss_keras.registration import REGISTER

# A single input must reach the bends of tanh for fine structure to be learnt: kernels up to 3 on
# standardised data. Several inputs give enough directions already; there rougher features only
# overfit sooner.
_FIRST_KERNEL_BOUND = 3.0

# The numerics know no saving: here the function becomes an activation that a file can name.
REGISTER(tanh)


@REGISTER
class FirstKernel(keras.initializers.Initializer):
    """Uniform kernels that spread the bends of the first layer's units over standardised data.

    Args:
        seed: Seed, as of Keras's initialisers.
    """

    def __init__(self, seed: Any = None):
        self._uniform = keras.initializers.RandomUniform(-1.0, 1.0, seed=seed)

    def __call__(self, shape: Any, dtype: Any = None) -> Any:
        """A kernel of shape (inputs, units)."""
        inputs = shape[0]
        bound = max(1.0, _FIRST_KERNEL_BOUND / inputs) / math.sqrt(inputs)
        return bound * self._uniform(shape, dtype=dtype)

    def get_config(self) -> dict[str, Any]:
        """The seed."""
        return {"seed": self._uniform.get_config()["seed"]}


@REGISTER
class Perceptron(keras.Sequential):
    """A stack of layers each of which casts its own input: Keras's casts to floatx first.

    Args:
        *args: As of `keras.Sequential`.
        **kwargs: As of `keras.Sequential`.
    """

    def __init__(self, *args: Any, **kwargs: Any):
        super().__init__(*args, **kwargs)
        self.autocast = False


@REGISTER
class ExactDense(keras.layers.Dense):
    """A dense layer in the precision of its policy: Keras's loses float64 on PyTorch."""

    def call(self, inputs: Any, training: bool | None = None) -> Any:
        """The layer's output, shape (batch, units)."""
        outputs = inputs @ ops.convert_to_tensor(self.kernel)
        if self.use_bias:
            outputs = outputs + self.bias
        return outputs if self.activation is None else self.activation(outputs)


@REGISTER
class BoundedInput(keras.layers.Layer):
    """Values of any size, levelling off at a bound: b · tanh(u / b).

    Args:
        bound: The bound b.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.
    """

    def __init__(self, bound: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.bound = bound

    def call(self, inputs: Any) -> Any:
        """The bounded values."""
        return self.bound * tanh(inputs / self.bound)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "bound": self.bound}


@REGISTER
class ResidualDense(keras.layers.Layer):
    """A tanh layer that adds to its input.

    Args:
        units: Width of input and output.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = check_count(units, "units")
        self.dense = ExactDense(self.units, activation=tanh, dtype=self.dtype_policy)

    def build(self, input_shape: Any) -> None:
        """Build the layer within."""
        self.dense.build(input_shape)
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """The input and what the layer makes of it."""
        return inputs + self.dense(inputs)

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The input's shape."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "units": self.units}


@REGISTER
class SharedOutput(keras.layers.Layer):
    """One vector of parameters for all coordinates, plus an offset for each: (b, P) → (b, d · P).

    Args:
        num_coordinates: Number of coordinates d.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.
    """

    def __init__(self, num_coordinates: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.num_coordinates = check_count(num_coordinates, "num_coordinates")

    def build(self, input_shape: Any) -> None:
        """Create the offsets, (d, P)."""
        self.offsets = self.add_weight(
            name="offsets", shape=(self.num_coordinates, input_shape[-1]), initializer="zeros"
        )
        super().build(input_shape)

    def call(self, inputs: Any) -> Any:
        """Every coordinate's parameters, one after the other."""
        shared = ops.expand_dims(inputs, 1) + self.offsets
        return ops.reshape(shared, (-1, self.num_coordinates * self.offsets.shape[1]))

    def compute_output_shape(self, input_shape: Any) -> Any:
        """(b, d · P)."""
        return (*input_shape[:-1], self.num_coordinates * input_shape[-1])

    def get_config(self) -> dict[str, Any]:
        """The layer's arguments."""
        return {**super().get_config(), "num_coordinates": self.num_coordinates}
