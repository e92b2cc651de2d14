"""Methods of a flow as compiled programs, on the backends where running them uncompiled is slow."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.numerics.tracing import concrete

# On TensorFlow, batches of so many rows are sampled by a program, once they are asked for again.
_PROGRAM_FROM = 1024
# They are filled up to a multiple of this share of a power of two: there are few programs, and at
# most a quarter more is computed.
_SIZES_IN_AN_OCTAVE = 4


class Programs:
    """A flow's compiled methods, kept apart from its layers so that Keras does not track them.

    Args:
        flow: The flow.
    """

    def __init__(self, flow: keras.Model):
        self._flow = flow
        self._programs: dict[Any, tuple[tuple[int, ...], _Program]] = {}
        self._asked_for: set[Any] = set()
        self._call = _Call(flow.dtype_policy)

    def in_call(
        self, method: Callable[..., Any], *inputs: Any, training: bool | None = None
    ) -> Any:
        """Call a method of the flow so that what it calls knows whether this is training.

        Args:
            method: Bound method of the flow.
            *inputs: Tensors, its arguments.
            training: As of any Keras model.

        Returns:
            What it returns.
        """
        self._call.function = method
        return self._call(*inputs, training=training)

    def run(self, method: Callable[..., Any], *inputs: Any) -> Any:
        """Call a method of the flow on tensors, compiled where that pays.

        JAX runs uncompiled code operation by operation, each compiled for every new shape. There,
        and where nothing is being traced (so nothing differentiated), Keras's own prediction
        machinery compiles the method once a shape.

        TensorFlow runs it operation by operation too, at once but with most of the time between
        them where there are many: in `invert`. Making a program takes seconds, which many rows
        that are asked for again are worth.

        Args:
            method: Bound method of the flow that takes tensors of the state's dtype.
            *inputs: Its arguments.

        Returns:
            What it returns.
        """
        backend = keras.backend.backend()
        if backend not in ("jax", "tensorflow") or any(concrete(part) is None for part in inputs):
            return method(*inputs)
        name = method.__name__
        if backend == "tensorflow":
            if name != "_invert" or inputs[0].shape[0] < _PROGRAM_FROM or self._are_replaced():
                return method(*inputs)
            return self._run_again(name, inputs)
        outputs = self._program(name, name).predict_on_batch(tuple(inputs))
        return keras.tree.map_structure(ops.convert_to_tensor, outputs)

    def _run_again(self, name: str, inputs: tuple[Any, ...]) -> Any:
        """Run a method as it is for the first batch of a size, and as a program for others."""
        n_rows = inputs[0].shape[0]
        step = 2 ** (n_rows.bit_length() - 1) // _SIZES_IN_AN_OCTAVE
        key = (name, -(-n_rows // step) * step)
        if key not in self._asked_for:
            self._asked_for.add(key)
            return getattr(self._flow, name)(*inputs)
        filled = tuple(_with_rows(part, key[1] - n_rows) for part in inputs)
        program = self._program(key, name)
        program.make_predict_function()
        # Not by `predict_on_batch`: tensors keep their gradients.
        return program.predict_function([(filled,)])[:n_rows]

    def _are_replaced(self) -> bool:
        """Whether a `keras.StatelessScope` has put tensors in the weights' place."""
        # A program would keep the tensors that it was made with.
        return not all(hasattr(weight.value, "assign") for weight in self._flow.weights)

    def _program(self, key: Any, method: str) -> "_Program":
        # A program keeps the order in which it was handed trainable and frozen weights.
        trainable = tuple(id(weight) for weight in self._flow.trainable_variables)
        made_for, program = self._programs.get(key, (None, None))
        if program is None or made_for != trainable:
            program = _Program(self._flow, method)
            self._programs[key] = trainable, program
        return program


def _with_rows(table: Any, missing: int) -> Any:
    """A table with its last row so many times more."""
    if missing == 0:
        return table
    return ops.concatenate([table, ops.repeat(table[-1:], missing, axis=0)], axis=0)


class _Call(keras.layers.Layer):
    """A layer's call around a function.

    Keras tells what is called inside a layer's call, dropout in a conditioner say, whether it is
    training. On JAX it calls a model's own `call` without the frame that would do so.
    """

    def __init__(self, dtype: Any):
        super().__init__(autocast=False, dtype=dtype)
        self.built = True
        self.function: Callable[..., Any] = tuple

    def call(self, *inputs: Any, training: bool | None = None) -> Any:
        return self.function(*inputs)


class _Program(keras.Model):
    """One method of a flow as a model, for Keras to compile."""

    def __init__(self, flow: keras.Model, method: str):
        super().__init__(autocast=False, dtype=flow.dtype_policy, name="program")
        self.flow = flow
        self.method = method
        self.built = True

    def call(self, inputs: Any) -> Any:
        return getattr(self.flow, self.method)(*inputs)

    def compute_output_spec(self, inputs: Any, **_: Any) -> Any:
        # Asked for before the first batch and not kept; tracing the method for it would double
        # the time to the first result.
        return keras.KerasTensor(inputs[0].shape, dtype=self.flow.state_dtype)
