"""Derivatives by the backend that Keras runs on, as NumPy arrays."""

import keras
import numpy as np
from keras import ops

BACKEND = keras.backend.backend()


def numbers(value) -> np.ndarray:
    """A tensor's values."""
    return np.asarray(ops.convert_to_numpy(value))


def compiled(function):
    """The function as the backend's own compiled program; PyTorch runs it as it is."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function)
    return function


def with_jacobian(function, x):
    """(value, log_det, Jacobian of the value row by row) of x -> (value, log_det).

    Rows must not depend on each other. On JAX everything is one compiled program.
    """
    n_dims = x.shape[1]
    x = ops.convert_to_tensor(x)
    if BACKEND == "jax":
        import jax

        def everything(x):
            (value, log_det), pull = jax.vjp(function, x)
            basis = np.eye(n_dims, dtype=x.dtype)
            seeds = [ops.broadcast_to(row, value.shape) for row in basis]
            rows = [pull((seed, ops.zeros_like(log_det)))[0] for seed in seeds]
            return value, log_det, ops.stack(rows, axis=1)

        return tuple(map(numbers, jax.jit(everything)(x)))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(persistent=True) as tape:
            tape.watch(x)
            value, log_det = function(x)
            columns = [value[:, j] for j in range(n_dims)]
        rows = [tape.gradient(column, x) for column in columns]
    else:
        import torch

        x = x.detach().clone().requires_grad_(True)
        value, log_det = function(x)
        rows = [
            torch.autograd.grad(value[:, j].sum(), x, retain_graph=True)[0] for j in range(n_dims)
        ]
    return numbers(value), numbers(log_det), numbers(ops.stack(rows, axis=1))


def gradients(function, *arguments):
    """The gradients of a scalar function in each of its arguments; 0 where there is none."""
    arguments = [ops.convert_to_tensor(part) for part in arguments]
    if BACKEND == "jax":
        import jax

        found = jax.jit(jax.grad(function, argnums=tuple(range(len(arguments)))))(*arguments)
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = function(*arguments)
        found = tape.gradient(value, arguments, unconnected_gradients="zero")
    else:
        import torch

        arguments = [part.detach().clone().requires_grad_(True) for part in arguments]
        found = torch.autograd.grad(function(*arguments), arguments, materialize_grads=True)
    return [numbers(part) for part in found]


def weight_gradients(function, variables, *arguments):
    """Gradients of scalar function(*arguments) in Keras variables, then in the arguments."""
    values = [numbers(variable) for variable in variables]

    def of_values(*parts):
        mapping = list(zip(variables, parts[: len(values)], strict=True))
        with keras.StatelessScope(state_mapping=mapping):
            return function(*parts[len(values) :])

    return gradients(of_values, *values, *arguments)


def second_derivative(function, x):
    """The gradient of the gradient's sum, for a function of one array to a scalar."""
    x = ops.convert_to_tensor(x)
    if BACKEND == "jax":
        import jax

        return numbers(jax.grad(lambda x: ops.sum(jax.grad(function)(x)))(x))
    if BACKEND == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as outer:
            outer.watch(x)
            with tf.GradientTape() as inner:
                inner.watch(x)
                value = function(x)
            first = inner.gradient(value, x)
        return numbers(outer.gradient(first, x, unconnected_gradients="zero"))
    import torch

    x = x.detach().clone().requires_grad_(True)
    first = torch.autograd.grad(function(x), x, create_graph=True)[0]
    return numbers(torch.autograd.grad(first.sum(), x)[0])
