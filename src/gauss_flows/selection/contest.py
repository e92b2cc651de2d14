"""Closed form against trained flows, on rows that neither was fitted to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from flowjax.distributions import Transformed
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import grow
from gauss_flows.selection.assemble import build_mixture_flow
from gauss_flows.selection.compare import gains, lead
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.mixture_recipes import MixtureRecipe, MixtureTrial
from gauss_flows.selection.recipes import Trial
from gauss_flows.selection.settings import AfterMixture, Candidate, Fitted, Settings
from gauss_flows.selection.trained import (
    fewer_components,
    n_coupled,
    start_of,
    to_be_trained,
    train,
)
from gauss_flows.selection.words import shown

Array = NDArray[np.float64]

# With fewer rows training has only found what chance put there.
_ROWS_FOR_TRAINING = 300
# The networks of a coupling flow have nothing to learn from fewer rows but those rows.
_ROWS_FOR_NETWORKS = 1_000
# Components fit the smooth densities of so few columns as well as anything trained. Where kernels
# or marginals do better there are edges or tails, which training may follow.
_FEW_COLUMNS = 3
# Nats a column that training does not make up for.
_MOST_LAG = 0.1


class Contender(NamedTuple):
    """A fit without the rows that judge it.

    Attributes:
        family: Its family.
        start: How its start was fitted.
        score: Log density of the rows held back, in nats.
        flow: What was trained; None for a closed form.
        history: Losses of its training.
        has_all_starts: Whether a closed form was fitted from all the starts that it is worth.
    """

    family: str
    start: Trial | MixtureTrial | AfterMixture
    score: Array
    flow: Transformed | None = None
    history: dict[str, Any] | None = None
    has_all_starts: bool = True

    @property
    def name(self) -> str:
        """What it is called among the candidates."""
        after = f" {self.start}" if isinstance(self.start, AfterMixture) else ""
        return f"{self.family}{after}"

    def as_fitted(self, candidates: list[Candidate]) -> Fitted:
        """Take what was trained for the fit."""
        flow, start, history = self.flow, self.start, self.history or {}
        assert flow is not None
        if isinstance(start, Trial):
            return Fitted(flow, self.family, start.recipe, start.n_blocks, candidates, history)
        n_blocks = n_coupled(flow.shape[0]) if isinstance(start, AfterMixture) else 0
        return Fitted(flow, self.family, start, n_blocks, candidates, history)


def fit_closed_form(
    start: Trial | MixtureTrial, x: Array, settings: Settings, candidates: list[Candidate]
) -> Fitted:
    """Fit a closed form to rows of shape (n, d)."""
    if isinstance(start, Trial):
        flow = start_of("rbig", grow(x, start.recipe, start.n_blocks), settings)
        return Fitted(flow, "rbig", start.recipe, start.n_blocks, candidates, {})
    mixture = start.fit(x, settings.seed)
    flow = build_mixture_flow(mixture)
    single = settings.family == "gaussian" or np.isnan(start.log_density).all()
    family = "gaussian" if single else "mixture"
    return Fitted(flow, family, start, int(start.marginals_first), candidates, {}, mixture)


def closed_form_contender(held: NDArray[np.bool_], start: Trial | MixtureTrial) -> Contender:
    """Judge the best closed form on the rows that trained flows are judged on: the first fold.

    A mixture was fitted from one start in the search. That is enough where nothing gains on it.
    """
    is_mixture = isinstance(start, MixtureTrial)
    family = "mixture" if is_mixture else "rbig"
    score = start.log_density[: held.sum()]
    return Contender(family, start, score, has_all_starts=not is_mixture)


def from_all_starts(
    best: Contender, x: Array, held: NDArray[np.bool_], settings: Settings
) -> Contender:
    """Judge a closed form as it would be fitted in the end."""
    if best.has_all_starts or not isinstance(best.start, MixtureTrial):
        return best
    score = best.start.fit(x[~held], settings.seed).log_density(x[held])
    return best._replace(score=score, has_all_starts=True)


def challengers(
    x: Array,
    best: Trial | MixtureTrial,
    blocks: Trial,
    mixture: MixtureTrial | None,
    settings: Settings,
) -> list[tuple[str, Trial | AfterMixture]]:
    """List the families that so many rows can train, and their starts."""
    n_rows, n_dims = x.shape
    if settings.max_epochs == 0 or n_rows < _ROWS_FOR_TRAINING:
        return []
    # With so many components as the user named they may fit badly.
    is_free = settings.n_components is None and settings.max_epochs is None
    if n_dims <= _FEW_COLUMNS and is_free and mixture is not None and _is_smooth(mixture, blocks):
        return []
    found: list[tuple[str, Trial | AfterMixture]] = []
    if lead(best.log_density, blocks.log_density).value < _MOST_LAG * n_dims:
        found.append(("diagonal", to_be_trained(blocks, "diagonal", n_dims, settings)))
    if n_dims > 1 and n_rows >= _ROWS_FOR_NETWORKS:
        family = "mixture-coupling"
        if isinstance(best, MixtureTrial):
            found.insert(0, (family, fewer_components(AfterMixture(best))))
        else:
            found.append((family, to_be_trained(blocks, family, n_dims, settings)))
    return found


def _is_smooth(mixture: MixtureTrial, blocks: Trial) -> bool:
    is_beaten = gains(blocks.log_density, mixture.log_density)
    return isinstance(mixture.recipe, MixtureRecipe) and not is_beaten


def challenge(
    best: Contender,
    family: str,
    start: Trial | AfterMixture,
    x: Array,
    held: NDArray[np.bool_],
    settings: Settings,
    tell: Callable[[str], None],
) -> tuple[Contender, Candidate]:
    """Train a flow without the rows held back, and take it where they gain.

    They choose its epoch too. Its gain is a little too good for that, but what wins has then been
    trained on as many rows as there are, and once.

    Args:
        best: The best so far.
        family: The family to be trained.
        start: How its start is fitted.
        x: Standardised rows, shape (n, d).
        held: The rows that judge, as a mask of shape (n,).
        settings: What is asked for.
        tell: Called with lines about what is being done.

    Returns:
        The better one, which the new one is where the gain exceeds its standard error; and the new
        one's entry among the candidates.
    """
    unjudged = Contender(family, start, np.empty(0))
    tell(f"training a flow on four fifths of the rows: {unjudged.name}")
    options = settings._replace(keep_interrupted=False)
    flow, history = train(family, start, x, options, held)
    score = log_density(flow, x[held])
    if gains(score, best.score):
        best = from_all_starts(best, x, held, settings)
    new = unjudged._replace(flow=flow, history=history, score=score)
    tell(f"{new.name}: gains {shown(lead(score, best.score))} nats")
    candidate = Candidate(f"on one fifth: {new.name}, trained", Estimate.of_mean(score))
    return (new if gains(score, best.score) else best), candidate
