"""Training a flow from its closed-form start."""

from __future__ import annotations

import math
import warnings
from typing import Any

import jax.random as jr
import numpy as np
from flowjax.distributions import Transformed
from numpy.typing import NDArray

from gauss_flows.rbig.blocks import Block, grow
from gauss_flows.selection.assemble import build_coupled_mixture_flow, build_flow
from gauss_flows.selection.interrupts import was_interrupted
from gauss_flows.selection.mixture_recipes import KernelRecipe, MixtureRecipe
from gauss_flows.selection.recipes import Trial
from gauss_flows.selection.settings import AfterMixture, Settings
from gauss_flows.training import TrainingStoppedWarning, fit_gaussianization_flow, split_rows

Array = NDArray[np.float64]

_MOST_BLOCKS = 10
_MOST_NETWORK_BLOCKS = 4
_MAX_STEPS = 1_200
# Tables so small that a batch takes many of their rows would be seen too often.
_MAX_EPOCHS = 200
_LEARNING_RATE = 1e-2
_BATCHES_AN_EPOCH = 8
_SMALLEST_BATCH, _LARGEST_BATCH = 64, 512
_VAL_PROP = 0.15
# The couplings of wider tables are trained for a part of the steps, as they cost more.
_FEW_COLUMNS = 3
_WIDE_STEPS = 600
# Couplings after a mixture do what most of its components were needed for.
_COMPONENTS_KEPT = 0.25
# And those that take the place of kernels.
_MOST_COMPONENTS = 13


def n_coupled(n_dims: int) -> int:
    """How many blocks of couplings follow a joint mixture; each costs more in wide tables."""
    return 3 if n_dims <= _FEW_COLUMNS else 2


def start_of(family: str, blocks: list[Block], settings: Settings) -> Transformed:
    """Build the flow of a family that the blocks are."""
    return build_flow(jr.key(settings.seed), family, blocks, n_layers=settings.n_layers)


def to_be_trained(trial: Trial, family: str, n_dims: int, settings: Settings) -> Trial:
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


def fewer_components(recipe: AfterMixture) -> AfterMixture:
    """Leave out the components that couplings make up for, with less noise."""
    trial = recipe.mixture
    n_components = max(1, round(_COMPONENTS_KEPT * trial.recipe.n_components))
    if isinstance(trial.recipe, KernelRecipe):
        smaller = MixtureRecipe(min(n_components, _MOST_COMPONENTS), 1.0, 0.0)
    else:
        smaller = trial.recipe._replace(n_components=n_components)
    return AfterMixture(trial._replace(recipe=smaller))


def train(
    family: str,
    start: Trial | AfterMixture,
    x: Array,
    settings: Settings,
    held: NDArray[np.bool_] | None = None,
) -> tuple[Transformed, dict[str, Any]]:
    """Fit a start in closed form, and train it for as long as rows held back gain.

    Args:
        family: The family to be trained.
        start: How its start is fitted.
        x: Standardised rows, shape (n, d).
        settings: What is asked for.
        held: The rows whose likelihood chooses the epoch, as a mask of shape (n,); some of the
            rows at random when None. Neither start nor gradient sees them.

    Returns:
        The flow, and the history of its training.

    Raises:
        KeyboardInterrupt: Where the user interrupts and the best flow so far is not to be kept.
    """
    if held is None:
        held = _some_rows(len(x), settings)
    # A start fitted to the rows that end the training would be too good there to be improved on.
    flow = _fit_start(family, start, x[~held], settings)
    wide = family == "mixture-coupling" and x.shape[1] > _FEW_COLUMNS
    steps = _WIDE_STEPS if wide else _MAX_STEPS
    return climb(flow, x, settings, steps=steps, held=held)


def climb(
    flow: Transformed,
    x: Array,
    settings: Settings,
    *,
    condition: Array | None = None,
    steps: int = _MAX_STEPS,
    held: NDArray[np.bool_] | None = None,
) -> tuple[Transformed, dict[str, Any]]:
    """Train a flow, and keep the epoch that rows held back prefer.

    Args:
        flow: The flow to begin with.
        x: Standardised rows, shape (n, d).
        settings: What is asked for.
        condition: What they are given, shape (n, c).
        steps: How many steps where no number of epochs is asked for.
        held: Those rows, as above.

    Returns:
        The flow, and the history of its training.

    Raises:
        KeyboardInterrupt: Where the user interrupts and the best flow so far is not to be kept.
    """
    n_rows = len(x)
    if held is None:
        held = _some_rows(n_rows, settings)
    val_prop = held.sum() / n_rows
    batch_size = settings.batch_size or int(
        np.clip(n_rows // _BATCHES_AN_EPOCH, _SMALLEST_BATCH, _LARGEST_BATCH)
    )
    key = jr.key(settings.seed + 1)
    fitted, held_out = split_rows(key, n_rows, val_prop)
    # The trainer chooses the rows to hold out by their places.
    order = np.empty(n_rows, int)
    order[fitted], order[held_out] = np.flatnonzero(~held), np.flatnonzero(held)
    n_batches = math.ceil(len(fitted) / batch_size)
    max_epochs = settings.max_epochs or min(_MAX_EPOCHS, math.ceil(steps / n_batches))
    with warnings.catch_warnings():
        # The history says so too, and there it is printed in the report's place.
        warnings.simplefilter("ignore", TrainingStoppedWarning)
        # No patience: a one-cycle schedule gains most at its end, when its rate falls.
        flow, history = fit_gaussianization_flow(
            key,
            flow,
            x[order],
            condition=None if condition is None else condition[order],
            learning_rate=settings.learning_rate or _LEARNING_RATE,
            batch_size=batch_size,
            max_epochs=max_epochs,
            val_prop=val_prop,
            show_progress=settings.show_progress,
        )
    # The trainer hands an interactive user the flow as far as it came. Whoever interrupts a
    # command wants it to end, and a flow that was hardly trained must not replace a good file.
    if was_interrupted(history) and not settings.keep_interrupted:
        raise KeyboardInterrupt
    return flow, history


def _some_rows(n_rows: int, settings: Settings) -> NDArray[np.bool_]:
    held = np.zeros(n_rows, bool)
    held[split_rows(jr.key(settings.seed + 1), n_rows, _VAL_PROP)[1]] = True
    return held


def _fit_start(
    family: str, start: Trial | AfterMixture, x: Array, settings: Settings
) -> Transformed:
    if isinstance(start, AfterMixture):
        mixture = start.mixture.fit_once(x, settings.seed)
        key, n_layers = jr.key(settings.seed), n_coupled(x.shape[1])
        return build_coupled_mixture_flow(key, mixture, n_layers=n_layers)
    return start_of(family, grow(x, start.recipe, start.n_blocks), settings)
