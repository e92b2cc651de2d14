"""Fit a mixture of Gaussians with full covariances, held to the data's own covariance."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.normal import LOG_SQRT_2PI
from gauss_flows.rbig import incomplete
from gauss_flows.rbig.clusters import Labels, clusters_of

Array = NDArray[np.float64]

# Scales of the components that stand for the rows not seen yet, in units of the pooled one.
_FAR_SCALES = (2.0, 6.0)
# How long the moments of incomplete rows are improved.
_MOST_STEPS = 200
_TOLERANCE = 1e-6
# A share of the squares that is far above their rounding; and as many squares as fit into memory.
_DIGITS, _MOST_SQUARES = 1e-10, 4e7
# Rows times components whose densities fit into memory.
_MOST_TERMS = 1e7


class JointMixture(NamedTuple):
    """A mixture of K Gaussians in d dimensions.

    Args:
        log_weights: Logarithms of the weights, shape (K,).
        means: Means, shape (K, d).
        covariances: Covariances, shape (K, d, d).
    """

    log_weights: Array
    means: Array
    covariances: Array

    def log_density(self, x: Array) -> Array:
        """Log-density of rows of shape (n, d), in nats, shape (n,).

        NaN stands for missing values: the density is then that of the others.
        """
        if np.isnan(x).any():
            return incomplete.log_density(*self, x)
        n_parts = math.ceil(len(x) * len(self.means) / _MOST_TERMS)
        parts = np.array_split(x, max(1, n_parts))
        return np.concatenate([_log_sum(_log_terms(self, part)) for part in parts])


def fit_joint_mixture(
    x: Array,
    n_components: int,
    pooled: Array,
    *,
    strength: float = 1.0,
    own_strength: float = 0.0,
    diagonal_share: float = 0.0,
    seed: int = 0,
    clusters: Labels | None = None,
    tolerance: float = 1e-4,
    max_iterations: int = 200,
) -> JointMixture:
    r"""Fit by EM, every covariance shrunk towards that of all rows and that of all components.

    $$S_k = \frac{\sum_i r_{ik} (x_i - \mu_k)(x_i - \mu_k)^\top + \nu S_0 + \omega S_*}
    {n_k + \nu + \omega}, \qquad S_0 = K^{-2/d}\, \Sigma, \qquad
    S_* = \Big(\sum_k w_k S_k\Big) \# \Big(\sum_k w_k S_k^{-1}\Big)^{-1},$$

    the most likely covariance under inverse-Wishart priors that count as ν and ω rows. With the
    first no component can fall onto a point: K components that share a volume between them have
    each $K^{-1/d}$ of its width. The second, # the geometric mean, lends components of few rows
    the shape that the others have, which may be far narrower than the whole in some direction. The
    start is k-means.

    Where values are missing (at random), the likelihood is that of the others.

    Args:
        x: Rows of shape (n, d), in units near 1; NaN for missing values.
        n_components: K.
        pooled: The covariance Σ of all rows, positive definite, shape (d, d).
        strength: ν.
        own_strength: ω.
        diagonal_share: The share of its correlations that S_* loses.
        seed: Seed of k-means.
        clusters: What `clusters_of` found in complete rows, where it has been asked.
        tolerance: The climb ends when a step changes no more nats a row.
        max_iterations: Most steps.

    Returns:
        The mixture.

    References:
        Fraley and Raftery, *Bayesian Regularization for Normal Mixture Estimation and Model-Based
        Clustering* (2007). Friedman, *Regularized Discriminant Analysis* (1989), for the
        components' own. Ghahramani and Jordan, *Supervised Learning from Incomplete Data via an EM
        Approach* (1994), for missing values.
    """
    n, d = x.shape
    narrow = n_components ** (-2.0 / d) * pooled
    total = strength + own_strength
    is_incomplete = bool(np.isnan(x).any())
    start = x
    if is_incomplete:
        mean = pooled_moments(x)[0]
        start = incomplete.complete(
            np.zeros(1), mean[None], pooled[None], x, np.random.default_rng([seed, 5])
        )
    step = partial(_incomplete_step, x) if is_incomplete else _step_for(x)
    if clusters is None:
        clusters = clusters_of(start, n_components, seed=seed)
    mixture = _maximise(start, np.eye(n_components)[clusters], total * narrow, total)
    last = -np.inf
    for _ in range(max_iterations):
        prior = strength * narrow
        if own_strength:
            prior = prior + own_strength * less_correlated(_in_common(mixture), diagonal_share)
        log_density, better = step(mixture, prior, total)
        reached = log_density.mean() + _log_prior(mixture, prior, total) / n
        if abs(reached - last) < tolerance:
            break
        last, mixture = reached, better
    return mixture


def less_correlated(covariance: Array, share: float) -> Array:
    """Take a share of its correlations from a covariance of shape (d, d)."""
    return covariance - share * (covariance - np.diag(np.diag(covariance)))


def of_clusters(x: Array, n_components: int, *, seed: int = 0) -> JointMixture:
    """Summarise rows by the weight, mean and covariance of each of K clusters.

    Args:
        x: Rows of shape (n, d), in units near 1.
        n_components: K; there are fewer where fewer rows are distinct.
        seed: Seed of k-means.

    Returns:
        The summary: a mixture but for its covariances, which may be singular.
    """
    _, labels, counts = np.unique(
        clusters_of(x, n_components, seed=seed), return_inverse=True, return_counts=True
    )

    def mean(values: Array) -> Array:
        return np.bincount(labels, values, len(counts)) / counts

    means = np.column_stack([mean(column) for column in x.T])
    left = x - means[labels]
    first, second = np.triu_indices(x.shape[1])
    covariances = np.empty((len(counts), x.shape[1], x.shape[1]))
    for i, j in zip(first, second, strict=True):
        covariances[:, i, j] = covariances[:, j, i] = mean(left[:, i] * left[:, j])
    return JointMixture(np.log(counts / len(x)), means, covariances)


def pooled_moments(x: Array) -> tuple[Array, Array]:
    """Compute the mean and covariance of rows.

    Where values are missing they are the most likely ones of a Gaussian, one row's worth of
    uncorrelated columns added: pairs of columns that are never there together have no covariance
    of their own.

    Args:
        x: Rows of shape (n, d); NaN for missing values.

    Returns:
        The mean, shape (d,), and the covariance, shape (d, d).
    """
    if not np.isnan(x).any():
        return x.mean(0), np.atleast_2d(np.cov(x.T))
    mean, variance = np.nanmean(x, axis=0), np.nanvar(x, axis=0)
    prior = np.diag(np.maximum(variance, np.finfo(float).tiny))
    gaussian = JointMixture(np.zeros(1), mean[None], prior[None])
    last = -np.inf
    for _ in range(_MOST_STEPS):
        log_density, gaussian = _incomplete_step(x, gaussian, prior, 1.0)
        if log_density.mean() - last < _TOLERANCE:
            break
        last = log_density.mean()
    return gaussian.means[0], gaussian.covariances[0]


def with_far_rows(mixture: JointMixture, mean: Array, pooled: Array, n_rows: int) -> JointMixture:
    """Give one row in n + 1 to wide components around the whole.

    One more row would lie beyond all n with about that probability, where the narrow tails of
    fitted components would call it impossible.

    Args:
        mixture: The mixture.
        mean: The mean of the rows it was fitted to, shape (d,).
        pooled: Their covariance, shape (d, d).
        n_rows: Their number n.

    Returns:
        The mixture with two more components.
    """
    share = 1.0 / (n_rows + 1.0)
    n_far = len(_FAR_SCALES)
    return JointMixture(
        np.append(mixture.log_weights + np.log1p(-share), np.full(n_far, np.log(share / n_far))),
        np.concatenate([mixture.means, np.tile(mean, (n_far, 1))]),
        np.concatenate([mixture.covariances, [scale**2 * pooled for scale in _FAR_SCALES]]),
    )


def _step_for(x: Array) -> Callable[[JointMixture, Array, float], tuple[Array, JointMixture]]:
    """One step of EM for rows of shape (n, d): their log density, and the mixture after it."""
    fits = 0.5 * x.size * x.shape[1] < _MOST_SQUARES
    monomials = _monomials(x) if fits else None
    # A variance is a difference of squares, which must not lose its digits.
    most_precise = 1.0 / (_DIGITS * np.square(x).max())

    def step(mixture: JointMixture, prior: Array, strength: float) -> tuple[Array, JointMixture]:
        precisions = np.asarray(np.linalg.inv(mixture.covariances), np.float64)
        has_digits = np.trace(precisions, axis1=1, axis2=2).max() < most_precise
        # Components first: sums over a short last axis are slow.
        if monomials is not None and has_digits:
            terms = _coefficients(mixture, precisions) @ monomials
        else:
            terms = _log_terms(mixture, x).T
        top = terms.max(0)
        shares = np.exp(np.subtract(terms, top, out=terms), out=terms)
        total = shares.sum(0)
        shares /= total
        log_density = top + np.log(total)
        if monomials is not None and has_digits:
            return log_density, _of_moments(shares @ monomials.T, prior, strength)
        return log_density, _maximise(x, shares.T, prior, strength)

    return step


def _monomials(x: Array) -> Array:
    """1, every coordinate, every product of two, shape (M, n): all that a Gaussian asks of a row.

    With them the densities of all components, and all their moments, are one matrix product.
    """
    first, second = np.triu_indices(x.shape[1])
    return np.vstack([np.ones(len(x)), x.T, (x[:, first] * x[:, second]).T])


def _coefficients(mixture: JointMixture, precisions: Array) -> Array:
    """What makes of monomials each component's log density, weight included, shape (K, M)."""
    log_weights, means, covariances = mixture
    d = means.shape[1]
    first, second = np.triu_indices(d)
    pulls = np.einsum("kij,kj->ki", precisions, means)
    constants = (
        log_weights
        - 0.5 * (pulls * means).sum(1)
        - 0.5 * np.linalg.slogdet(covariances)[1]
        - d * LOG_SQRT_2PI
    )
    products = -precisions[:, first, second] * np.where(first == second, 0.5, 1.0)
    return np.asarray(np.column_stack([constants, pulls, products]), np.float64)


