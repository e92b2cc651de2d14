"""Keras's training loop for maps from data to latents: the loss is −log p, without targets."""

import contextlib
from collections.abc import Iterator
from typing import Any

import keras
from keras import ops

from gaussianization.gauss_keras.bijectors.finite_training import FiniteTraining
from gaussianization.gauss_keras.bijectors.inputs import (
    as_pair,
    check_arrays,
    is_array,
    validation_pair,
)
from gaussianization.gauss_keras.losses import base_nll_loss


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
        self._comparing: list[str] = []
        self.input_dim: int | None = None
        self.condition_dim: int | None = None

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
        names = ("metrics", "weighted_metrics")
        # What only targets give a meaning to; a function of (y_true, z) may well ignore them.
        self._comparing = [name for name in names if kwargs.get(name)]
        if isinstance(loss, (str, keras.losses.Loss)):
            self._comparing.append("loss")
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
                ``validation_data`` is of the same form.
            y: Not used by a flow, but handed to the loss.
            *args: As there.
            **kwargs: As there.

        Returns:
            Keras's `History`, its losses negative log-likelihoods in nats.

        Raises:
            ValueError: If arrays are empty, of another width or hold a value that is not finite;
                if the loss becomes NaN or infinite, after the weights of the epoch before were
                put back; if a loss or metric needs targets and there are none.
        """
        self._check_arrays(x, y)
        if kwargs.get("validation_data") is not None:
            data = validation_pair(kwargs["validation_data"], self.condition_dim)
            kwargs["validation_data"] = data
            if isinstance(data, (tuple, list)) and len(data) > 0:
                check_arrays(data[0], self.input_dim, self.condition_dim)
        kwargs["callbacks"] = _with_guard(kwargs.get("callbacks"))
        return super().fit(x, _targets(x, y, kwargs), *args, **kwargs)

    def evaluate(self, x: Any = None, y: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluate, as `keras.Model.evaluate` does, without targets; see `fit`."""
        self._check_arrays(x, y)
        return super().evaluate(x, _targets(x, y, kwargs), *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """The latents of data, as `keras.Model.predict` returns them."""
        check_arrays(x, self.input_dim, self.condition_dim)
        return super().predict(x, *args, **kwargs)

    def train_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """One step on one batch, as `keras.Model.train_on_batch` does it; see `fit`."""
        check_arrays(x, self.input_dim, self.condition_dim)
        return super().train_on_batch(x, *args, **kwargs)

    def test_on_batch(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Evaluate one batch, as `keras.Model.test_on_batch` does; see `fit`."""
        check_arrays(x, self.input_dim, self.condition_dim)
        return super().test_on_batch(x, *args, **kwargs)

    def predict_on_batch(self, x: Any) -> Any:
        """The latents of one batch, as `keras.Model.predict_on_batch` returns them."""
        check_arrays(x, self.input_dim, self.condition_dim)
        return super().predict_on_batch(x)

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The metrics of a batch, as `keras.Model.compute_metrics` returns them."""
        self._check_targets(y)
        return super().compute_metrics(x, y, y_pred, sample_weight)

    def _check_arrays(self, x: Any, y: Any) -> None:
        check_arrays(x, self.input_dim, self.condition_dim)
        if is_array(as_pair(x, None)[0]):
            self._check_targets(y)

    def _check_targets(self, y: Any) -> None:
        if y is None and self._comparing:
            raise ValueError(
                "Expected targets, which a loss by name and metrics compare latents with: give "
                "them as fit(x, y), or leave out what needs them. "
                f"Received: y=None with {', '.join(self._comparing)} compiled"
            )

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
        self._check_targets(y)
        y = y_pred if y is None else y
        loss = super().compute_loss(x, y, y_pred, sample_weight, training)
        if sample_weight is not None:
            log_det = log_det * ops.cast(ops.reshape(sample_weight, (-1,)), log_det.dtype)
        return loss - ops.mean(log_det)


def _targets(x: Any, y: Any, options: dict[str, Any]) -> Any:
    """Stand-ins for targets where rows have weights: Keras drops the weights of rows without."""
    if y is not None or options.get("sample_weight") is None:
        return y
    return as_pair(x, None)[0]


def _with_guard(callbacks: Any) -> Any:
    """The callbacks, and before them the one that keeps a lost loss from taking the weights."""
    if isinstance(callbacks, keras.callbacks.CallbackList):
        return callbacks
    given = [] if callbacks is None else callbacks
    return [FiniteTraining(), *(given if isinstance(given, (tuple, list)) else [given])]


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
