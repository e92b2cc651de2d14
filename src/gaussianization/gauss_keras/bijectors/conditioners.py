"""Networks that turn the passive half of a coupling into the parameters of its active half.

Each has tanh units, which one far outlier cannot blow up, and an exactly zero last layer: the
coupling that owns it starts as the layer its zero parameters stand for.
"""

import math
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.bijectors.base import REGISTER, check_count
from gaussianization.gauss_keras.numerics.tanh import tanh

# A single input must reach the bends of tanh for fine structure to be learnt: kernels up to 3 on
# standardised data, with the bends spread over its bulk. Several inputs give enough directions
# already; there rougher features only overfit sooner.
_FIRST_KERNEL_BOUND = 3.0
_FIRST_BIAS_BOUND = 2.0


def make_mlp_conditioner(
    d_b: int, num_components: int, hidden: Sequence[int] = (64, 64), **kwargs: Any
) -> "Perceptron":
    """Perceptron from the passive half to a mixture for each transformed coordinate.

    Args:
        d_b: Number of transformed coordinates.
        num_components: Components K of each mixture.
        hidden: Widths of the hidden layers.
        **kwargs: `dtype`, of every layer.

    Returns:
        A model with an output of 3 · d_b · K and a zero last layer. It is built by the first
        input it sees.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras import make_mlp_conditioner
        >>> network = make_mlp_conditioner(d_b=2, num_components=5, hidden=(16,))
        >>> tuple(network(np.array([[0.3, -1.0]])).shape)
        (1, 30)
    """
    width = 3 * check_count(d_b, "d_b") * check_count(num_components, "num_components")
    return Perceptron([*_hidden(hidden, **kwargs), _zero_head(width, **kwargs)])


def make_shared_mlp_conditioner(
    d_b: int, num_components: int, hidden: Sequence[int] = (64, 64), **kwargs: Any
) -> "Perceptron":
    """Perceptron with one head for all transformed coordinates, and an offset for each.

    The reaction to the passive half is shared, so that the head does not grow with the number of
    coordinates; the offsets, zero at the start, let a warm start give every coordinate its own
    marginal.

    Args:
        d_b: Number of transformed coordinates.
        num_components: Components K of each mixture.
        hidden: Widths of the hidden layers.
        **kwargs: `dtype`, of every layer.

    Returns:
        A model with an output of 3 · d_b · K and a zero last layer. It is built by the first
        input it sees.

    Raises:
        ValueError: If a size is below 1.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras import make_shared_mlp_conditioner
        >>> network = make_shared_mlp_conditioner(d_b=4, num_components=5, hidden=(16,))
        >>> tuple(network(np.array([[0.3, -1.0]])).shape), network.count_params()
        ((1, 60), 348)
    """
    width = 3 * check_count(num_components, "num_components")
    return Perceptron(
        [
            *_hidden(hidden, **kwargs),
            _zero_head(width, use_bias=False, **kwargs),
            SharedOutput(check_count(d_b, "d_b"), **kwargs),
        ]
    )


def make_residual_conditioner(
    d_b: int,
    num_components: int,
    hidden_width: int = 32,
    num_hidden: int = 2,
    **kwargs: Any,
) -> "Perceptron":
    r"""Perceptron whose hidden layers add to what they are given.

    $$h_1 = \tanh(W_0 u + b_0), \quad h_{i+1} = h_i + \tanh(W_i h_i + b_i), \quad
    \theta = W_n h_n + b_n, \qquad W_n = 0,\ b_n = 0 \text{ at the start.}$$

    Args:
        d_b: Number of transformed coordinates.
        num_components: Components K of each mixture.
        hidden_width: Width of every hidden layer.
        num_hidden: Number of hidden layers.
        **kwargs: `dtype`, of every layer.

    Returns:
        A model with an output of 3 · d_b · K and a zero last layer. It is built by the first
        input it sees.

    Raises:
        ValueError: If a size is below 1.

    References:
        He, Zhang, Ren & Sun (2016), *Deep Residual Learning for Image Recognition*.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras import make_residual_conditioner
        >>> network = make_residual_conditioner(d_b=1, num_components=8, hidden_width=32)
        >>> tuple(network(np.array([[0.3]])).shape)
        (1, 24)
    """
    width = 3 * check_count(d_b, "d_b") * check_count(num_components, "num_components")
    residual = [
        ResidualDense(hidden_width, **kwargs)
        for _ in range(check_count(num_hidden, "num_hidden") - 1)
    ]
    return Perceptron([*_hidden([hidden_width], **kwargs), *residual, _zero_head(width, **kwargs)])


