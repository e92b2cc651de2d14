r"""A mixture of Gaussians where values of the rows are missing.

With $M = \mathrm{diag}(m)$ for the values that are there, $\Sigma_{oo}$ is the block of

$$A = M \Sigma M + I - M$$

whose other block is the identity, so that all patterns of missing values go through one batched
Cholesky factorisation:

$$\log p(x_o) = \log N(r; 0, \Sigma_{oo}),\quad
E[x_m \mid x_o] = \mu_m + (\Sigma M A^{-1} r)_m,\quad
\mathrm{Cov}[x_m \mid x_o] = (\Sigma - \Sigma M A^{-1} M \Sigma)_{mm},
\qquad r = M(x - \mu).$$
"""

from __future__ import annotations

from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.normal import LOG_SQRT_2PI

Array = NDArray[np.float64]

# Most numbers of a batch of matrices.
_AT_ONCE = 2**22
# Columns whose pattern is told by one number.
_BITS = 32


class _Given(NamedTuple):
    """What is known of rows given what is there, for each component.

    Args:
        log_terms: Log weight plus log density of the values that are there, shape (K, n).
        left: What the rows, their missing values replaced by the conditional means, differ from
            the component's mean by, shape (K, n, d).
        pattern: For each row the number of its pattern, shape (n,).
        covariances: Conditional covariances, zero for what is there, shape (P, K, d, d).
    """

    log_terms: Array
    left: Array
    pattern: NDArray[np.int64]
    covariances: Array


def log_density(log_weights: Array, means: Array, covariances: Array, x: Array) -> Array:
    """Compute the log density of what is there.

    Args:
        log_weights: Logarithms of the components' weights, shape (K,).
        means: Their means, shape (K, d).
        covariances: Their covariances, shape (K, d, d).
        x: Rows of shape (n, d), NaN for missing values.

    Returns:
        Nats, shape (n,); 0 for a row of which nothing is there.
    """
    parts = [
        np.logaddexp.reduce(_given(log_weights, means, covariances, part).log_terms, axis=0)
        for part in _in_parts(x, means.shape)
    ]
    return np.concatenate(parts)


def complete(
    log_weights: Array, means: Array, covariances: Array, x: Array, rng: np.random.Generator
) -> Array:
    """Draw missing values given the others.

    Args:
        log_weights: Logarithms of the components' weights, shape (K,).
        means: Their means, shape (K, d).
        covariances: Their covariances, shape (K, d, d).
        x: Rows of shape (n, d), NaN for missing values.
        rng: Generator of the draws.

    Returns:
        The rows without missing values, shape (n, d).
    """
    parts = []
    for part in _in_parts(x, means.shape):
        given = _given(log_weights, means, covariances, part)
        shares = np.exp(given.log_terms - given.log_terms.max(0))
        cumulated = np.cumsum(shares / shares.sum(0), axis=0)
        # Rounding may leave the last sum below one.
        chosen = (rng.random(len(part)) > cumulated[:-1]).sum(0)
        missing = np.isnan(part)
        roots = _roots(given.covariances)[given.pattern, chosen]
        noise = np.einsum("nij,nj->ni", roots, rng.standard_normal(part.shape))
        drawn = means[chosen] + given.left[chosen, np.arange(len(part))] + noise
        parts.append(np.where(missing, drawn, part))
    return np.concatenate(parts)