def _of_moments(moments: Array, prior: Array, strength: float) -> JointMixture:
    """The mixture of components whose shares of the monomials add up to these, shape (K, M)."""
    d = len(prior)
    first, second = np.triu_indices(d)
    counts = moments[:, 0]
    shared = np.maximum(counts, np.finfo(float).tiny)
    means = moments[:, 1 : d + 1] / shared[:, None]
    scatters = np.empty((len(counts), d, d))
    central = moments[:, d + 1 :] - counts[:, None] * means[:, first] * means[:, second]
    scatters[:, first, second] = scatters[:, second, first] = central
    covariances = (scatters + prior) / (counts + strength)[:, None, None]
    return JointMixture(np.log(shared / shared.sum()), means, covariances)


def _incomplete_step(
    x: Array, mixture: JointMixture, prior: Array, strength: float
) -> tuple[Array, JointMixture]:
    log_density, counts, sums, scatters = incomplete.moments(*mixture, x)
    shared = np.maximum(counts, np.finfo(float).tiny)
    covariances = (scatters + prior) / (counts + strength)[:, None, None]
    means = sums / shared[:, None]
    return log_density, JointMixture(np.log(shared / shared.sum()), means, covariances)


def _maximise(x: Array, responsibilities: Array, prior: Array, strength: float) -> JointMixture:
    counts = responsibilities.sum(0)
    shared = np.maximum(counts, np.finfo(float).tiny)
    means = responsibilities.T @ x / shared[:, None]
    covariances = np.empty((len(counts), *prior.shape))
    for k, mean in enumerate(means):
        left = x - mean
        scatter = (responsibilities[:, k, None] * left).T @ left
        covariances[k] = (scatter + prior) / (counts[k] + strength)
    return JointMixture(np.log(shared / shared.sum()), means, covariances)