def make_mlp_network(
    input_dim: int, output_dim: int, hidden: Sequence[int], **kwargs: Any
) -> "Perceptron":
    """The built-in conditioner of a coupling: a perceptron with a zero last layer.

    Args:
        input_dim: Width of the input.
        output_dim: Width of the output.
        hidden: Widths of the hidden layers.
        **kwargs: `dtype`, of every layer.

    Returns:
        A built model.
    """
    layers = [*_hidden(hidden, **kwargs), _zero_head(output_dim, **kwargs)]
    return Perceptron([keras.layers.Input((input_dim,), dtype=layers[0].variable_dtype), *layers])


def set_constant_output(
    conditioner: keras.layers.Layer, values: np.ndarray, input_dim: int
) -> None:
    """Make a network return the same numbers for every input: zero last kernel, them as its bias.

    Args:
        conditioner: A built network whose last layer is a `Dense` with a bias and no activation,
            or a `SharedOutput` behind a `Dense` without a bias.
        values: The numbers, shape (output width,).
        input_dim: Width of its input.

    Raises:
        ValueError: If the network has no such layer. Its weights are then as they were.
    """
    layers = [layer for layer in getattr(conditioner, "layers", []) if layer.weights]
    head, shared = _head(layers)
    name = getattr(conditioner, "name", conditioner)
    if head is None:
        raise ValueError(
            "Expected a conditioner that ends in a Dense layer with a bias and no activation, so "
            "that its output can be set to constants. "
            f"Received: conditioner={name} ({type(conditioner).__name__})"
        )
    holder = head.bias if shared is None else shared.offsets
    before = [np.array(ops.convert_to_numpy(part)) for part in (head.kernel, holder)]
    head.kernel.assign(np.zeros(tuple(head.kernel.shape)))
    holder.assign(np.reshape(values, tuple(holder.shape)).astype("float64"))
    probe = np.linspace(-1.0, 1.0, 3 * input_dim).reshape(3, input_dim).astype("float32")
    output = np.asarray(ops.convert_to_numpy(ops.cast(conditioner(probe), "float32")))
    wanted = ops.convert_to_numpy(ops.cast(ops.reshape(holder, (-1,)), "float32"))
    if not np.allclose(output, wanted, rtol=1e-2, atol=1e-2):
        for part, value in zip((head.kernel, holder), before, strict=True):
            part.assign(value)
        raise ValueError(
            "Expected a conditioner whose output is that of its last layer. "
            f"Received: conditioner={name}, whose output differs from it"
        )


def _head(layers: list[Any]) -> tuple[Any, Any]:
    """The last Dense layer, and what shares its output out among coordinates, if anything does."""
    shared = layers.pop() if layers and isinstance(layers[-1], SharedOutput) else None
    head: Any = layers[-1] if layers else None
    if (
        not isinstance(head, keras.layers.Dense)
        or head.use_bias == (shared is not None)
        or head.activation is not keras.activations.linear
    ):
        return None, None
    return head, shared


def _hidden(widths: Sequence[int], **kwargs: Any) -> list[keras.layers.Layer]:
    widths = [check_count(width, "hidden") for width in widths]
    if not widths:
        raise ValueError(f"Expected at least one hidden layer. Received: hidden={widths}")
    first = ExactDense(
        widths[0],
        activation=tanh_activation,
        kernel_initializer=FirstKernel(),
        bias_initializer=keras.initializers.RandomUniform(-_FIRST_BIAS_BOUND, _FIRST_BIAS_BOUND),
        **kwargs,
    )
    return [
        first,
        *(ExactDense(width, activation=tanh_activation, **kwargs) for width in widths[1:]),
    ]


def _zero_head(width: int, **kwargs: Any) -> "ExactDense":
    return ExactDense(
        width, kernel_initializer="zeros", bias_initializer="zeros", name="head", **kwargs
    )


@REGISTER
def tanh_activation(x: Any) -> Any:
    """The hyperbolic tangent in the precision of x: Keras's own loses float64 on JAX.

    Args:
        x: A tensor.

    Returns:
        A tensor of the same shape and dtype.
    """
    return tanh(x)


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
class ResidualDense(keras.layers.Layer):
    """A tanh layer that adds to its input.

    Args:
        units: Width of input and output.
        **kwargs: `name`, `dtype` and `trainable`, as of any Keras layer.
    """

    def __init__(self, units: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.units = check_count(units, "units")
        self.dense = ExactDense(self.units, activation=tanh_activation, dtype=self.dtype_policy)

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
