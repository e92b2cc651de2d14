"""Joint mixtures, of the rows or of their Gaussianized marginals, compared on rows held back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import next_block, push
from gauss_flows.rbig.clusters import Labels, clusters_of
from gauss_flows.rbig.joint_mixture import JointMixture, of_clusters
from gauss_flows.selection.compare import gains, is_clearly_behind
from gauss_flows.selection.mixture_recipes import (
    MARGINALS,
    FittedMixture,
    KernelRecipe,
    MixtureRecipe,
    MixtureTrial,
    given_alone,
)
from gauss_flows.selection.words import counted

Array = NDArray[np.float64]
Masks = Sequence[NDArray[np.bool_]]

_NUMBERS = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 233)
_FIRST_NUMBER = 5
# Numbers that the ladder goes on for after the best.
_PATIENCE = 2
_ROUNDS = 2
_FEWEST_ROWS_A_COMPONENT = 5
_DIAGONAL_SHARES = (0.0, 0.05, 0.2, 0.5)
# Rows that the whole counts as: so few that narrow components stay as narrow as they are, or enough
# to smooth, which comes first where components are to tile a shape of few columns.
_FLOORS = (1e-4, 1.0)
# One Gaussian is fitted at once, so that it can try more of them.
_SHARES_OF_ONE = (0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.35, 0.5, 1.0)
# Where a covariance is singular some share must be taken, and perhaps all of it.
_SHARES_OF_FEW_ROWS = (0.05, 0.2, 0.5, 1.0)
# More rows than these tell the number of components no better.
_MOST_ROWS = 20_000
_SEARCH_TOLERANCE = 1e-3
# In so small a table every strength goes with every share, and every number with both orders.
_FEW_VALUES = 20_000
# Products that all steps of a fit may take in the search.
_SEARCH_WORK = 2e9
# So few have no correlations to lose, and rows enough around each for a kernel density.
_FEW_COLUMNS = 3
# Among so few rows there is no choosing but by chance.
_FEW_ROWS = 20
# Gaussians that stand for all kernels, and the kernels' widths.
_FEWEST_KERNELS, _MOST_KERNELS = 50, 500
_BANDWIDTHS = (0.4, 0.25, 0.16, 0.1, 0.064, 0.04, 0.025, 0.016)
_BETWEEN = 1.25


def try_mixtures(
    x: Array,
    held_back: Masks,
    *,
    seed: int = 0,
    n_components: int | None = None,
    n_given: int = 0,
    is_contaminated: bool = False,
    tell: Callable[[str], None] = lambda _: None,
    found: list[Any] | None = None,
) -> MixtureTrial:
    """Find the joint mixture with the highest log density on rows held back from it.

    With and without Gaussianized marginals: how much the common covariance counts, and how far it
    loses its correlations, is settled with a few components, then their number, then both, twice
    over. Of three columns or fewer kernel densities are tried too, from wide to narrow. Where rows
    are few, or hardly more than their columns, there is one Gaussian only, of the marginals' normal
    scores where these gain more than the gain's standard error. What is clearly behind after some
    of the folds is not fitted to the others.

    Args:
        x: Rows of shape (n, d), in units near 1.
        held_back: One mask of shape (n,) for each fold.
        seed: Seed of the fits.
        n_components: The number of components where it is not to be chosen.
        n_given: The first so many columns are given: the density compared is that of the others.
        is_contaminated: Whether outliers are among the rows, as in `Settings`.
        tell: Called with a line about the choice.
        found: A list that every trial scored in all folds is appended to at once.

    Returns:
        The best trial, scored on all the rows held back.
    """
    search = _Search(x, held_back, seed, n_given, found=found)
    if is_contaminated:
        search.floors = _FLOORS[1:]
    if search.has_few_rows and n_components is None:
        as_it_is, after_marginals = search.single(False), search.single(True)
        is_better = gains(after_marginals.log_density, as_it_is.log_density)
        return after_marginals if is_better else as_it_is
    tried = []
    first_number = n_components or min(_FIRST_NUMBER, search.most)
    settled = [search.settle(first, first_number) for first in (False, True)]
    for best in settled if search.is_small else [search.best(settled)]:
        first = best.marginals_first
        if n_components is None:
            for _ in range(_ROUNDS):
                best = search.climb(best)
                best = search.settle(first, best.recipe.n_components, best)
            tried.append(search.single(first))
        tried.append(best)
    if n_components is None and search.suits_kernels:
        tried += [search.narrow(first) for first in (False, True)]
    best = search.best(tried)
    if search.is_part:
        whole = _Search(x, held_back, seed, n_given, most_rows=len(x))
        best = whole.tried(best.marginals_first, best.recipe)
    mean = Estimate.of_mean(best.log_density).value
    tell(f"{best}: {mean:.3f} nats on rows held back in {counted(len(held_back), 'fold')}")
    return best


def try_gaussians(x: Array, held_back: Masks, *, n_given: int = 0) -> MixtureTrial:
    """Find how far one Gaussian should lose its correlations, on rows held back from it.

    Args:
        x: Rows of shape (n, d), in units near 1.
        held_back: One mask of shape (n,) for each fold.
        n_given: The first so many columns are given, as above.

    Returns:
        The best trial.
    """
    search = _Search(x, held_back, 0, n_given, most_rows=len(x))
    return search.single(False)


def has_few_rows(x: Array, held_back: Masks) -> bool:
    """Say whether the rows left in some fold are too few to span their columns, or to say more.

    Args:
        x: Rows of shape (n, d).
        held_back: One mask of shape (n,) for each fold.
    """
    return min(int((~held).sum()) for held in held_back) <= max(x.shape[1], _FEW_ROWS)


def _spans_too_little(x: Array, held_back: Masks) -> bool:
    """Say whether the rows left in some fold have a singular covariance."""
    if np.isnan(x).any():
        return False  # moments of incomplete rows never have
    covariances = (np.atleast_2d(np.cov(x[~held].T)) for held in held_back)
    return any(np.linalg.matrix_rank(one, hermitian=True) < x.shape[1] for one in covariances)


class _Search:
    """The rows of every fold, as they are and with Gaussianized marginals."""

    def __init__(
        self,
        x: Array,
        held_back: Masks,
        seed: int,
        n_given: int = 0,
        *,
        most_rows: int = _MOST_ROWS,
        found: list[Any] | None = None,
    ):
        self.is_part = len(x) > most_rows
        if self.is_part:
            rows = np.random.default_rng([seed, 2]).permutation(len(x))[:most_rows]
            x, held_back = x[rows], [held[rows] for held in held_back]
        self._x, self._held_back, self._seed, self._n_given = x, held_back, seed, n_given
        n_fitted, d = min(int((~held).sum()) for held in held_back), x.shape[1]
        self.most = max(1, n_fitted // _FEWEST_ROWS_A_COMPONENT)
        self.strengths = [1.0, 4.0, 16.0] if d <= _FEW_COLUMNS else [1.0, 0.5 * d, 2.0 * d]
        self.shares = (0.0,) if d <= _FEW_COLUMNS else _DIAGONAL_SHARES
        self.floors = _FLOORS[::-1] if d <= _FEW_COLUMNS else _FLOORS
        is_whole = not np.isnan(x).any()
        self.suits_kernels = is_whole and d <= _FEW_COLUMNS and self.most >= _FEWEST_KERNELS
        self._shares_of_one = (0.0,) if d <= _FEW_COLUMNS else _SHARES_OF_ONE
        self.has_few_rows = has_few_rows(x, held_back)
        if _spans_too_little(x, held_back):
            self.shares, self.suits_kernels = _SHARES_OF_FEW_ROWS, False
            self._shares_of_one = _SHARES_OF_ONE[1:]
        self.is_small = x.size <= _FEW_VALUES
        self._found = [] if found is None else found
        self.tried = cache(self._tried)
        self._fold_score = cache(self._scored)
        self._fold_rows = cache(self._rows)
        self._summary = cache(self._summarised)
        # The same start for every strength and share.
        self._clusters = cache(self._clustered)

    @staticmethod
    def best(trials: Iterable[MixtureTrial]) -> MixtureTrial:
        """The trial of the highest mean."""
        return max(trials, key=lambda trial: trial.log_density.mean())

    def better(
        self, best: MixtureTrial | None, marginals_first: bool, recipe: MixtureRecipe | KernelRecipe
    ) -> MixtureTrial:
        """The best so far, or the new one where its mean is higher in all the folds."""
        if best is None:
            return self.tried(marginals_first, recipe)
        scores = []
        for fold in range(len(self._held_back)):
            scores.append(self._fold_score(fold, marginals_first, recipe))
            if is_clearly_behind(np.concatenate(scores), best.log_density):
                return best
        return self.best([best, self.tried(marginals_first, recipe)])

    def single(self, marginals_first: bool) -> MixtureTrial:
        """One Gaussian of the best share."""
        best = None
        for share in self._shares_of_one:
            recipe = MixtureRecipe(1, self.strengths[0], share)
            best = self.better(best, marginals_first, recipe)
        assert best is not None
        return best

    def settle(
        self, marginals_first: bool, n_components: int, best: MixtureTrial | None = None
    ) -> MixtureTrial:
        """The best strength, share and floor for so many Gaussians, one after the other.

        In a small table every strength goes with every share.
        """
        shares = self.shares if self.is_small else self.shares[:1]
        settled = best.recipe if best else None
        floor = settled.floor if isinstance(settled, MixtureRecipe) else self.floors[0]
        for strength in self.strengths:
            for share in shares:
                recipe = MixtureRecipe(n_components, strength, share, floor)
                best = self.better(best, marginals_first, recipe)
        assert best is not None
        for share in self.shares[len(shares) :]:
            recipe = best.recipe._replace(diagonal_share=share)
            best = self.better(best, marginals_first, recipe)
        for floor in self.floors:
            recipe = best.recipe._replace(floor=floor)
            best = self.better(best, marginals_first, recipe)
        return best

    def climb(self, best: MixtureTrial) -> MixtureTrial:
        """Try other numbers of components until they no longer help."""
        since = 0
        for number in _NUMBERS:
            if number == 1 or number > self.most:
                continue
            recipe = best.recipe._replace(n_components=number)
            chosen = self.better(best, best.marginals_first, recipe)
            since = 0 if chosen is not best else since + (number > best.recipe.n_components)
            best = chosen
            if since == _PATIENCE:
                break
        return best

    def narrow(self, marginals_first: bool) -> MixtureTrial:
        """The kernel density of the best width: narrower as long as that helps, then between."""
        number = min(_MOST_KERNELS, self.most)
        best = None
        for width in _BANDWIDTHS:
            chosen = self.better(best, marginals_first, KernelRecipe(number, width))
            if chosen is best:
                break
            best = chosen
        assert best is not None
        assert isinstance(best.recipe, KernelRecipe)
        width = best.recipe.bandwidth
        for between in (width * _BETWEEN, width / _BETWEEN):
            best = self.better(best, marginals_first, KernelRecipe(number, between))
        return best

    def _tried(self, marginals_first: bool, recipe: MixtureRecipe | KernelRecipe) -> MixtureTrial:
        folds = range(len(self._held_back))
        scores = [self._fold_score(fold, marginals_first, recipe) for fold in folds]
        trial = MixtureTrial(marginals_first, recipe, np.concatenate(scores))
        self._found.append(trial)
        return trial

    def _scored(
        self, fold: int, marginals_first: bool, recipe: MixtureRecipe | KernelRecipe
    ) -> Array:
        held = self._held_back[fold]
        rows, log_det = self._fold_rows(fold, marginals_first)
        if isinstance(recipe, KernelRecipe):
            summary = self._summary(fold, marginals_first, recipe.n_components)
            mixture = recipe.smooth(summary, rows[~held])
        else:
            clusters = self._clusters(fold, marginals_first, recipe.n_components)
            limits = (_SEARCH_TOLERANCE, _SEARCH_WORK)
            mixture = recipe.fit(rows[~held], self._seed, *limits, clusters)
        fitted = FittedMixture(None, mixture)
        density = fitted.conditional_log_density(rows[held], self._n_given)
        return density + log_det[held]

    def _clustered(self, fold: int, marginals_first: bool, n_components: int) -> Labels | None:
        rows = self._fold_rows(fold, marginals_first)[0][~self._held_back[fold]]
        if np.isnan(rows).any():
            return None
        return clusters_of(rows, n_components, seed=self._seed)

    def _summarised(self, fold: int, marginals_first: bool, n_components: int) -> JointMixture:
        rows = self._fold_rows(fold, marginals_first)[0][~self._held_back[fold]]
        return of_clusters(rows, n_components, seed=self._seed)

    def _rows(self, fold: int, marginals_first: bool) -> tuple[Array, Array]:
        if not marginals_first:
            return self._x, np.zeros(len(self._x))
        block = next_block(self._x[~self._held_back[fold]], 0, MARGINALS)
        rows, log_det = push(block, self._x)
        if self._n_given:
            log_det = log_det - push(block, given_alone(self._x, self._n_given))[1]
        return rows, log_det
