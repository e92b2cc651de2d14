"""Networks that turn the passive half of a coupling into the parameters of its active half.

Every built-in network starts with an exactly zero last layer, so that the coupling that owns it
starts as the layer its zero parameters stand for: the zero-kernel contract.
"""

import math
from typing import Any, Protocol, TypeVar, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

# A single input must reach the bends of tanh for fine structure to be learnt: kernels up to 3 on
# standardised data, with the bends spread over its bulk. Several inputs give enough directions
# already; there rougher features only overfit sooner.
_FIRST_KERNEL_BOUND = 3.0
_FIRST_BIAS_BOUND = 2.0
# Where SiLU's inputs level off, in standard deviations.
INPUT_BOUND = 3.0


class MLP(eqx.Module):
    r"""Multi-layer perceptron with tanh units and a zero last layer.

    $$h_0 = u, \quad h_{i+1} = \tanh(W_i h_i + b_i), \quad \theta = W_n h_n + b_n,
    \qquad W_n = 0,\ b_n = 0 \text{ at the start.}$$

    The units are bounded, so one far outlier among the inputs cannot blow up the output.

    Args:
        key: Random key of the hidden layers.
        in_size: Width of the input u.
        out_size: Width of the output θ.
        nn_width: Width of every hidden layer.
        nn_depth: Number of hidden layers, at least 1.

    Raises:
        ValueError: if a width is negative or zero where it may not be, or `nn_depth` < 1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> network = MLP(jr.key(0), in_size=2, out_size=3, nn_width=8, nn_depth=1)
        >>> network(jnp.array([1.0, -2.0]))
        Array([0., 0., 0.], dtype=float32)
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(
        self, key: PRNGKeyArray, *, in_size: int, out_size: int, nn_width: int, nn_depth: int
    ):
        self.layers = _hidden_and_zero_head(key, in_size, out_size, nn_width, nn_depth)

    def __call__(self, inputs: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Parameters for one input, of shape (out_size,)."""
        *hidden, head = self.layers
        for layer in hidden:
            inputs = jnp.tanh(layer(inputs))
        return head(inputs)


class SiluMLP(eqx.Module):
    r"""Multi-layer perceptron with SiLU units, inputs that level off, and a zero last layer.

    $$h_0 = 3 \tanh(u / 3), \quad h_{i+1} = \mathrm{silu}(W_i h_i + b_i), \quad
    \theta = W_n h_n + b_n, \qquad \mathrm{silu}(v) = v / (1 + e^{-v}).$$

    Deep flows that are trained as a whole come further with it than with units that level off one
    by one; that the inputs do keeps the output bounded, so that one far outlier cannot blow it up.

    Args:
        key: Random key of the hidden layers.
        in_size: Width of the input u.
        out_size: Width of the output θ.
        nn_width: Width of every hidden layer.
        nn_depth: Number of hidden layers, at least 1.

    Raises:
        ValueError: if a width is negative or zero where it may not be, or `nn_depth` < 1.

    References:
        Elfwing, Uchibe & Doya, "Sigmoid-Weighted Linear Units for Neural Network Function
        Approximation in Reinforcement Learning" (2018), for the units.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> network = SiluMLP(jr.key(0), in_size=2, out_size=3, nn_width=8, nn_depth=1)
        >>> network(jnp.array([1.0, -2.0]))
        Array([0., 0., 0.], dtype=float32)
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(
        self, key: PRNGKeyArray, *, in_size: int, out_size: int, nn_width: int, nn_depth: int
    ):
        self.layers = _hidden_and_zero_head(key, in_size, out_size, nn_width, nn_depth)

    def __call__(self, inputs: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Parameters for one input, of shape (out_size,)."""
        *hidden, head = self.layers
        inputs = INPUT_BOUND * jnp.tanh(inputs / INPUT_BOUND)
        for layer in hidden:
            inputs = jax.nn.silu(layer(inputs))
        return head(inputs)


