"""Recipes for closed-form blocks, compared on rows that are held back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import Recipe, log_normal, next_block, push
from gauss_flows.selection.words import counted

Array = NDArray[np.float64]


class Trial(NamedTuple):
    """A recipe with a number of blocks, and the log density of rows that it was not fitted to."""

    recipe: Recipe
    n_blocks: int
    log_density: Array


def try_recipes(
    x: Array,
    recipes: Sequence[Recipe],
    held_back: Sequence[NDArray[np.bool_]],
    max_blocks: int,
    *,
    exactly: bool = False,
    patience: int = 2,
    tell: Callable[[str], None] = lambda _: None,
    found: list[Any] | None = None,
) -> list[Trial]:
    """Find the number of blocks of every recipe on rows that are held back from its fit.

    A number is better where these rows gain more than the gain's standard error.

    Args:
        x: Rows of shape (n, d).
        recipes: The recipes.
        held_back: One mask of shape (n,) for each fold; the rows scored are all those in one.
        max_blocks: The most blocks.
        exactly: Score that number of blocks alone.
        patience: Blocks to go on for after the best number.
        tell: Called with a line about each recipe.
        found: A list that every trial is appended to as soon as it is scored.

    Returns:
        One trial for each recipe, with its best number of blocks.
    """
    trials: list[Trial] = []
    for recipe in recipes:
        # After one block of single components the rows have no correlation left to rotate.
        most = (
            1
            if recipe.n_components == 1 and not (recipe.marginals_first or exactly)
            else max_blocks
        )
        best = None
        for n_blocks, log_density in enumerate(_fold_scores(x, recipe, held_back), start=1):
            trial = Trial(recipe, n_blocks, log_density)
            if found is not None:
                found.append(trial)
            if best is None or exactly or gains(log_density, best.log_density):
                best = trial
            if n_blocks == most or n_blocks - best.n_blocks >= patience:
                trials.append(best)
                break
        trial = trials[-1]
        mean = trial.log_density.mean()
        blocks = counted(trial.n_blocks, "block")
        tell(f"{recipe}: {mean:.3f} nats on held-back rows with {blocks}")
    return trials


def gains(new: Array, old: Array) -> bool:
    """Say whether rows gain more log density than the gain's standard error."""
    gain = Estimate.of_mean(new - old)
    return bool(gain.value > gain.standard_error)


def _fold_scores(
    x: Array, recipe: Recipe, held_back: Sequence[NDArray[np.bool_]]
) -> Iterator[Array]:
    states = [x] * len(held_back)
    log_dets = [np.zeros(len(x)) for _ in held_back]
    index = 0
    while True:
        scores = []
        for fold, held in enumerate(held_back):
            block = next_block(states[fold][~held], index, recipe)
            # All rows in one call, so that every fold and block runs the same compiled code.
            states[fold], change = push(block, states[fold])
            log_dets[fold] += change
            scores.append(log_normal(states[fold][held]) + log_dets[fold][held])
        yield np.concatenate(scores)
        index += 1
