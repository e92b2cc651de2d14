"""Choosing and training a flow for a table, by rows that it was not fitted to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import Recipe, grow
from gauss_flows.selection import interrupts
from gauss_flows.selection.compare import gains, lead
from gauss_flows.selection.contest import (
    Contender,
    challenge,
    challengers,
    closed_form_contender,
    fit_closed_form,
)
from gauss_flows.selection.mixture_recipes import KernelRecipe, MixtureRecipe, MixtureTrial
from gauss_flows.selection.mixtures import has_few_rows, try_gaussians, try_mixtures
from gauss_flows.selection.recipes import Trial, try_recipes
from gauss_flows.selection.settings import AfterMixture, Candidate, Fitted, Settings
from gauss_flows.selection.trained import start_of, to_be_trained, train
from gauss_flows.selection.words import counted

__all__ = ["Candidate", "Fitted", "Settings", "fit_flow", "held_back_folds"]

Array = NDArray[np.float64]

_MOST_BLOCKS = 10
# Every row of a small table is held back once, in one of the folds; of more rows fewer folds say
# enough.
_FOLDS, _MOST_ROWS_FITTED = 5, 20_000
# Fewer rows that differ than these make no folds.
_FEWEST_DIFFERENT = 4 * _FOLDS
# The share of its correlations that the Gaussian of an interrupted fit does without.
_SAFE_SHARE = 0.05


def fit_flow(x: Array, settings: Settings, tell: Callable[[str], None]) -> Fitted:
    """Fit a flow.

    The start is closed-form: one Gaussian, a joint mixture, kernels or blocks, whichever has the
    highest log density on rows held back. With a family named, that family is trained from blocks,
    and the epoch is taken that rows held back from the training prefer. `auto` goes on, where there
    are rows enough, to train a diagonal flow, and couplings after a quarter of the mixture's
    components or from the blocks, on four fifths of the rows; of three columns or fewer only where
    kernels or blocks are better than every mixture of components. The last fifth chooses the epoch,
    and a trained flow is taken only where it gains there more than the gain's standard error. A
    closed form that wins is fitted to all rows. Up to 25 rows, or as many as a quarter more than
    there are columns, get one Gaussian, whose correlations are shrunk.

    Args:
        x: Standardised rows, shape (n, d); NaN for missing values where the family is `gaussian` or
            `mixture` and d > 1.
        settings: What is asked for.
        tell: Called with lines about what is being done.

    Returns:
        The fit.

    Raises:
        KeyboardInterrupt: Where the user interrupts and `settings.keep_interrupted` is not set.
    """
    so_far = _SoFar()
    try:
        with interrupts.returning():
            return _fit(x, settings, tell, so_far)
    except KeyboardInterrupt:
        if not settings.keep_interrupted:
            raise
        tell("interrupted: keeping the best flow so far")
        return so_far.fit(x, settings)


def best_so_far(trials: Sequence[Trial | MixtureTrial]) -> Trial | MixtureTrial:
    """The best of what has been scored, one Gaussian where that is nothing."""
    scored = [one for one in trials if np.isfinite(one.log_density.mean())]
    # Compared on the rows that all have been scored on.
    n_rows = min((len(one.log_density) for one in scored), default=0)
    gaussian = MixtureTrial(False, MixtureRecipe(1, 1.0, _SAFE_SHARE), np.array([np.nan]))
    return max(scored, key=lambda one: one.log_density[:n_rows].mean(), default=gaussian)


class _SoFar:
    """What an interrupted fit has come to."""

    def __init__(self):
        self.candidates: list[Candidate] = []
        self.closed: list[Trial | MixtureTrial] = []
        self.best: Contender | None = None

    def fit(self, x: Array, settings: Settings) -> Fitted:
        if self.best is not None and self.best.flow is not None:
            history = {**(self.best.history or {}), **interrupts.INTERRUPTED}
            return self.best._replace(history=history).as_fitted(self.candidates)
        best = best_so_far(self.closed)
        if self.best is not None and not isinstance(self.best.start, AfterMixture):
            best = self.best.start
        fitted = fit_closed_form(best, x, settings, self.candidates)
        return fitted._replace(history=dict(interrupts.INTERRUPTED))

    def gaussian(self, n_rows: int) -> Trial | MixtureTrial | None:
        """The best single Gaussian that was scored on so many rows."""
        singles = [
            trial
            for trial in self.closed
            if trial.recipe.n_components == 1
            and not isinstance(trial.recipe, KernelRecipe)
            and not (trial.recipe if isinstance(trial, Trial) else trial).marginals_first
            and len(trial.log_density) == n_rows
            and not (isinstance(trial, Trial) and trial.n_blocks > 1)
        ]
        return max(singles, key=lambda one: one.log_density.mean(), default=None)


def _fit(x: Array, settings: Settings, tell: Callable[[str], None], so_far: _SoFar) -> Fitted:
    folds, candidates = held_back_folds(x, settings.seed), so_far.candidates
    if settings.family == "auto" and settings.n_layers is None and has_few_rows(x, folds):
        settings = settings._replace(family="mixture")
    mixture = _choose_mixture(x, folds, settings, tell, so_far)
    if settings.family in ("gaussian", "mixture") and mixture is not None:
        return fit_closed_form(mixture, x, settings, candidates)
    blocks = _choose_blocks(x, folds, mixture, settings, tell, so_far)
    if settings.family == "auto":
        return _choose_among_all(x, folds[0], mixture, blocks, settings, tell, so_far)
    if settings.family == "rbig" or settings.max_epochs == 0:
        flow, history = start_of(settings.family, grow(x, *blocks[:2]), settings), {}
    else:
        tell(f"training the {settings.family} flow")
        blocks = to_be_trained(blocks, settings.family, x.shape[1], settings)
        flow, history = train(settings.family, blocks, x, settings)
    return Fitted(flow, settings.family, blocks.recipe, blocks.n_blocks, candidates, history)


def _choose_among_all(
    x: Array,
    held: NDArray[np.bool_],
    mixture: MixtureTrial | None,
    blocks: Trial,
    settings: Settings,
    tell: Callable[[str], None],
    so_far: _SoFar,
) -> Fitted:
    closed: Trial | MixtureTrial = blocks
    if mixture is not None and lead(mixture.log_density, blocks.log_density).value >= 0:
        closed = mixture
    gaussian = so_far.gaussian(len(closed.log_density))
    # The best of many tries owes some of its lead to chance.
    if gaussian is not None and not gains(closed.log_density, gaussian.log_density):
        closed = gaussian
    best, candidates = None, so_far.candidates
    for family, start in challengers(x, closed, blocks, mixture, settings):
        if best is None:
            best = so_far.best = closed_form_contender(held, closed)
            mean = Estimate.of_mean(best.score)
            candidates.append(Candidate("on one fifth: the closed form", mean))
        best, candidate = challenge(best, family, start, x, held, settings, tell)
        so_far.best = best
        candidates.append(candidate)
    if best is not None and best.flow is not None:
        return best.as_fitted(candidates)
    return fit_closed_form(closed, x, settings, candidates)


def _choose_mixture(
    x: Array,
    folds: Sequence[NDArray[np.bool_]],
    settings: Settings,
    tell: Callable[[str], None],
    so_far: _SoFar,
) -> MixtureTrial | None:
    if settings.family == "gaussian":
        trial, name = try_gaussians(x, folds), ""
    # Layers cannot be counted in a mixture: who asks for some wants blocks.
    elif settings.family == "mixture" or (
        settings.family == "auto" and x.shape[1] > 1 and settings.n_layers is None
    ):
        trial, name = (
            try_mixtures(
                x,
                folds,
                seed=settings.seed,
                n_components=settings.n_components,
                is_contaminated=settings.is_contaminated,
                tell=tell,
                found=so_far.closed,
            ),
            "closed form, ",
        )
    else:
        return None
    so_far.candidates.append(Candidate(f"{name}{trial}", Estimate.of_mean(trial.log_density)))
    return trial


def held_back_folds(x: Array, seed: int) -> list[NDArray[np.bool_]]:
    """Take a fifth of the rows out at a time: all five of a small table, one of a large one.

    Copies of a row stay together: held back alone they would be found where the others were fitted.

    Args:
        x: Rows, shape (n, d).
        seed: Seed of the folds.

    Returns:
        For each fold a mask of shape (n,).
    """
    n_rows, copies = len(x), _copies(x)
    order = np.random.default_rng([seed, 1]).permutation(copies.max() + 1)
    fold = np.empty(len(order), int)
    fold[order] = np.arange(len(order)) % _FOLDS
    fold = fold[copies]
    n_folds = int(np.clip(_MOST_ROWS_FITTED // n_rows, 1, _FOLDS))
    return [fold == i for i in range(n_folds)]


def _copies(x: Array) -> NDArray[np.intp]:
    """Number the rows, those that are equal alike; all of them where few differ."""
    rows = np.ascontiguousarray(x)
    keys = rows.view(np.dtype((np.void, rows.dtype.itemsize * rows.shape[1]))).ravel()
    found, numbers = np.unique(keys, return_inverse=True)
    return numbers if _FEWEST_DIFFERENT <= len(found) < len(x) else np.arange(len(x))


def _choose_blocks(
    x: Array,
    folds: Sequence[NDArray[np.bool_]],
    mixture: MixtureTrial | None,
    settings: Settings,
    tell: Callable[[str], None],
    so_far: _SoFar,
) -> Trial:
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
        rival=None if mixture is None else mixture.log_density,
        tell=tell,
        found=so_far.closed,
    )
    for trial in trials:
        where = "" if trial.n_folds == len(folds) else "on one fifth: "
        name = f"{where}closed form, {counted(trial.n_blocks, 'block')}, {trial.recipe}"
        so_far.candidates.append(Candidate(name, Estimate.of_mean(trial.log_density)))
    n_rows = min(len(trial.log_density) for trial in trials)
    return max(trials, key=lambda trial: trial.log_density[:n_rows].mean())