def moments(
    log_weights: Array, means: Array, covariances: Array, x: Array
) -> tuple[Array, Array, Array, Array]:
    r"""Compute what a step of EM needs.

    Args:
        log_weights: Logarithms of the components' weights, shape (K,).
        means: Their means, shape (K, d).
        covariances: Their covariances, shape (K, d, d).
        x: Rows of shape (n, d), NaN for missing values.

    Returns:
        Log density of the rows, shape (n,); expected counts, shape (K,), sums, shape (K, d), and
        scatters about the new means, shape (K, d, d).

    References:
        Ghahramani and Jordan, *Supervised Learning from Incomplete Data via an EM Approach* (1994).
    """
    k, d = means.shape
    log_densities, counts, sums = [], np.zeros(k), np.zeros((k, d))
    scatters = np.zeros((k, d, d))
    for part in _in_parts(x, means.shape):
        given = _given(log_weights, means, covariances, part)
        log_densities.append(np.logaddexp.reduce(given.log_terms, axis=0))
        shares = np.exp(given.log_terms - log_densities[-1])
        counts += shares.sum(1)
        weighted = shares[..., None] * given.left
        sums += weighted.sum(1)
        scatters += np.swapaxes(weighted, 1, 2) @ given.left
        by_pattern = np.zeros((len(given.covariances), k))
        np.add.at(by_pattern, given.pattern, shares.T)
        scatters += np.einsum("pk,pkij->kij", by_pattern, given.covariances)
    # From about the old means to about the new ones.
    moved = sums / np.maximum(counts, np.finfo(float).tiny)[:, None]
    scatters -= counts[:, None, None] * moved[:, :, None] * moved[:, None, :]
    return np.concatenate(log_densities), counts, sums + counts[:, None] * means, scatters


def _in_parts(x: Array, shape: tuple[int, int]) -> list[Array]:
    """Rows in the order they came, few enough that every pattern's matrices fit in memory."""
    k, d = shape
    size = max(1, _AT_ONCE // (k * d * d))
    return [x[start : start + size] for start in range(0, max(len(x), 1), size)]


def _given(log_weights: Array, means: Array, covariances: Array, x: Array) -> _Given:
    missing = np.isnan(x)
    patterns, pattern = _patterns(missing)
    there = (~patterns).astype(float)[:, None, :]
    # (P, K, d, d): Σ M, then A = M Σ M + I − M.
    seen = covariances * there[..., None, :]
    both = seen * there[..., None]
    diagonal = np.arange(x.shape[1])
    both[..., diagonal, diagonal] += 1.0 - there
    factors = np.linalg.cholesky(both)
    whiteners = np.linalg.inv(factors)
    regressions = seen @ (np.swapaxes(whiteners, -1, -2) @ whiteners)
    conditional = covariances - regressions @ np.swapaxes(seen, -1, -2)
    gone = 1.0 - there
    conditional *= gone[..., None] * gone[..., None, :]
    log_scales = np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum(-1)

    left = np.where(missing, 0.0, x - means[:, None])
    squares = np.empty(left.shape[:2])
    order = np.argsort(pattern, kind="stable")
    ends = np.searchsorted(pattern[order], np.arange(len(patterns) + 1))
    for p, (start, end) in enumerate(pairwise(ends)):
        rows = order[start:end]
        seen_left = left[:, rows]
        white = seen_left @ np.swapaxes(whiteners[p], 1, 2)
        squares[:, rows] = np.square(white).sum(-1)
        if patterns[p].any():
            guesses = seen_left @ np.swapaxes(regressions[p], 1, 2)
            left[:, rows] = np.where(patterns[p], guesses, seen_left)
    n_there = there[:, 0].sum(-1)
    log_scale = log_scales.T[:, pattern] + LOG_SQRT_2PI * n_there[pattern]
    return _Given(log_weights[:, None] - 0.5 * squares - log_scale, left, pattern, conditional)


def _patterns(missing: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """The different rows, and the number of each row's; faster than NumPy's own for rows."""
    key = np.zeros(len(missing), np.int64)
    first = key[:1]
    for start in range(0, missing.shape[1], _BITS):
        bits = missing[:, start : start + _BITS]
        # The number so far is below the number of rows, so that both fit side by side.
        key = (key << _BITS) + bits @ (1 << np.arange(bits.shape[1]))
        _, first, key = np.unique(key, return_index=True, return_inverse=True)
    return missing[first], key


def _roots(covariances: Array) -> Array:
    """Square roots of covariances that may be singular."""
    values, vectors = np.linalg.eigh(covariances)
    return vectors * np.sqrt(np.maximum(values, 0.0))[..., None, :]
