"""Methods of a flow as compiled programs, on the backend where running them uncompiled is slow."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.numerics.tracing import concrete


class Programs:
    """A flow's compiled methods, kept apart from its layers so that Keras does not track them.

    Args:
        flow: The flow.
    """

    def __init__(self, flow: keras.Model):
        self._flow = flow
        self._programs: dict[str, keras.Model] = {}
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

        Args:
            method: Bound method of the flow that takes tensors of the state's dtype.
            *inputs: Its arguments.

        Returns:
            What it returns.
        """
        if keras.backend.backend() != "jax" or any(concrete(part) is None for part in inputs):
            return method(*inputs)
        name = method.__name__
        if name not in self._programs:
            self._programs[name] = _Program(self._flow, name)
        outputs = self._programs[name].predict_on_batch(tuple(inputs))
        return keras.tree.map_structure(ops.convert_to_tensor, outputs)


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
        super().__init__(autocast=False, dtype=flow.dtype_policy)
        self.flow = flow
        self.method = method
        self.built = True

    def call(self, inputs: Any) -> Any:
        return getattr(self.flow, self.method)(*inputs)

    def compute_output_spec(self, inputs: Any, **_: Any) -> Any:
        # Asked for before the first batch and not kept; tracing the method for it would double
        # the time to the first result.
        return keras.KerasTensor(inputs[0].shape, dtype=self.flow.state_dtype)
