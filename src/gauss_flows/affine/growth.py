"""Add layers one by one, and stop where the next ones would bring nothing."""

import itertools
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.random as jr
import numpy as np
from jaxtyping import Float, PRNGKeyArray
from tqdm import tqdm

from gauss_flows.affine.states import Block, States
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.training import TrainingStoppedWarning


class Made(NamedTuple):
    """A new block, and what is known of it.

    Args:
        block: The block.
        gain: What it is expected to gain, in nats.
        left_out: Where each row would come to if the block had not been fitted to it; `None` where
            nobody knows.
        row_gains: Log-density that each row gains from a block that it had no part in, in nats,
            shape (n,); `None` likewise.
    """

    block: Block
    gain: Estimate
    left_out: States | None = None
    row_gains: Float[np.ndarray, " n"] | None = None


# Makes the next block from the rows it will see.
MakeBlock = Callable[[PRNGKeyArray, States], Made]
# Trains all blocks together.
Refine = Callable[[PRNGKeyArray, Sequence[Block]], list[Block]]

# Standard errors above which a gain is worth looking for more, and from which on it is believed.
_WORTH, _CLEAR = 1.0, 2.0


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
        The blocks up to the last that brought something clear of its error, see `n_kept`; perhaps
        none.
    """
    stages: list[list[Block]] = []
    gains: list[Estimate] = []
    start, held_start = fitted, held
    known = np.empty(0)
    judged: list[np.ndarray] = []
    stopped = False
    with tqdm(total=n_layers, disable=not show_progress, unit="layer") as bar:
        try:
            for layer_key in jr.split(key, n_layers):
                make_key, refine_key = jr.split(layer_key)
                made = make(make_key, fitted)
                if not stages:
                    known = known if made.row_gains is None else fitted.log_probs()
                    judged = _extended([], known, held)
                if made.row_gains is not None:
                    known = known + made.row_gains
                blocks = [*(stages[-1] if stages else []), made.block]
                if refine is None:
                    fitted = made.left_out or fitted.through(made.block)
                    held = None if held is None else held.through(made.block)
                else:
                    blocks = refine(refine_key, blocks)
                    fitted = start.through_all(blocks)
                    held = None if held_start is None else held_start.through_all(blocks)
                stages.append(blocks)
                gains.append(made.gain)
                judged = _extended(judged, known, held)
                bar.update()
                bar.set_postfix_str(_summary(made.gain, judged), refresh=False)
                if is_spent(gains, judged, patience):
                    stopped = True
                    break
        except KeyboardInterrupt:
            if not stages:
                raise
            message = f"Training stopped: interrupted after layer {len(stages)}."
            warnings.warn(message, TrainingStoppedWarning, stacklevel=3)
    rises = [Estimate.of_mean(after - before) for before, after in itertools.pairwise(judged)]
    kept = n_kept(gains[: len(stages)], judged)
    return Growth(stages[kept - 1] if kept else [], gains, rises, stopped)


def is_spent(gains: list[Estimate], log_probs: list[np.ndarray], patience: int) -> bool:
    """Whether the last layers brought nothing that is clear of its error.

    Args:
        gains: Expected gains of the layers.
        log_probs: Log-densities of the rows that judge, before the first layer and after each, (m,)
            each; empty without such rows.
        patience: How many layers are looked at.
    """
    if len(gains) < patience:
        return False
    if log_probs:
        recent = Estimate.of_mean(log_probs[-1] - log_probs[-1 - patience])
        return bool(recent.value <= _WORTH * recent.standard_error)
    return all(gain.value <= _CLEAR * gain.standard_error for gain in gains[-patience:])


def n_kept(gains: list[Estimate], log_probs: list[np.ndarray]) -> int:
    """How many layers to keep: a depth takes the place of another where it is clearly better.

    The best of many depths is so by chance where none is, and with few rows that chance is large.
    Twice its error must speak for having any layers, once for having more.

    Args:
        gains: Expected gains of the layers.
        log_probs: Log-densities of the rows that judge, before the first layer and after each, (m,)
            each; empty without such rows.

    Returns:
        The number of layers, 0 where not even the first is better than none.
    """
    if not log_probs:
        clear = [gain.value > _CLEAR * gain.standard_error for gain in gains]
        return max((index for index, is_clear in enumerate(clear, 1) if is_clear), default=0)
    kept = 0
    for depth in range(1, len(log_probs)):
        further = Estimate.of_mean(log_probs[depth] - log_probs[kept])
        # Of one row there is no error, and nothing is clear.
        mark = _WORTH if kept else _CLEAR
        if further.value > mark * further.standard_error:
            kept = depth
    return kept


def _extended(judged: list[np.ndarray], known: np.ndarray, held: States | None) -> list[np.ndarray]:
    """With the log-densities of all rows that judge, if there are any."""
    now = known if held is None else np.concatenate([known, held.log_probs()])
    return [*judged, now] if now.size else []


def _summary(gain: Estimate, judged: list[np.ndarray]) -> str:
    text = f"Δ {gain.value:.4f} ± {gain.standard_error:.4f} nats"
    return text if not judged else f"{text}, held out {-judged[-1].mean():.4f}"
