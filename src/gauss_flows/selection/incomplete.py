r"""Rows with missing values: marginalised by the joint mixture, and for other flows with its help.

A mixture's marginals are exact. For another flow p the mixture q proposes the missing values,

$$\log p(x_o) = \log q(x_o) + \log E_{x_m \sim q(\cdot \mid x_o)} \frac{p(x_o, x_m)}{q(x_o, x_m)},$$

so that only what the two differ by has an error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.bijections.actnorm import ActNorm
from gauss_flows.selection.assemble import standardise, standardiser
from gauss_flows.selection.evaluate import draw, log_density
from gauss_flows.selection.fitting import Fitted, Settings, fit_flow
from gauss_flows.selection.interrupts import was_interrupted
from gauss_flows.selection.mixture_recipes import FittedMixture
from gauss_flows.selection.mixtures import try_mixtures

Array = NDArray[np.float64]

# Draws of a row's missing values.
_N_DRAWS = 128
# Rows drawn from a flow to learn its mixture from.
_N_LEARNT = 4_000


def fit_incomplete(x: Array, settings: Settings, tell: Callable[[str], None]) -> Fitted:
    """Fit a flow to rows with missing values, as if these were missing at random.

    Gaussians and joint mixtures are fitted to what is there, by EM. For any other family the
    missing values are drawn once from the best joint mixture given the rest of their row; `auto`
    keeps to mixtures.

    Args:
        x: Standardised rows, shape (n, d); NaN for missing values.
        settings: What is asked for.
        tell: Called with lines about what is being done.

    Returns:
        The fit.
    """
    if x.shape[1] == 1:
        # A row without its only value says nothing.
        return fit_flow(x[~np.isnan(x[:, 0])], settings, tell)
    if settings.family in ("gaussian", "mixture"):
        return fit_flow(x, settings, tell)
    if settings.family == "auto":
        return fit_flow(x, settings._replace(family="mixture"), tell)
    fitted = fit_flow(x, settings._replace(family="mixture", n_components=None), tell)
    mixture = fitted.mixture
    assert mixture is not None
    if was_interrupted(fitted.history):
        return fitted
    tell("drawing the missing values from it")
    completed = mixture.complete(x, np.random.default_rng([settings.seed, 6]))
    return fit_flow(completed, settings, tell)._replace(mixture=mixture)


class Companion(NamedTuple):
    """A joint mixture close to a flow.

    Args:
        units: The standardiser before the mixture.
        mixture: The mixture, in standardised units.
        is_flow: Whether the flow is this mixture.
    """

    units: ActNorm
    mixture: FittedMixture
    is_flow: bool = False

    @classmethod
    def of(cls, flow: Any) -> Companion:
        """Learn a mixture from a flow's own samples."""
        rows = draw(flow, _N_LEARNT, 0)
        units = standardiser(rows)
        x = standardise(units, rows)
        held_back = [np.arange(len(x)) % 5 == 0]
        return cls(units, try_mixtures(x, held_back).fit(x, 0))

    def log_density(self, x: Array) -> Array:
        """Log density of what is there of rows of shape (n, d), in nats."""
        scales = np.where(np.isnan(x), 0.0, np.float64(self.units.log_scale))
        return self.mixture.log_density(standardise(self.units, x)) - scales.sum(1)

    def complete(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw the missing values of rows of shape (n, d) given the others."""
        drawn = self.mixture.complete(standardise(self.units, x), rng)
        loc, log_scale = np.float64(self.units.loc), np.float64(self.units.log_scale)
        return np.where(np.isnan(x), loc + np.exp(log_scale) * drawn, x)


def marginal_log_density(flow: Any, companion: Companion, x: Array) -> Array:
    """Compute the log density of what is there.

    Args:
        flow: The flow.
        companion: Its mixture.
        x: Rows in the flow's units, shape (n, d), NaN for missing values.

    Returns:
        Nats, shape (n,).
    """
    own = companion.log_density(x)
    if companion.is_flow:
        return own
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(_N_DRAWS):
        drawn = companion.complete(x, rng)
        ratios.append(log_density(flow, drawn) - companion.log_density(drawn))
    return own + np.logaddexp.reduce(ratios, axis=0) - np.log(_N_DRAWS)
