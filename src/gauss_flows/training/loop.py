"""The loop over epochs: what the host decides between two compiled calls."""

import dataclasses
import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import PyTree
from tqdm import tqdm

from gauss_flows.training.checkpoint import CheckpointFolder, Progress
from gauss_flows.training.epoch import Rows, TrainingState, deal_rows, run_epoch
from gauss_flows.training.inputs import Settings
from gauss_flows.training.static_optimizer import StaticOptimizer


class EpochOutcome(NamedTuple):
    """An ``EpochReport`` on the host."""

    train: float
    selection: float
    failed_step: int
    failed_loss: float


class Run(NamedTuple):
    """All of a run that does not change from epoch to epoch.

    Args:
        static: What training leaves alone of the flow.
        train: The training rows.
        evaluation: The rows that choose the best epoch, in batches.
        validates: Whether those are held-out rows rather than the training rows.
        seed: Seed of the shuffles.
        rates: The step size of every step.
        settings: The options.
        optimizer: The optimizer.
    """

    static: PyTree
    train: Rows
    evaluation: Rows
    validates: bool
    seed: tuple[int, ...]
    rates: np.ndarray
    settings: Settings
    optimizer: StaticOptimizer

    def is_over(self, progress: Progress) -> bool:
        """Whether an option or a value that is not finite ends the run here."""
        return (
            progress.stopped is not None
            or progress.step >= self.settings.n_steps
            or progress.epoch - progress.best_epoch >= self.settings.patience
        )

    def epoch(
        self, state: TrainingState, epoch: int, n_active: int
    ) -> tuple[TrainingState, EpochOutcome]:
        """Take the steps of one epoch and evaluate; without steps, only evaluate."""
        n_batches = self.settings.n_batches
        first = epoch * n_batches
        sizes = self.rates[first : first + n_batches]
        # On the host, because there a permutation needs no compilation.
        order = np.random.default_rng([*self.seed, epoch]).permutation(len(self.train.x))
        state, report = run_epoch(
            state,
            self.static,
            self.train,
            self.evaluation,
            # As numpy arrays, which the call itself takes to the device, and sooner.
            deal_rows(order, n_batches),
            np.pad(sizes, (0, n_batches - len(sizes))),
            np.asarray(n_active, np.int32),
            np.asarray(self.settings.clip_norm, self.rates.dtype),
            self.optimizer,
        )
        return state, EpochOutcome(*(value.item() for value in jax.device_get(report)))


def train(
    run: Run, progress: Progress, folder: CheckpointFolder | None, *, show_progress: bool
) -> tuple[Progress, str | None]:
    """Run epochs until the run is over or interrupted.

    Args:
        run: The run.
        progress: Where it starts.
        folder: Where checkpoints go, if anywhere.
        show_progress: Show a progress bar.

    Returns:
        The progress after the last epoch, and why the run ended early, if it did.
    """
    written = progress.epoch
    interrupted = None
    with tqdm(
        total=run.settings.max_epochs,
        initial=progress.epoch,
        disable=not show_progress,
        unit="epoch",
    ) as bar:
        try:
            if progress.best_loss is None:
                progress = _evaluate_start(run, progress)
                written = -1
            while not run.is_over(progress):
                progress = _advance(run, progress)
                bar.update(progress.epoch - bar.n)
                bar.set_postfix_str(_summary(progress), refresh=False)
                if folder is not None and progress.epoch % folder.every == 0:
                    folder.write(progress)
                    written = progress.epoch
        except KeyboardInterrupt:
            interrupted = f"interrupted after epoch {progress.epoch}."
    if folder is not None and (progress.stopped or progress.epoch != written):
        folder.write(progress)
    return progress, progress.stopped or interrupted


def _evaluate_start(run: Run, progress: Progress) -> Progress:
    """The loss before the first step, so that training never returns a worse flow."""
    _, report = run.epoch(progress.state, 0, 0)
    if not math.isfinite(report.selection):
        stopped = f"the {_selection_name(run)} was {report.selection} before the first step."
        return dataclasses.replace(progress, stopped=stopped)
    return dataclasses.replace(progress, best_loss=report.selection)


def _advance(run: Run, progress: Progress) -> Progress:
    """One epoch on, or the same place with the reason why it could not be finished."""
    epoch = progress.epoch + 1
    n_active = min(run.settings.n_batches, run.settings.n_steps - progress.step)
    state, report = run.epoch(progress.state, progress.epoch, n_active)
    if report.failed_step >= 0:
        what = "gradient was not finite" if math.isfinite(report.failed_loss) else "loss was"
        step = report.failed_step + 1
        place = f"at epoch {epoch}, step {step} (step {progress.step + step} of the run)"
        stopped = f"the {what} {_at_loss(report.failed_loss)}{place}."
        return dataclasses.replace(progress, stopped=stopped)
    if not math.isfinite(report.selection):
        stopped = f"the {_selection_name(run)} was {report.selection} after epoch {epoch}."
        return dataclasses.replace(progress, stopped=stopped)
    progress = dataclasses.replace(
        progress,
        state=state,
        train=(*progress.train, report.train),
        val=progress.val if not run.validates else (*progress.val, report.selection),
        epoch=epoch,
        step=progress.step + n_active,
    )
    if progress.best_loss is None or report.selection < progress.best_loss:
        progress = dataclasses.replace(
            progress, best=state.params, best_epoch=epoch, best_loss=report.selection
        )
    return progress


def _at_loss(loss: float) -> str:
    return f"(at loss {loss:.4g}) " if math.isfinite(loss) else f"{loss} "


def _selection_name(run: Run) -> str:
    return "loss of the training rows" if not run.validates else "validation loss"


def _summary(progress: Progress) -> str:
    """Both losses for the progress bar."""
    parts = [f"train {progress.train[-1]:.4f}"] if progress.train else []
    parts += [f"val {progress.val[-1]:.4f}"] if progress.val else []
    parts += [f"best {progress.best_loss:.4f} at {progress.best_epoch}"]
    return ", ".join(parts) + " nats"
