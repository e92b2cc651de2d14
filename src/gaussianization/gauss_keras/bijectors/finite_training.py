"""Training that ends with an error, and the last good weights, where the loss is lost."""

from typing import Any

import keras
import numpy as np
from keras import ops


class FiniteTraining(keras.callbacks.Callback):
    """Stops a training whose loss is no longer finite, and puts back what it had learnt by then.

    Arrays are looked at before training; the batches of a data set show a NaN only here.
    """

    def __init__(self) -> None:
        super().__init__()
        self._has_begun = False
        self._kept: list[np.ndarray] | None = None

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget an earlier training."""
        self._has_begun, self._kept = False, None

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keep the start, as it is once every callback has seen the training begin.

        Args:
            epoch: Number of the epoch, from 0.
            logs: Not used.
        """
        if not self._has_begun:
            self._has_begun = True
            self._keep()

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Keep what was learnt, or go back to what was kept.

        Args:
            epoch: Number of the epoch, from 0.
            logs: The epoch's losses.

        Raises:
            ValueError: If the epoch's loss is NaN or infinite.
        """
        loss = (logs or {}).get("loss", 0.0)
        if np.isfinite(loss):
            self._keep()
            return
        state = "had no weights before that epoch; make it anew"
        if self._kept is not None:
            state = "is as it was before that epoch"
            for variable, value in zip(self._variables(), self._kept, strict=True):
                variable.assign(value)
        raise ValueError(
            f"Expected a finite loss in epoch {epoch + 1}: either the data hold NaN or infinite "
            "values, or the training diverged, for which a smaller learning rate helps. The "
            f"model {state}. Received: loss={loss}"
        )

    def _keep(self) -> None:
        # A model that is built by its first batch has nothing to keep before it. An optimizer that
        # is has its start, which a batch that is not finite would take.
        optimizer = getattr(self.model, "optimizer", None)
        if self.model.built and optimizer is not None and not optimizer.built:
            optimizer.build(self.model.trainable_variables)
        values = [ops.convert_to_numpy(variable) for variable in self._variables()]
        self._kept = [np.array(value) for value in values] if self.model.built else None

    def _variables(self) -> list[Any]:
        optimizer = getattr(self.model, "optimizer", None)
        return [*self.model.variables, *(optimizer.variables if optimizer else [])]