def _log_terms(mixture: JointMixture, x: Array) -> Array:
    terms = np.empty((len(x), len(mixture.means)))
    factors = np.linalg.cholesky(mixture.covariances)
    whiteners = np.linalg.inv(factors)
    log_scales = np.log(np.diagonal(factors, axis1=1, axis2=2)).sum(1)
    for k, (mean, whitener) in enumerate(zip(mixture.means, whiteners, strict=True)):
        terms[:, k] = -0.5 * np.square((x - mean) @ whitener.T).sum(1)
    return terms + mixture.log_weights - log_scales - x.shape[1] * LOG_SQRT_2PI


def _log_sum(terms: Array) -> Array:
    most = terms.max(1)
    return most + np.log(np.exp(terms - most[:, None]).sum(1))


def _in_common(mixture: JointMixture) -> Array:
    """The geometric mean of the mean covariance and the inverse of the mean precision.

    The first alone has the width of the widest, the second that of the narrowest.
    """
    weights = np.exp(mixture.log_weights)[:, None, None]
    factor = np.linalg.cholesky((weights * mixture.covariances).sum(0))
    precision = (weights * np.linalg.inv(mixture.covariances)).sum(0)
    squares, axes = np.linalg.eigh(factor.T @ precision @ factor)
    axes = factor @ axes
    return (axes / np.sqrt(squares)) @ axes.T


def _log_prior(mixture: JointMixture, prior: Array, strength: float) -> float:
    """The prior's logarithm up to a constant: what the steps climb beside the likelihood."""
    _, log_determinants = np.linalg.slogdet(mixture.covariances)
    traces = np.trace(np.linalg.solve(mixture.covariances, prior), axis1=1, axis2=2)
    fitting = np.linalg.slogdet(prior)[1]
    return -0.5 * float(np.sum(strength * (log_determinants - fitting) + traces))
