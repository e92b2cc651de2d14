"""Networks that turn the passive half of a coupling into the parameters of its active half.

Each has tanh units, which one far outlier cannot blow up, and an exactly zero last layer: the
coupling that owns it starts as the layer its zero parameters stand for.
"""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.bijectors.base import check_count, check_widths
from gaussianization.gauss_keras.bijectors.networks import (
    ExactDense,
    FirstKernel,
    Perceptron,
    ResidualDense,
    SharedOutput,
)
from gaussianization.gauss_keras.numerics.tanh import tanh

# The bends of the first layer's units are spread over the bulk of standardised data.
_FIRST_BIAS_BOUND = 2.0


def make_mlp_conditioner(
    d_b: int, num_components: int, hidden: Sequence[int] = (64, 64), **kwargs: Any
) -> Perceptron:
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
) -> Perceptron:
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
) -> Perceptron:
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
) -> Perceptron:
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
        ValueError: If the network has no such layer, or something follows it.
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
    head.kernel.assign(np.zeros(tuple(head.kernel.shape)))
    holder.assign(np.reshape(values, tuple(holder.shape)).astype("float64"))
    probe = np.linspace(-1.0, 1.0, 3 * input_dim).reshape(3, input_dim).astype("float32")
    output = np.asarray(ops.convert_to_numpy(ops.cast(conditioner(probe), "float32")))
    wanted = ops.convert_to_numpy(ops.cast(ops.reshape(holder, (-1,)), "float32"))
    if not np.allclose(output, wanted, rtol=1e-2, atol=1e-2):
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
    widths = check_widths(widths)
    if not widths:
        raise ValueError(f"Expected at least one hidden layer. Received: hidden={widths}")
    first = ExactDense(
        widths[0],
        activation=tanh,
        kernel_initializer=FirstKernel(),
        bias_initializer=keras.initializers.RandomUniform(-_FIRST_BIAS_BOUND, _FIRST_BIAS_BOUND),
        **kwargs,
    )
    return [
        first,
        *(ExactDense(width, activation=tanh, **kwargs) for width in widths[1:]),
    ]


def _zero_head(width: int, **kwargs: Any) -> ExactDense:
    return ExactDense(
        width, kernel_initializer="zeros", bias_initializer="zeros", name="head", **kwargs
    )
