"""Recipes for joint mixtures and kernel densities, and what comes of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.rbig.blocks import Block, Recipe, next_block, pull, push
from gauss_flows.rbig.clusters import Labels
from gauss_flows.rbig.incomplete import complete
from gauss_flows.rbig.joint_mixture import (
    JointMixture,
    fit_joint_mixture,
    less_correlated,
    of_clusters,
    pooled_moments,
    with_far_rows,
)
from gauss_flows.rbig.kernel_mixture import smoothed

Array = NDArray[np.float64]

# Products that all steps of a fit may take.
_WORK = 1e11
_MOST_STEPS = 200
_FEWEST_STEPS = 10
# Fits from other starts, of which the last one is the mean, and the components of all of them.
_N_STARTS, _MOST_IN_ALL = 10, 600

# Of a column that is constant in the rows fitted, in units near 1.
_LEAST_VARIANCE = 1e-9

MARGINALS = Recipe(marginals_first=True, n_components=None)


class MixtureRecipe(NamedTuple):
    """How a joint mixture is fitted.

    Args:
        n_components: Number of Gaussians.
        strength: How many rows the components' own common covariance counts as, ω of
            `fit_joint_mixture`; one Gaussian has no other.
        diagonal_share: The share of the common covariances' correlations that is taken away.
        floor: How many rows the covariance of all rows counts as, ν there.
    """

    n_components: int
    strength: float
    diagonal_share: float
    floor: float = 1e-4

    def __str__(self) -> str:
        """Return for example `a mixture of 5 Gaussians`."""
        if self.n_components == 1:
            return "one Gaussian"
        return f"a mixture of {self.n_components} Gaussians"

    def n_parameters(self, n_dims: int) -> int:
        """How many numbers say what it is in d dimensions."""
        return self.n_components * (n_dims + 1) * (n_dims + 2) // 2

    def work(self, x: Array) -> float:
        """The products that one step of a fit to rows of shape (n, d) takes."""
        return float(self.n_components * len(x) * x.shape[1] ** 2)

    def fit(
        self,
        x: Array,
        seed: int,
        tolerance: float = 1e-4,
        most_work: float = _WORK,
        clusters: Labels | None = None,
    ) -> JointMixture:
        """Fit it to rows of shape (n, d), in the steps that so many products allow.

        As many clusters as components may have been found in the rows before, shape (n,).
        """
        mean, pooled = pooled_moments(x)
        variances = np.maximum(np.diag(pooled), _LEAST_VARIANCE)
        pooled = less_correlated(pooled, self.diagonal_share)
        np.fill_diagonal(pooled, variances)
        if self.n_components == 1:
            # Not shrunk from the rows' own covariance, which would undo what the share does; and as
            # much narrower as one row's worth, since far rows widen it again.
            covariance = pooled * len(x) / (len(x) + 1.0)
            gaussian = JointMixture(np.zeros(1), mean[None], covariance[None])
            return with_far_rows(gaussian, mean, pooled, len(x))
        mixture = fit_joint_mixture(
            x,
            self.n_components,
            pooled,
            strength=self.floor,
            own_strength=self.strength,
            diagonal_share=self.diagonal_share,
            seed=seed,
            clusters=clusters,
            tolerance=tolerance,
            max_iterations=int(np.clip(most_work / self.work(x), _FEWEST_STEPS, _MOST_STEPS)),
        )
        return with_far_rows(mixture, mean, pooled, len(x))


class KernelRecipe(NamedTuple):
    """How a kernel density is fitted.

    Args:
        n_components: Number of Gaussians that stand for all the kernels.
        bandwidth: The kernel's width, in units of the rows'.
    """

    n_components: int
    bandwidth: float

    def __str__(self) -> str:
        """Return for example `a kernel density of 500 Gaussians`."""
        return f"a kernel density of {self.n_components} Gaussians"

    def fit(self, x: Array, seed: int) -> JointMixture:
        """Fit it to rows of shape (n, d)."""
        return self.smooth(of_clusters(x, self.n_components, seed=seed), x)

    def smooth(self, summary: JointMixture, x: Array) -> JointMixture:
        """Fit it to rows that have been summarised."""
        mean, pooled = pooled_moments(x)
        return with_far_rows(smoothed(summary, self.bandwidth, pooled), mean, pooled, len(x))


class FittedMixture(NamedTuple):
    """A joint mixture, and the block of marginals before it if there is one."""

    block: Block | None
    mixture: JointMixture

    def log_density(self, x: Array) -> Array:
        """Log density of rows of shape (n, d), in nats; of what is there where values are NaN."""
        if self.block is None:
            return self.mixture.log_density(x)
        z, log_det = push(self.block, x)
        return self.mixture.log_density(z) + log_det

    def conditional_log_density(self, x: Array, n_given: int) -> Array:
        """Log density of the last columns given the first, whatever of them is there."""
        if not n_given:
            return self.log_density(x)
        return self.log_density(x) - self.log_density(given_alone(x, n_given))

    def complete(self, x: Array, rng: np.random.Generator) -> Array:
        """Draw the missing values of rows of shape (n, d) given the others."""
        if self.block is None:
            return complete(*self.mixture, x, rng)
        drawn = pull(self.block, complete(*self.mixture, push(self.block, x)[0], rng))
        return np.where(np.isnan(x), drawn, x)


def given_alone(x: Array, n_given: int) -> Array:
    """Take the values of all but the first columns for missing."""
    return np.where(np.arange(x.shape[1]) < n_given, x, np.nan)


class MixtureTrial(NamedTuple):
    """A joint mixture and the log density of rows that it was not fitted to.

    Args:
        marginals_first: Whether every column is Gaussianized before it.
        recipe: The mixture, or the kernel density.
        log_density: Nats of the rows held back, in the order of the folds.
    """

    marginals_first: bool
    recipe: MixtureRecipe | KernelRecipe
    log_density: Array

    def __str__(self) -> str:
        """Return for example `marginals, then one Gaussian`."""
        return f"{'marginals, then ' if self.marginals_first else ''}{self.recipe}"

    def fit(self, x: Array, seed: int) -> FittedMixture:
        """Fit it to rows of shape (n, d), and take the mean of the fits from several starts.

        That is a mixture again, and as likely as its parts are in the mean at least: what a start
        has made too much of is thinned by the others. Fits that are less likely than the best by
        more nats than they have parameters, which is more than chance explains, are left out.
        """
        block, rows = self._before(x)
        if isinstance(self.recipe, KernelRecipe):
            return FittedMixture(block, self.recipe.fit(rows, seed))
        affordable = int(_WORK / _MOST_STEPS / self.recipe.work(x))
        most = min(_N_STARTS, _MOST_IN_ALL // self.recipe.n_components, affordable)
        starts = max(1, most) if self.recipe.n_components > 1 else 1
        fits = [self.recipe.fit(rows, seed + start) for start in range(starts)]
        if starts > 1:
            likelihoods = np.array([fit.log_density(rows).sum() for fit in fits])
            enough = likelihoods.max() - self.recipe.n_parameters(rows.shape[1])
            fits = [fit for fit, found in zip(fits, likelihoods, strict=True) if found >= enough]
        log_weights = np.concatenate([fit.log_weights for fit in fits]) - np.log(len(fits))
        others = (np.concatenate(parts) for parts in list(zip(*fits, strict=True))[1:])
        return FittedMixture(block, JointMixture(log_weights, *others))

    def fit_once(self, x: Array, seed: int) -> FittedMixture:
        """Fit it to rows of shape (n, d) from one start, with no more components than named."""
        block, rows = self._before(x)
        return FittedMixture(block, self.recipe.fit(rows, seed))

    def _before(self, x: Array) -> tuple[Block | None, Array]:
        if not self.marginals_first:
            return None, x
        block = next_block(x, 0, MARGINALS)
        return block, push(block, x)[0]
