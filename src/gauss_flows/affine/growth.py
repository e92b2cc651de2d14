"""Add layers one by one, and stop where the next ones would bring nothing."""

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import PRNGKeyArray
from tqdm import tqdm

from gauss_flows.affine.states import Block, States
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.training import TrainingStoppedWarning

# Makes the next block from the rows it will see, and says what it expects of it; if it can, also
# where each row would come to if the block had not seen it.
MakeBlock = Callable[[PRNGKeyArray, States], tuple[Block, Estimate, States | None]]
# Trains all blocks together.
Refine = Callable[[PRNGKeyArray, Sequence[Block]], list[Block]]

_CLEAR = 2.0  # standard errors


class Growth(NamedTuple):
    """What came of adding layers.

    Args:
        blocks: The blocks kept.
        gains: What each layer was expected to gain, in nats, those left out again included.
        validation_gains: What it gained on the held-out rows, in nats; empty without such rows.
        stopped: Whether the stopping rule ended it.
    """

    blocks: list[Block]
    gains: list[Estimate]
    validation_gains: list[Estimate]
    stopped: bool


def grow(
    key: PRNGKeyArray,
    fitted: States,
    held: States | None,
    make: MakeBlock,
    refine: Refine | None = None,
    *,
    n_layers: int,
    patience: int,
    show_progress: bool,
) -> Growth:
    """Add blocks until the stopping rule is met.

    Args:
        key: Random key.
        fitted: Rows to fit to.
        held: Rows that decide when to stop, or none.
        make: Makes a block.
        refine: What is done to all blocks whenever one was added.
        n_layers: Most blocks.
        patience: Over how many blocks a gain must show.
        show_progress: Whether to show a bar.

    Returns:
        The blocks up to the one with the best held-out log-density; without held-out rows, up to
        the last that promised a gain. One at least.
    """
    stages: list[list[Block]] = []
    gains: list[Estimate] = []
    start, held_start = fitted, held
    log_probs: list[np.ndarray] = []
    stopped = False
    with tqdm(total=n_layers, disable=not show_progress, unit="layer") as bar:
        try:
            for layer_key in jr.split(key, n_layers):
                make_key, refine_key = jr.split(layer_key)
                block, gain, left_out = make(make_key, fitted)
                if not log_probs and (left_out is not None or held is not None):
                    log_probs.append(_judge(held, fitted if left_out is not None else None))
                blocks = [*(stages[-1] if stages else []), block]
                if refine is None:
                    fitted = fitted.through(block) if left_out is None else left_out
                    held = None if held is None else held.through(block)
                else:
                    blocks = refine(refine_key, blocks)
                    fitted = start.through_all(blocks)
                    held = None if held_start is None else held_start.through_all(blocks)
                stages.append(blocks)
                gains.append(gain)
                if log_probs:
                    log_probs.append(_judge(held, left_out))
                bar.update()
                bar.set_postfix_str(_summary(gain, log_probs), refresh=False)
                if is_spent(gains, log_probs, patience):
                    stopped = True
                    break
        except KeyboardInterrupt:
            if not stages:
                raise
            message = f"Training stopped: interrupted after layer {len(stages)}."
            warnings.warn(message, TrainingStoppedWarning, stacklevel=3)
    rises = [Estimate.of_mean(after - before) for before, after in itertools.pairwise(log_probs)]
    return Growth(stages[_best(gains, log_probs)], gains, rises, stopped)


def is_spent(gains: list[Estimate], log_probs: list[np.ndarray], patience: int) -> bool:
    """Whether the last layers brought nothing that is clear of its error.

    Args:
        gains: Expected gains of the layers.
        log_probs: Log-densities of the held-out rows before the first layer and after each, (m,)
            each; empty without such rows.
        patience: How many layers are looked at.
    """
    if len(gains) < patience:
        return False
    if log_probs:
        recent = Estimate.of_mean(log_probs[-1] - log_probs[-1 - patience])
        return bool(recent.value <= recent.standard_error)
    return all(gain.value <= _CLEAR * gain.standard_error for gain in gains[-patience:])


def _best(gains: list[Estimate], log_probs: list[np.ndarray]) -> int:
    """Place of the last layer to keep."""
    if log_probs:
        return int(np.argmax([values.mean() for values in log_probs[1:]]))
    clear = [gain.value > _CLEAR * gain.standard_error for gain in gains]
    return max((index for index, is_clear in enumerate(clear) if is_clear), default=0)


def _judge(held: States | None, left_out: States | None) -> np.ndarray:
    """Log-densities of the rows that the flow has not seen, or is as if it had not."""
    return np.concatenate([part.log_probs() for part in (held, left_out) if part is not None])


def _summary(gain: Estimate, log_probs: list[np.ndarray]) -> str:
    text = f"Δ {gain.value:.4f} ± {gain.standard_error:.4f} nats"
    return text if not log_probs else f"{text}, held out {-log_probs[-1].mean():.4f}"
