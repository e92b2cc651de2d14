"""Choosing and fitting p(x | y)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.random as jr
import numpy as np
from flowjax.bijections import AbstractBijection, Chain, EmbedCondition, Invert
from flowjax.distributions import Transformed
from jaxtyping import Array as JaxArray
from numpy.typing import NDArray

from gauss_flows.bijections.actnorm import ActNorm
from gauss_flows.bijections.mixture_rosenblatt import MixtureRosenblatt
from gauss_flows.flows.assemble import standard_normal
from gauss_flows.flows.coupling import (
    affine_coupling_flow,
    coupling_gaussianization_flow,
    mixture_coupling_flow,
)
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import Marginals
from gauss_flows.selection import interrupts
from gauss_flows.selection.assemble import layers_of, marginal_layer
from gauss_flows.selection.compare import gains
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.fitting import best_so_far, held_back_folds
from gauss_flows.selection.mixture_recipes import FittedMixture, MixtureTrial
from gauss_flows.selection.mixtures import try_gaussians, try_mixtures
from gauss_flows.selection.settings import Candidate, Fitted, Settings
from gauss_flows.selection.trained import climb
from gauss_flows.selection.words import shown

Array = NDArray[np.float64]

# A network is trained beside the mixture from so many rows on.
_ROWS_FOR_NETWORKS = 1_000
_MAKERS = {
    "mixture-coupling": mixture_coupling_flow,
    "spline-coupling": coupling_gaussianization_flow,
    "affine-coupling": affine_coupling_flow,
}
CONDITIONAL_FAMILIES = ("auto", "gaussian", "mixture", *_MAKERS)


class Through(eqx.Module):
    """Push a condition through a layer, as `EmbedCondition` wants it; bound methods do not pickle.

    Args:
        layer: The layer.
    """

    layer: AbstractBijection

    def __call__(self, condition: JaxArray) -> JaxArray:
        """Return the condition behind the layer."""
        return self.layer.transform(condition)


def fit_conditional(x: Array, y: Array, settings: Settings, tell: Callable[[str], None]) -> Fitted:
    """Fit a flow of x given y.

    Gaussians and mixtures are fitted to (y, x) jointly, chosen by the log density of x given y on
    rows held back; conditional flows are trained on it. `auto` takes the mixture, or a spline
    coupling flow of four fifths of the rows where the last fifth, which also chooses its epoch,
    gains more than the gain's standard error.

    Args:
        x: Standardised rows, shape (n, d); NaN for missing values.
        y: What they are given, standardised, shape (n, c); NaN for missing values.
        settings: What is asked for; the family is one of `CONDITIONAL_FAMILIES`.
        tell: Called with lines about what is being done.

    Returns:
        The fit; its mixture is that of (y, x).

    Raises:
        KeyboardInterrupt: Where the user interrupts and `settings.keep_interrupted` is not set.
    """
    found: list[Any] = []
    try:
        with interrupts.returning():
            return _fit(x, y, settings, tell, found)
    except KeyboardInterrupt:
        if not settings.keep_interrupted:
            raise
        tell("interrupted: keeping the best so far")
        trial = best_so_far(found)
        assert isinstance(trial, MixtureTrial)
        mixture = trial.fit(np.column_stack([y, x]), settings.seed)
        flow = conditional_mixture_flow(mixture, y.shape[1])
        candidate = Candidate(f"closed form, {trial}", Estimate.of_mean(trial.log_density))
        family = "gaussian" if settings.family == "gaussian" else "mixture"
        history = dict(interrupts.INTERRUPTED)
        return Fitted(flow, family, trial, 0, [candidate], history, mixture)


def _fit(
    x: Array, y: Array, settings: Settings, tell: Callable[[str], None], found: list[Any]
) -> Fitted:
    joint, n_given = np.column_stack([y, x]), y.shape[1]
    folds = held_back_folds(joint, settings.seed)
    family = settings.family
    if family == "gaussian":
        trial = try_gaussians(joint, folds, n_given=n_given)
    else:
        n_components = settings.n_components if family in ("auto", "mixture") else None
        trial = try_mixtures(
            joint,
            folds,
            seed=settings.seed,
            n_components=n_components,
            n_given=n_given,
            tell=tell,
            found=found,
        )
    candidates = [Candidate(f"closed form, {trial}", Estimate.of_mean(trial.log_density))]
    mixture = trial.fit(joint, settings.seed)
    flow = conditional_mixture_flow(mixture, n_given)
    history = {}
    complete = ~np.isnan(joint).any(1)
    if family == "auto":
        family = "mixture"
        if settings.max_epochs != 0 and complete.sum() >= _ROWS_FOR_NETWORKS:
            held = folds[0] & complete
            tell("training a spline-coupling flow on four fifths of the rows")
            trained, losses = _train(
                "spline-coupling",
                x[complete],
                y[complete],
                settings._replace(keep_interrupted=False),
                held[complete],
            )
            theirs = log_density(trained, x[held], y[held])
            fitted = trial.fit(joint[~folds[0]], settings.seed)
            ours = fitted.conditional_log_density(joint[held], n_given)
            tell(f"spline-coupling: gains {shown(Estimate.of_mean(theirs - ours))} nats")
            candidates.append(Candidate("on one fifth: the mixture", Estimate.of_mean(ours)))
            name = "on one fifth: spline-coupling, trained"
            candidates.append(Candidate(name, Estimate.of_mean(theirs)))
            if gains(theirs, ours):
                family, flow, history = "spline-coupling", trained, losses
    elif family in _MAKERS:
        tell(f"training the {family} flow")
        flow, history = _train(family, x[complete], y[complete], settings)
    return Fitted(flow, family, trial, 0, candidates, history, mixture)


def conditional_mixture_flow(fitted: FittedMixture, n_given: int) -> Transformed:
    """Build the flow of the last columns given the first.

    Args:
        fitted: The mixture of all of them.
        n_given: How many are given.

    Returns:
        The flow, conditional on vectors of shape (n_given,).
    """
    layer: AbstractBijection = MixtureRosenblatt.from_mixture(*fitted.mixture, cond_dim=n_given)
    n_dims = layer.shape[0]
    if fitted.block is not None:
        marginals = fitted.block.marginals
        given = marginal_layer(Marginals(*(part[:n_given] for part in marginals)))
        own = marginal_layer(Marginals(*(part[n_given:] for part in marginals)))
        # The mixture is one of the condition's normal scores.
        layer = Chain([own, EmbedCondition(layer, Through(given), (n_given,))])
    return Transformed(standard_normal(n_dims), Invert(Chain([layer])))


def with_standardisers(units: ActNorm, flow: Transformed, n_given: int) -> Transformed:
    """Return a conditional flow in the table's units from one in standardised units.

    Args:
        units: The standardiser of (y, x).
        flow: A conditional flow whose bijection is an inverted chain.
        n_given: The width of y.

    Returns:
        The flow; its density includes the standardiser's Jacobian.
    """
    given, own = _part(units, slice(None, n_given)), _part(units, slice(n_given, None))
    layers = EmbedCondition(layers_of(flow), Through(given), (n_given,))
    return Transformed(standard_normal(flow.shape[0]), Invert(Chain([own, layers])))


def _part(units: ActNorm, columns: slice) -> ActNorm:
    loc, log_scale = units.loc[columns], units.log_scale[columns]
    return eqx.tree_at(
        lambda one: (one.loc, one.log_scale), ActNorm(loc.shape[0]), (loc, log_scale)
    )


def _train(
    family: str, x: Array, y: Array, settings: Settings, held: NDArray[np.bool_] | None = None
) -> tuple[Transformed, dict[str, Any]]:
    sizes = {"n_dims": x.shape[1], "n_layers": settings.n_layers or 4, "cond_dim": y.shape[1]}
    if family == "mixture-coupling" and settings.n_components is not None:
        sizes["n_components"] = settings.n_components
    start = _MAKERS[family](jr.key(settings.seed), **sizes)
    return climb(start, x, settings, condition=y, held=held)
