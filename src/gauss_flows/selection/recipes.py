"""Recipes for closed-form blocks, compared on rows that are held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import count
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.rbig.blocks import Recipe, log_normal, next_block, push
from gauss_flows.selection.compare import gains, is_clearly_behind
from gauss_flows.selection.words import counted

Array = NDArray[np.float64]


class Trial(NamedTuple):
    """A recipe with a number of blocks, and the log density of rows that it was not fitted to.

    Args:
        recipe: The recipe.
        n_blocks: The number.
        log_density: Nats of the rows held back, in the order of the folds.
        n_folds: How many folds those are.
    """

    recipe: Recipe
    n_blocks: int
    log_density: Array
    n_folds: int = 1


def try_recipes(
    x: Array,
    recipes: Sequence[Recipe],
    held_back: Sequence[NDArray[np.bool_]],
    max_blocks: int,
    *,
    exactly: bool = False,
    patience: int = 2,
    rival: Array | None = None,
    tell: Callable[[str], None] = lambda _: None,
    found: list[Any] | None = None,
) -> list[Trial]:
    """Find the number of blocks of every recipe on rows that are held back from its fit.

    A number is better where these rows gain more than the gain's standard error. A recipe that is
    clearly behind another, or the rival, in the first fold is not tried in the others.

    Args:
        x: Rows of shape (n, d).
        recipes: The recipes.
        held_back: One mask of shape (n,) for each fold; the rows scored are all those in one.
        max_blocks: The most blocks.
        exactly: Score that number of blocks alone.
        patience: Blocks to go on for after the best number.
        rival: Nats of the rows held back by something else.
        tell: Called with a line about each recipe.
        found: A list that every trial is appended to as soon as it is scored.

    Returns:
        One trial for each recipe, with its best number of blocks.
    """
    found = [] if found is None else found
    ladders = [_Ladder(x, recipe, held_back, patience, found) for recipe in recipes]
    trials: list[Trial] = []
    for ladder in ladders:
        # After one block of single components the rows have no correlation left to rotate.
        single = ladder.recipe.n_components == 1 and not (ladder.recipe.marginals_first or exactly)
        most = 1 if single else max_blocks
        trials.append(ladder.climb(most, exactly, n_folds=len(held_back) if single else 1))
    best = max(trials, key=lambda trial: trial.log_density[: held_back[0].sum()].mean())
    rivals = [best.log_density] if rival is None else [best.log_density, rival]
    for place, (ladder, trial) in enumerate(zip(ladders, trials, strict=True)):
        if trial.n_folds < len(held_back) and not any(
            is_clearly_behind(trial.log_density, other) for other in rivals
        ):
            trials[place] = ladder.climb(max_blocks, exactly, n_folds=len(held_back))
        _report(trials[place], tell)
    return trials


def _report(trial: Trial, tell: Callable[[str], None]) -> None:
    mean, blocks = trial.log_density.mean(), counted(trial.n_blocks, "block")
    where = f"rows held back in {counted(trial.n_folds, 'fold')}"
    tell(f"{trial.recipe}: {mean:.3f} nats on {where} with {blocks}")


class _Ladder:
    """Blocks of one recipe, grown in every fold as far as they have been asked for."""

    def __init__(
        self,
        x: Array,
        recipe: Recipe,
        held_back: Sequence[NDArray[np.bool_]],
        patience: int,
        found: list[Any],
    ):
        self.recipe, self._patience, self._found = recipe, patience, found
        self._folds = [_scores(x, recipe, held) for held in held_back]
        self._grown: list[list[Array]] = [[] for _ in held_back]

    def climb(self, most: int, exactly: bool, n_folds: int) -> Trial:
        """Find the number of blocks that rows held back in the first so many folds prefer."""
        best = None
        for n_blocks in range(1, most + 1):
            trial = self._trial(n_blocks, n_folds)
            self._found.append(trial)
            if best is None or exactly or gains(trial.log_density, best.log_density):
                best = trial
            if n_blocks - best.n_blocks >= self._patience:
                break
        assert best is not None
        return best

    def _trial(self, n_blocks: int, n_folds: int) -> Trial:
        for scores, grown in zip(self._folds[:n_folds], self._grown, strict=False):
            while len(grown) < n_blocks:
                grown.append(next(scores))
        log_density = np.concatenate([grown[n_blocks - 1] for grown in self._grown[:n_folds]])
        return Trial(self.recipe, n_blocks, log_density, n_folds)


def _scores(x: Array, recipe: Recipe, held: NDArray[np.bool_]) -> Iterator[Array]:
    """Yield the log density of rows held back after one block, two and so on."""
    log_det = np.zeros(len(x))
    for index in count():
        block = next_block(x[~held], index, recipe)
        # All rows in one call, so that every fold and block runs the same compiled code.
        x, change = push(block, x)
        log_det += change
        yield log_normal(x[held]) + log_det[held]