class ResidualMLP(eqx.Module):
    r"""Perceptron whose hidden layers add to what they are given, with a zero last layer.

    $$h_1 = \tanh(W_0 u + b_0), \quad h_{i+1} = h_i + \tanh(W_i h_i + b_i), \quad
    \theta = W_n h_n + b_n.$$

    The sum keeps gradients alive in deep networks; it is bounded by the number of hidden layers.

    Args:
        key: Random key of the hidden layers.
        in_size: Width of the input u.
        out_size: Width of the output θ.
        nn_width: Width of every hidden layer.
        nn_depth: Number of hidden layers, at least 1.

    Raises:
        ValueError: if a width is negative or zero where it may not be, or `nn_depth` < 1.

    References:
        He, Zhang, Ren & Sun, "Deep Residual Learning for Image Recognition" (2016).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> network = ResidualMLP(jr.key(0), in_size=2, out_size=3, nn_width=8, nn_depth=4)
        >>> network(jnp.array([1.0, -2.0]))
        Array([0., 0., 0.], dtype=float32)
    """

    layers: tuple[eqx.nn.Linear, ...]

    def __init__(
        self, key: PRNGKeyArray, *, in_size: int, out_size: int, nn_width: int, nn_depth: int
    ):
        self.layers = _hidden_and_zero_head(key, in_size, out_size, nn_width, nn_depth)

    def __call__(self, inputs: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Parameters for one input, of shape (out_size,)."""
        first, *hidden, head = self.layers
        state = jnp.tanh(first(inputs))
        for layer in hidden:
            state = state + jnp.tanh(layer(state))
        return head(state)


class SharedMLP(eqx.Module):
    r"""Perceptron with one head for all transformed coordinates, and an offset for each.

    $$\theta_j = W_n h_n(u) + c_j, \qquad j = 1, \dots, d_{\text{active}}.$$

    The reaction to the passive half is shared, so the head does not grow with the number of
    coordinates; the offsets c, which start at zero, let a warm start set every coordinate's own
    marginal exactly.

    Args:
        key: Random key of the hidden layers.
        in_size: Width of the input u.
        n_coordinates: Number of transformed coordinates.
        n_params: Parameters a coordinate. The output has n_coordinates × n_params entries.
        nn_width: Width of every hidden layer.
        nn_depth: Number of hidden layers, at least 1.

    Raises:
        ValueError: if a width is negative or zero where it may not be, or `nn_depth` < 1.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> sizes = dict(n_coordinates=5, n_params=3, nn_width=8, nn_depth=1)
        >>> network = SharedMLP(jr.key(0), in_size=2, **sizes)
        >>> network(jnp.array([1.0, -2.0])).shape
        (15,)
    """

    layers: tuple[eqx.nn.Linear, ...]
    offsets: Float[Array, "n_coordinates n_params"]

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        in_size: int,
        n_coordinates: int,
        n_params: int,
        nn_width: int,
        nn_depth: int,
    ):
        if n_coordinates < 1:
            raise ValueError(f"Expected n_coordinates >= 1; got {n_coordinates}.")
        self.layers = _hidden_and_zero_head(
            key, in_size, n_params, nn_width, nn_depth, head_bias=False
        )
        self.offsets = jnp.zeros((n_coordinates, n_params))

    def __call__(self, inputs: Float[Array, " in_size"]) -> Float[Array, " out_size"]:
        """Parameters for one input, of shape (n_coordinates · n_params,)."""
        *hidden, head = self.layers
        for layer in hidden:
            inputs = jnp.tanh(layer(inputs))
        return (head(inputs) + self.offsets).ravel()

    def with_constant_output(self, values: ArrayLike) -> "SharedMLP":
        """The same network with a zero head and the offsets set to `values`."""
        offsets = _values_of_size(values, self.offsets.size).reshape(self.offsets.shape)
        return eqx.tree_at(
            lambda network: (network.layers[-1].weight, network.offsets),
            self,
            (jnp.zeros_like(self.layers[-1].weight), offsets.astype(self.offsets.dtype)),
        )


@runtime_checkable
class ConstantOutput(Protocol):
    """A conditioner that knows by itself how to be made constant."""

    def with_constant_output(self, values: ArrayLike) -> Any:
        """The same conditioner, returning `values` (flattened) whatever its input."""
        ...


_Conditioner = TypeVar("_Conditioner")


def with_constant_output(conditioner: _Conditioner, values: ArrayLike) -> _Conditioner:
    """Make a conditioner return `values` whatever its input, its hidden layers untouched.

    The last layer's kernel becomes exactly zero and its bias `values`; this is how a closed-form
    fit is written into a coupling. A conditioner of the user's own takes part if its output is
    that of `layers[-1]`, an `equinox.nn.Linear` with a bias, or if it has a method
    `with_constant_output(values)`.

    Args:
        conditioner: The network.
        values: Output to return, of shape (out_size,) or any that flattens to it, such as
            (d_active, n_params).

    Returns:
        The conditioner with its last layer replaced.

    Raises:
        ValueError: if the conditioner has no such layer, if the widths differ, or if its output
            still is not `values` because something follows the last layer.

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> network = MLP(jr.key(0), in_size=2, out_size=3, nn_width=8, nn_depth=1)
        >>> with_constant_output(network, [1.0, 2.0, 3.0])(jnp.array([5.0, -2.0]))
        Array([1., 2., 3.], dtype=float32)
    """
    if isinstance(conditioner, ConstantOutput):
        return conditioner.with_constant_output(values)
    layers = getattr(conditioner, "layers", None)
    head = layers[-1] if isinstance(layers, tuple | list) and layers else None
    if not isinstance(head, eqx.nn.Linear) or head.bias is None:
        raise ValueError(
            "Expected a conditioner whose layers[-1] is an equinox.nn.Linear with a bias, or one "
            "with a method with_constant_output(values), so that its output can be set to "
            f"constants; got {type(conditioner).__name__}."
        )
    constants = _values_of_size(values, head.bias.size).reshape(head.bias.shape)
    constants = constants.astype(head.bias.dtype)
    constant = eqx.tree_at(
        lambda network: (network.layers[-1].weight, network.layers[-1].bias),  # type: ignore[attr-defined]
        conditioner,
        (jnp.zeros_like(head.weight), constants),
    )
    _check_is_constant(constant, constants)
    return constant


def _check_is_constant(conditioner: Any, constants: Array) -> None:
    """Run once to see that nothing after the last layer changes its output."""
    in_size = conditioner.layers[0].in_features
    output = conditioner(jnp.ones(in_size, constants.dtype))
    if isinstance(output, Tracer):
        return
    if output.shape != constants.shape or not np.array_equal(output, constants):
        raise ValueError(
            "Expected a conditioner whose output is that of layers[-1]; got "
            f"{type(conditioner).__name__}, whose output differs. Give it a method "
            "with_constant_output(values)."
        )


def _values_of_size(values: ArrayLike, size: int) -> Array:
    values = jnp.asarray(values)
    if values.size != size:
        raise ValueError(f"Expected {size} values, one an output; got {values.size}.")
    return values


def _hidden_and_zero_head(
    key: PRNGKeyArray,
    in_size: int,
    out_size: int,
    nn_width: int,
    nn_depth: int,
    *,
    head_bias: bool = True,
) -> tuple[eqx.nn.Linear, ...]:
    for name, value in (("in_size", in_size), ("out_size", out_size), ("nn_width", nn_width)):
        if value < 1:
            raise ValueError(f"Expected {name} >= 1; got {value}.")
    if nn_depth < 1:
        raise ValueError(
            f"Expected nn_depth >= 1, the number of bounded hidden layers; got {nn_depth}."
        )
    keys = jax.random.split(key, nn_depth + 1)
    first = _first_layer(keys[0], in_size, nn_width)
    hidden = [eqx.nn.Linear(nn_width, nn_width, key=k) for k in keys[1:-1]]
    head = eqx.nn.Linear(nn_width, out_size, use_bias=head_bias, key=keys[-1])
    zero_head = jax.tree.map(lambda leaf: jnp.zeros_like(leaf), head)
    return (first, *hidden, zero_head)


def _first_layer(key: PRNGKeyArray, in_size: int, nn_width: int) -> eqx.nn.Linear:
    kernel_key, bias_key = jax.random.split(key)
    bound = max(1.0, _FIRST_KERNEL_BOUND / in_size) / math.sqrt(in_size)
    layer = eqx.nn.Linear(in_size, nn_width, key=key)
    kernel = jax.random.uniform(kernel_key, (nn_width, in_size), minval=-bound, maxval=bound)
    bias = jax.random.uniform(
        bias_key, (nn_width,), minval=-_FIRST_BIAS_BOUND, maxval=_FIRST_BIAS_BOUND
    )
    return eqx.tree_at(lambda linear: (linear.weight, linear.bias), layer, (kernel, bias))
