"""Keras's training loop for maps from data to latents: the loss is −log p, without targets."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.losses import base_nll_loss
from gaussianization.gauss_keras.numerics.tracing import concrete


class LikelihoodModel(keras.Model):
    r"""A model $x \mapsto z$ that is trained by its negative log-likelihood.

    $$-\log p(x) = -\log\varphi(z) - \log|\det \partial z / \partial x|$$

    A subclass implements `call`, which hands its log-determinants (batch,) to `record_log_det`,
    and `forward_and_log_det`.

    Args:
        **kwargs: As of `keras.Model`.
    """

    def __init__(self, **kwargs: Any):
        super().__init__(**kwargs)
        self._log_dets = _Ledger()

    def record_log_det(self, log_det: Any) -> None:
        """Hand a forward pass's log-determinants, shape (batch,), to the loss of this step."""
        self._log_dets.record(log_det)

    def forward_and_log_det(self, x: Any, condition: Any = None) -> tuple[Any, Any]:
        """Latents z, shape (batch, d), and their log-determinants in nats, shape (batch,)."""
        raise NotImplementedError(f"{type(self).__name__} does not implement forward_and_log_det.")

    def compile(self, optimizer: Any = "rmsprop", loss: Any = None, **kwargs: Any) -> None:
        """Configure training, as `keras.Model.compile` does.

        Args:
            optimizer: As there.
            loss: Loss of the latents as ``loss(y_true, z)``, from which the flow subtracts its
                mean log-determinant; `base_nll_loss` by default, for a standard normal.
            **kwargs: As there.
        """
        loss = base_nll_loss if loss is None else loss
        super().compile(optimizer=optimizer, loss=loss, **kwargs)

    def compile_from_config(self, config: dict[str, Any]) -> None:
        """Compile as a saved flow was compiled."""
        self.compile(**keras.saving.deserialize_keras_object(config))
        if self.built and self.optimizer is not None:
            self.optimizer.build(self.trainable_variables)

    def fit(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Train, as `keras.Model.fit` does, without targets.

        Args:
            x: Data, shape (n, d), or a pair of it and the condition; or a data set of batches.
            y: Not used by a flow, but handed to the loss.
            *args: As there.
            **kwargs: As there.

        Returns:
            Keras's `History`, its losses negative log-likelihoods in nats.

        Raises:
            ValueError: If arrays hold a value that is not finite.
        """
        return super().fit(x, _targets(x, y, kwargs), *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as `keras.Model.evaluate` does, without targets; see `fit`."""
        return super().evaluate(x, _targets(x, y, kwargs), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The latents of data, as `keras.Model.predict` returns them."""
        _check_arrays_finite(x)
        return super().predict(x, *args, **kwargs)

    def train_step(self, *args: Any, **kwargs: Any) -> Any:
        """One step of training, in which the log-determinant joins the loss."""
        with self._log_dets.open():
            return super().train_step(*args, **kwargs)

    def test_step(self, *args: Any, **kwargs: Any) -> Any:
        """One step of evaluation, in which the log-determinant joins the loss."""
        with self._log_dets.open():
            return super().test_step(*args, **kwargs)

    def compute_loss(
        self,
        x: Any = None,
        y: Any = None,
        y_pred: Any = None,
        sample_weight: Any = None,
        training: bool = True,
    ) -> Any:
        """The compiled loss of the latents less the mean log-determinant, in nats."""
        log_det = self._log_dets.take()
        if log_det is None:
            _, log_det = self.forward_and_log_det(*as_pair(x, None))
        y = y_pred if y is None else y
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if sample_weight is not None:
            log_det = log_det * ops.cast(ops.reshape(sample_weight, (-1,)), log_det.dtype)
        return loss - ops.mean(log_det)


class _Ledger:
    """Hands a step's log-determinant from the forward pass to the loss."""

    def __init__(self) -> None:
        self._is_open = False
        self._log_det: Any = None

    @contextlib.contextmanager
    def open(self) -> Iterator[None]:
        """Keep what is recorded until the step ends: a traced value must not outlive its trace."""
        self._is_open = True
        try:
            yield
        finally:
            self._is_open, self._log_det = False, None

    def record(self, log_det: Any) -> None:
        """Keep a forward pass's log-determinant, during a step."""
        if self._is_open:
            self._log_det = log_det

    def take(self) -> Any:
        """The log-determinant of this step's forward pass, if there was one."""
        log_det, self._log_det = self._log_det, None
        return log_det


def check_finite(x: Any, name: str) -> None:
    """Refuse NaN and infinite values, by row and column, where there are values to look at."""
    values = None if x is None else concrete(x)
    if values is None or values.dtype.kind != "f" or np.isfinite(values).all():
        return
    row, column = np.argwhere(~np.isfinite(values))[0][:2]
    raise ValueError(
        f"Expected finite numbers in {name}. "
        f"Received: {name}[{row}, {column}]={values[row, column]}"
    )


def _check_arrays_finite(x: Any) -> None:
    parts = x if isinstance(x, (tuple, list)) else [x]
    for name, part in zip(("x", "condition"), parts, strict=False):
        if hasattr(part, "__array__") and len(getattr(part, "shape", ())) == 2:
            check_finite(np.asarray(part), name)


def _targets(x: Any, y: Any, options: dict[str, Any]) -> Any:
    """The targets of arrays that are found finite; Keras drops the weights of rows without any."""
    _check_arrays_finite(x)
    if y is not None or options.get("sample_weight") is None:
        return y
    return x[0] if isinstance(x, (tuple, list)) else x


def as_pair(inputs: Any, condition: Any) -> tuple[Any, Any]:
    """Data and condition, however they came."""
    if isinstance(inputs, (tuple, list)) and len(inputs) == 2 and hasattr(inputs[0], "shape"):
        return inputs[0], inputs[1]
    if isinstance(inputs, (tuple, list)) and len(inputs) == 1 and hasattr(inputs[0], "shape"):
        return inputs[0], condition
    return inputs, condition
