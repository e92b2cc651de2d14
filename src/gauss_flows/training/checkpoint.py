"""A run on disk: all that the rest of it depends on, in one file of a folder."""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import PyTree

from gauss_flows.training.epoch import TrainingState
from gauss_flows.training.tensor_file import TensorFormat

_ADVICE = "Pass resume=False to start again, or name another checkpoint_dir."
_SCALARS = ("best_epoch", "best_loss", "train", "val", "epoch", "step", "stopped")


class CheckpointError(ValueError):
    """A checkpoint that cannot be read, or that belongs to another run.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.random as jr
        >>> import gauss_flows as gf
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> _ = (folder / "checkpoint.safetensors").write_bytes(b"something else")
        >>> flow = gf.gaussianization_flow(jr.key(0), n_dims=1, n_layers=1)
        >>> x = jr.normal(jr.key(1), (50, 1))
        >>> try:
        ...     gf.fit_gaussianization_flow(jr.key(2), flow, x, checkpoint_dir=folder)
        ... except CheckpointError as error:
        ...     print(str(error).split(". ")[-1])
        Pass resume=False to start again, or name another checkpoint_dir.
    """


_FORMAT = TensorFormat(kind="training checkpoint", version=1, error=CheckpointError)


@dataclass(frozen=True)
class Progress:
    """A run after some whole number of epochs.

    Args:
        state: Parameters and optimizer state after the last epoch.
        best: Parameters of the best epoch.
        best_epoch: Its number; 0 is the start.
        best_loss: Its loss, in nats; None before the start has been evaluated.
        train: Training loss of every epoch.
        val: Validation loss of every epoch, empty without validation rows.
        epoch: Number of epochs done; the last may have been cut short by ``max_steps``.
        step: Number of steps done.
        stopped: Why a value that is not finite ended the run, or None.
    """

    state: TrainingState
    best: PyTree
    best_epoch: int = 0
    best_loss: float | None = None
    train: tuple[float, ...] = ()
    val: tuple[float, ...] = ()
    epoch: int = 0
    step: int = 0
    stopped: str | None = None


def describe_run(**parts: Any) -> dict[str, str]:
    """Settings, data and flow as short strings that are equal only if the run is the same.

    Args:
        **parts: Pytrees by name. Arrays are described by a digest of their bytes.

    Returns:
        A string for each name.
    """
    return {name: _describe(part) for name, part in parts.items()}


@dataclass(frozen=True)
class CheckpointFolder:
    """The checkpoint of one run.

    Args:
        path: The folder, made when the first checkpoint is written.
        run: The run, from ``describe_run``.
        rates: The step size of every step of the run.
        n_batches: Steps in an epoch.
        every: Epochs between checkpoints.
    """

    path: str | os.PathLike[str]
    run: Mapping[str, str]
    rates: np.ndarray
    n_batches: int
    every: int

    @property
    def file(self) -> Path:
        """The file that is written."""
        return Path(self.path) / "checkpoint.safetensors"

    def write(self, progress: Progress) -> None:
        """Replace the checkpoint."""
        try:
            Path(self.path).mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise CheckpointError(
                f"Expected checkpoint_dir to be a folder; got {self.path}."
            ) from None
        scalars = {name: getattr(progress, name) for name in _SCALARS}
        rates = _digest(self.rates[: progress.step])
        content = {"run": dict(self.run), "rates": rates, "progress": scalars}
        _FORMAT.write(self.file, _named_arrays(progress), content)

    def read(self, start: Progress) -> Progress:
        """Read the checkpoint, if there is one.

        Args:
            start: The run before its first step, whose arrays give the structure.

        Returns:
            The progress on disk, or ``start`` if there is none.

        Raises:
            CheckpointError: If the file is damaged or was written by another run.
        """
        if not self.file.exists():
            return start
        try:
            arrays, content = _FORMAT.read(self.file)
        except CheckpointError as fault:
            raise CheckpointError(f"{fault} {_ADVICE}") from fault.__cause__
        self._check(content)
        expected = _named_arrays(start)
        if _shapes(arrays) != _shapes(expected):
            raise CheckpointError(f"Expected {self.file} to hold this flow's arrays. {_ADVICE}")
        leaves, structure = jax.tree.flatten((start.state, start.best))
        loaded = [_restore(arrays[name], leaf) for name, leaf in zip(expected, leaves, strict=True)]
        state, best = jax.tree.unflatten(structure, loaded)
        scalars = dict(content["progress"])
        scalars |= {name: tuple(scalars[name]) for name in ("train", "val")}
        return Progress(state=state, best=best, **scalars)

    def _check(self, content: dict[str, Any]) -> None:
        """Refuse a checkpoint whose run would have gone another way so far."""
        other = [name for name in self.run if content["run"].get(name) != self.run[name]]
        scalars = content["progress"]
        step = scalars["step"]
        if not other and step > len(self.rates):
            raise CheckpointError(
                f"Expected {self.file} to be within this run's {len(self.rates)} steps; it is "
                f"already past them, at epoch {scalars['epoch']} and step {step}. Ask for more "
                f"epochs or steps. {_ADVICE}"
            )
        if content["rates"] != _digest(self.rates[:step]):
            other.append(
                "learning rate (or length, which a peak rate is spread over; an optax schedule, "
                "such as optax.constant_schedule, lets a run be extended)"
            )
        elif step < min(scalars["epoch"] * self.n_batches, len(self.rates)):
            other.append("max_steps, which ended it within an epoch")
        if other:
            raise CheckpointError(
                f"Expected {self.file} to belong to this run; it was written with another "
                f"{', another '.join(other)}. {_ADVICE}"
            )


def _named_arrays(progress: Progress) -> dict[str, np.ndarray]:
    leaves = jax.tree.leaves((progress.state, progress.best))
    return {f"{i:06d}": _stored(leaf) for i, leaf in enumerate(leaves)}


def _shapes(arrays: Mapping[str, np.ndarray]) -> dict[str, tuple]:
    return {name: (array.dtype, array.shape) for name, array in arrays.items()}


def _stored(leaf: jax.Array) -> np.ndarray:
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        leaf = jr.key_data(leaf)
    array = np.asarray(leaf)
    # Dtypes that numpy does not know itself, such as bfloat16, are kept as their bits.
    return array if array.dtype.kind in "biuf" else array.view(f"u{array.dtype.itemsize}")


def _restore(array: np.ndarray, like: jax.Array) -> jax.Array:
    if jnp.issubdtype(like.dtype, jax.dtypes.prng_key):
        return jr.wrap_key_data(jnp.array(array), impl=jr.key_impl(like))
    return jnp.array(array.view(np.asarray(like).dtype))


def _describe(part: Any) -> str:
    leaves, structure = jax.tree.flatten(part)
    if not any(eqx.is_array(leaf) for leaf in leaves):
        return _without_addresses(repr(part))
    digest = hashlib.sha256(_without_addresses(str(structure)).encode())
    for leaf in leaves:
        if eqx.is_array(leaf):
            digest.update(f"{leaf.dtype}{leaf.shape}".encode())
            digest.update(_stored(jnp.asarray(leaf)).tobytes())
        else:
            digest.update(_without_addresses(repr(leaf)).encode())
    return digest.hexdigest()


def _digest(array: np.ndarray) -> str:
    return hashlib.sha256(f"{array.dtype}".encode() + array.tobytes()).hexdigest()


def _without_addresses(text: str) -> str:
    return re.sub(r" at 0x[0-9a-f]+", "", text)
