"""Bands that a whole sample from the truth stays in, at all levels and coordinates together."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import betainc, betaincc, betainccinv, betaincinv, ndtr
from scipy.stats import binom

_DRAWS = 20_000
# Normal scores at which a beta distribution is tabulated: the truth never goes farther out.
_SCORES = np.linspace(-7.5, 7.5, 301)


class Band(NamedTuple):
    """A band for a sample of uniform values.

    Args:
        low: Least share below each point, or least value of each rank, shape (k,).
        high: Greatest share or value, shape (k,).
        p_value: Of each coordinate: how often the truth's own worst point is as unlikely as the
            worst of this one, shape (d,).
    """

    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    p_value: Float[np.ndarray, " d"]


def share_band(
    shares: Float[np.ndarray, "k d"],
    points: Float[np.ndarray, " k"],
    n_rows: int,
    *,
    level: float = 0.95,
) -> Band:
    r"""The band of equal local levels for an empirical distribution function.

    At each point p the count below it is Binomial(n, p). The band takes the same tail probability
    γ on either side at every point, the largest γ for which all points of all d coordinates stay
    inside with the wanted probability. γ is found from 20 000 simulated samples of the counts,
    which are multinomial, and so are the p-values, down to 1/20 001.

    Args:
        shares: Share of values at or below each point, for each coordinate, shape (k, d).
        points: The points in (0, 1), ascending, shape (k,).
        n_rows: Number of values in each coordinate.
        level: Probability with which a sample from the truth stays inside everywhere.

    Returns:
        The band.

    References:
        Aldor-Noiman, Brown, Buja, Rolke and Stine, *The Power to See: A New Graphical Test of
        Normality* (2013). Säilynoja, Bürkner and Vehtari, *Graphical Test for Discrete Uniformity
        and its Applications in Goodness-of-Fit Evaluation and Multiple Sample Comparison* (2022).
    """
    _check_level(level)
    simulated = _worst_shares_of_the_truth(tuple(points.tolist()), n_rows)
    counts = np.rint(shares * n_rows).astype(int)
    worst = np.min(_tail(counts, points[:, None], n_rows), axis=0)
    gamma = _local_level(simulated, level, shares.shape[1])
    low = binom.ppf(gamma, n_rows, points)
    high = binom.isf(gamma, n_rows, points)
    return Band(low / n_rows, high / n_rows, _p_values(simulated, worst))


def order_band(
    values: Float[np.ndarray, "k d"],
    ranks: Int[np.ndarray, " k"],
    n_rows: int,
    *,
    level: float = 0.95,
) -> Band:
    r"""The band of equal local levels for order statistics of uniform values.

    The value of rank r among n is Beta(r, n + 1 − r); γ is found as in `share_band`, from
    simulated order statistics.

    Args:
        values: The values of the given ranks in each coordinate, in (0, 1), shape (k, d).
        ranks: The ranks, counted from 1, ascending, shape (k,).
        n_rows: Number of values in each coordinate.
        level: Probability with which a sample from the truth stays inside everywhere.

    Returns:
        The band for the values.

    References:
        Aldor-Noiman, Brown, Buja, Rolke and Stine, *The Power to See: A New Graphical Test of
        Normality* (2013).
    """
    _check_level(level)
    simulated = _worst_ranks_of_the_truth(tuple(ranks.tolist()), n_rows)
    worst = np.min(
        [
            np.minimum(betainc(r, n_rows + 1 - r, u), betaincc(r, n_rows + 1 - r, u))
            for r, u in zip(ranks, values, strict=True)
        ],
        axis=0,
    )
    gamma = _local_level(simulated, level, values.shape[1])
    low = betaincinv(ranks, n_rows + 1 - ranks, gamma)
    high = betainccinv(ranks, n_rows + 1 - ranks, gamma)
    return Band(low, high, _p_values(simulated, worst))


def _check_level(level: float) -> None:
    if not 0 < level < 1:
        raise ValueError(f"Expected level between 0 and 1; got {level}.")


def _local_level(simulated, level, n_coordinates):
    # Coordinates of the truth are independent, so that each has its share of the level.
    return np.quantile(simulated, 1 - level ** (1 / n_coordinates))


def _p_values(simulated, worst):
    # Tails that are equal but for rounding are ties.
    rank = np.searchsorted(simulated, worst * (1 + 1e-9), side="right")
    return (1 + rank) / (1 + len(simulated))


@lru_cache(maxsize=16)
def _worst_shares_of_the_truth(points: tuple[float, ...], n_rows: int) -> Float[np.ndarray, " m"]:
    """Smallest tail probability over the points, of samples from the truth, ascending."""
    grid = np.array(points)
    cells = np.diff(grid, prepend=0.0, append=1.0)
    rng = np.random.default_rng([len(points), n_rows])
    counts = np.cumsum(rng.multinomial(n_rows, cells, size=_DRAWS), axis=1)[:, :-1]
    worst = np.ones(_DRAWS)
    for count, point in zip(counts.T, grid, strict=True):
        # Few counts occur, so that each tail is computed once.
        values, place = np.unique(count, return_inverse=True)
        worst = np.minimum(worst, _tail(values, point, n_rows)[place])
    return np.sort(worst)


def _tail(count, point, n_rows):
    """The smaller of the probabilities of so few and of so many values below a point."""
    return np.minimum(binom.cdf(count, n_rows, point), binom.sf(count - 1, n_rows, point))


@lru_cache(maxsize=16)
def _worst_ranks_of_the_truth(ranks: tuple[int, ...], n_rows: int) -> Float[np.ndarray, " m"]:
    """The same of order statistics."""
    chosen = np.array(ranks)
    rng = np.random.default_rng([len(ranks), n_rows, 1])
    steps = np.diff(chosen, prepend=0, append=n_rows + 1)
    # Spacings of uniform values are exponential ones divided by their sum.
    sums = np.cumsum(rng.standard_gamma(steps, size=(_DRAWS, len(steps))), axis=1)
    values = sums[:, :-1] / sums[:, -1:]
    worst = np.zeros(_DRAWS)
    for rank, value in zip(chosen, values.T, strict=True):
        table = betaincinv(rank, n_rows + 1 - rank, ndtr(_SCORES))
        worst = np.maximum(worst, np.abs(np.interp(value, table, _SCORES)))
    return np.sort(ndtr(-worst))
