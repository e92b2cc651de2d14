"""Choosing and training a flow for a table, by rows that it was not fitted to."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax.random as jr
import numpy as np
from flowjax.distributions import Transformed
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import Block, Recipe, grow
from gauss_flows.selection.assemble import build_flow, build_mixture_flow
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.mixtures import (
    FittedMixture,
    MixtureTrial,
    try_gaussians,
    try_mixtures,
)
from gauss_flows.selection.recipes import Trial, gains, try_recipes
from gauss_flows.selection.words import counted, shown
from gauss_flows.training import TrainingStoppedWarning, fit_gaussianization_flow, split_rows

Array = NDArray[np.float64]

_MOST_BLOCKS = 10
# Below this, every row is held back once, in one of the folds; above it one fold says enough.
_FEW_ROWS = 5_000
_FOLDS = 5
# The networks of a coupling flow have nothing to learn from fewer rows but those rows.
_ROWS_FOR_NETWORKS = 1_000
_MOST_NETWORK_BLOCKS = 4
_MAX_STEPS = 3_000
_LEARNING_RATE = 2e-3
_LEAST_PATIENCE = 5
_VAL_PROP = 0.15


class Settings(NamedTuple):
    """What the user asked for; None where the choice is left to the fit.

    With `keep_interrupted` a `KeyboardInterrupt` during training ends the fit with the best flow
    so far; otherwise, and before there is a flow, it is raised.
    """

    family: str = "auto"
    n_layers: int | None = None
    n_components: int | None = None
    max_epochs: int | None = None
    learning_rate: float | None = None
    batch_size: int | None = None
    seed: int = 0
    show_progress: bool = False
    keep_interrupted: bool = False


class Candidate(NamedTuple):
    """Something that was tried, and its mean log density on rows held back from it."""

    name: str
    log_density: Estimate


class Fitted(NamedTuple):
    """A fit in standardised units.

    Attributes:
        flow: The flow.
        family: Its family.
        recipe: How its start was fitted.
        n_blocks: The number of blocks of the start.
        candidates: What was tried, in order.
        history: Losses of the training that the flow came from, in nats; empty without any.
        mixture: The joint mixture that the flow is, or that missing values were drawn from.
    """

    flow: Transformed
    family: str
    recipe: Recipe | MixtureTrial
    n_blocks: int
    candidates: list[Candidate]
    history: dict[str, Any]
    mixture: FittedMixture | None = None


def fit_flow(x: Array, settings: Settings, tell: Callable[[str], None]) -> Fitted:
    """Fit a flow.

    The start is closed-form: its first block, its components and its number of blocks are those
    with the highest log density on rows held back. With a family named, that family is trained
    from there, for as long as rows held back from the training gain. `auto` trains one family
    after the other on four fifths of the rows, takes the next only where the last fifth gains more
    than the gain's standard error, and fits the winner to all rows.

    Args:
        x: Standardised rows, shape (n, d); NaN for missing values where the family is `gaussian` or
            `mixture` and d > 1.
        settings: What is asked for.
        tell: Called with lines about what is being done.

    Returns:
        The fit.
    """
    n_dims = x.shape[1]
    folds = held_back_folds(len(x), settings.seed)
    mixture, candidates = _choose_mixture(x, folds, settings, tell)
    if settings.family in ("gaussian", "mixture") and mixture is not None:
        return _fit_mixture(x, mixture, candidates, settings)
    trial, found = _choose_start(x, folds, settings, tell)
    candidates += found
    if settings.family == "auto":
        family, found = _choose_family(x, folds[0], trial, mixture, settings, tell)
        candidates += found
        if family == "mixture" and mixture is not None:
            return _fit_mixture(x, mixture, candidates, settings)
    else:
        family = settings.family
    if family == "rbig" or settings.max_epochs == 0:
        flow, history = _start(family, grow(x, trial.recipe, trial.n_blocks), settings), {}
    else:
        tell(f"training the {family} flow")
        trial = _to_be_trained(trial, family, n_dims, settings)
        flow, history = _train(family, trial, x, settings)
    return Fitted(flow, family, trial.recipe, trial.n_blocks, candidates, history)


def _choose_mixture(
    x: Array, folds: Sequence[NDArray[np.bool_]], settings: Settings, tell: Callable[[str], None]
) -> tuple[MixtureTrial | None, list[Candidate]]:
    if settings.family == "gaussian":
        trial = try_gaussians(x, folds)
        return trial, [Candidate(str(trial), Estimate.of_mean(trial.log_density))]
    # Layers cannot be counted in a mixture: who asks for some wants blocks.
    wanted = settings.family == "mixture" or (
        settings.family == "auto" and settings.n_layers is None
    )
    if not wanted or x.shape[1] == 1:
        return None, []
    trial = try_mixtures(
        x, folds, seed=settings.seed, n_components=settings.n_components, tell=tell
    )
    name = f"closed form, {trial}"
    return trial, [Candidate(name, Estimate.of_mean(trial.log_density))]


def _fit_mixture(
    x: Array, trial: MixtureTrial, candidates: list[Candidate], settings: Settings
) -> Fitted:
    mixture = trial.fit(x, settings.seed)
    flow = build_mixture_flow(mixture)
    family = "gaussian" if settings.family == "gaussian" else "mixture"
    return Fitted(flow, family, trial, int(trial.marginals_first), candidates, {}, mixture)


def held_back_folds(n_rows: int, seed: int) -> list[NDArray[np.bool_]]:
    """Take every row once out of a small table, and one fifth of a large one."""
    order = np.random.default_rng([seed, 1]).permutation(n_rows)
    fold = np.empty(n_rows, int)
    fold[order] = np.arange(n_rows) % _FOLDS
    return [fold == i for i in range(_FOLDS if n_rows < _FEW_ROWS else 1)]


def _choose_start(
    x: Array, folds: Sequence[NDArray[np.bool_]], settings: Settings, tell: Callable[[str], None]
) -> tuple[Trial, list[Candidate]]:
    n_dims, k = x.shape[1], settings.n_components
    orders = (False, True) if n_dims > 1 else (True,)
    recipes = [Recipe(marginals_first, k) for marginals_first in orders]
    if k is None:
        recipes.insert(0, Recipe(False, 1))
    # The couplings of these families follow the blocks, and are what their --n-layers counts.
    follows = settings.family in ("spline-coupling", "affine-coupling")
    asked = None if follows else settings.n_layers
    trials = try_recipes(
        x,
        recipes,
        folds,
        asked or (_MOST_BLOCKS if n_dims > 1 else 1),
        exactly=asked is not None,
        tell=tell,
    )
    best = max(trials, key=lambda trial: trial.log_density.mean())
    candidates = [
        Candidate(
            f"closed form, {counted(t.n_blocks, 'block')}, {t.recipe}",
            Estimate.of_mean(t.log_density),
        )
        for t in trials
    ]
    return best, candidates


def _to_be_trained(trial: Trial, family: str, n_dims: int, settings: Settings) -> Trial:
    """Leave out the last blocks of a start that training makes up for.

    On wide tables a few trained blocks do what RBIG needs many for, and the cost grows with both;
    networks fit the noise when they are many.
    """
    if settings.n_layers is not None:
        return trial
    most = int(np.clip(math.ceil(120 / n_dims), 3, _MOST_BLOCKS))
    if family == "mixture-coupling":
        most = min(most, _MOST_NETWORK_BLOCKS)
    return trial._replace(n_blocks=min(trial.n_blocks, most))


def _choose_family(
    x: Array,
    held: NDArray[np.bool_],
    trial: Trial,
    mixture: MixtureTrial | None,
    settings: Settings,
    tell: Callable[[str], None],
) -> tuple[str, list[Candidate]]:
    # Every row of a small table has been held back from both: that says more than one fifth.
    if mixture is not None and mixture.log_density.mean() >= trial.log_density.mean():
        flow = build_mixture_flow(mixture.fit(x[~held], settings.seed))
        best = "mixture"
    else:
        flow = _start("rbig", grow(x[~held], trial.recipe, trial.n_blocks), settings)
        best = "rbig"
    best_score = log_density(flow, x[held])
    if settings.max_epochs == 0:
        return best, []
    candidates = [Candidate("on one fifth: the closed form", Estimate.of_mean(best_score))]
    families = ["diagonal"]
    if x.shape[1] > 1 and len(x) >= _ROWS_FOR_NETWORKS:
        families.append("mixture-coupling")
    for family in families:
        tell(f"training a {family} flow on four fifths of the rows")
        start = _to_be_trained(trial, family, x.shape[1], settings)
        try:
            flow, _ = _train(family, start, x[~held], settings._replace(keep_interrupted=False))
        except KeyboardInterrupt:
            if not settings.keep_interrupted:
                raise
            tell("interrupted: going on with what was best")
            break
        score = log_density(flow, x[held])
        tell(f"{family}: gains {shown(Estimate.of_mean(score - best_score))} nats")
        candidates.append(Candidate(f"on one fifth: {family}, trained", Estimate.of_mean(score)))
        if gains(score, best_score):
            best, best_score = family, score
    return best, candidates


def _start(family: str, blocks: list[Block], settings: Settings) -> Transformed:
    return build_flow(jr.key(settings.seed), family, blocks, n_layers=settings.n_layers)


def _train(
    family: str, trial: Trial, x: Array, settings: Settings
) -> tuple[Transformed, dict[str, Any]]:
    key = jr.key(settings.seed + 1)
    # A start fitted to the rows that end the training would be too good there to be improved on.
    fitted, held_out = split_rows(key, len(x), _VAL_PROP)
    start = _start(family, grow(x[np.sort(fitted)], trial.recipe, trial.n_blocks), settings)
    batch_size = settings.batch_size or 512
    max_epochs = settings.max_epochs or math.ceil(_MAX_STEPS / math.ceil(len(x) / batch_size))
    with warnings.catch_warnings():
        # The history says so too, and there it is printed in the report's place.
        warnings.simplefilter("ignore", TrainingStoppedWarning)
        flow, history = fit_gaussianization_flow(
            key,
            start,
            x,
            learning_rate=settings.learning_rate or _LEARNING_RATE,
            batch_size=batch_size,
            max_epochs=max_epochs,
            patience=max(_LEAST_PATIENCE, max_epochs / 8),
            val_prop=_VAL_PROP if len(held_out) else 0.0,
            show_progress=settings.show_progress,
        )
    # The trainer hands an interactive user the flow as far as it came. Whoever interrupts a
    # command wants it to end, and a flow that was hardly trained must not replace a good file.
    interrupted = str(history.get("stopped", "")).startswith("interrupted")
    if interrupted and not settings.keep_interrupted:
        raise KeyboardInterrupt
    return flow, history
