"""The energy distance between latents and N(0, I)."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.special import gammaln

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.pairs import distances, null_samples, parts_of
from gauss_flows.diagnostics.quantiles import check_latents
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.options import check_count, check_seed

_FEWEST_ROWS = 4
_MOST_NULL_ROWS = 300
# Beyond, squares would overflow.
_FARTHEST = 1e150
# Gauss's rule with 64 nodes over 0 < θ < π/2: exact to rounding here.
_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(64)
_QUARTER_TURN = ((_NODES + 1) * np.pi / 4, _WEIGHTS * np.pi / 4)


class EnergyDistance(NamedTuple):
    """An energy distance to N(0, I) and what it would be by chance.

    Args:
        estimate: The squared distance and its standard error, in units of z; unbiased, and so
            below zero as often as above where z is N(0, I).
        p_value: Share of samples from N(0, I) that come out at least as far, simulated.
        null: The simulated distances, shape (n_null,).
        n_rows: Number of rows.
    """

    estimate: Estimate
    p_value: float
    null: Float[np.ndarray, " n_null"]
    n_rows: int


def energy_distance(
    z: Float[ArrayLike, "n d"],
    *,
    rows_at_once: int = 10_000,
    n_null: int = 999,
    random_state: int = 0,
) -> EnergyDistance:
    r"""The squared energy distance between latents and N(0, I), without bias.

    $$\mathcal E = 2\,\mathrm E\|z - Y\| - \mathrm E\|z - z'\| - \mathrm E\|Y - Y'\|,
    \qquad Y, Y' \sim N(0, I),$$

    zero only where z is N(0, I). Two of the three terms are known:
    $\mathrm E\|Y - Y'\| = 2\,\Gamma(\tfrac{d + 1}{2}) / \Gamma(\tfrac d2)$ and

    $$\mathrm E\|z - Y\| = \sqrt 2\,\frac{\Gamma(\frac{d + 1}{2})}{\Gamma(\frac d2)}\;
    {}_1F_1\Bigl(-\tfrac12; \tfrac d2; -\tfrac{\|z\|^2}{2}\Bigr),$$

    so that no sample of the normal adds noise. The third is a mean over pairs, taken in parts of
    `rows_at_once` rows if there are more: parts are averaged, which stays unbiased and grows as n
    rather than n². The error is that of a U-statistic, with its first two terms, so that it
    is no underestimate at N(0, I), where the first vanishes.

    Args:
        z: Latents, shape (n, d).
        rows_at_once: Most rows of which all pairs are taken.
        n_null: Number of samples of N(0, I) for the p-value. They have at most 300 rows: times
            the number of rows, the distance of a normal sample has a limit.
        random_state: Seed of those samples, and of which rows make a part.

    Returns:
        The distance, its error, and its p-value.

    Raises:
        ValueError: If z is no table of finite numbers or has fewer than 4 rows.

    References:
        Székely and Rizzo, *Energy Statistics: A Class of Statistics Based on Distances* (2013).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.diagnostics import energy_distance
        >>> z = np.random.default_rng(0).normal(size=(2000, 3))
        >>> near, far = energy_distance(z), energy_distance(z + [0.5, 0.0, 0.0])
        >>> near.p_value > 0.05, far.p_value < 0.01
        (True, True)
    """
    check_count("rows_at_once", rows_at_once)
    check_count("n_null", n_null)
    check_seed(random_state)
    table = np.clip(check_latents(z, _FEWEST_ROWS), -_FARTHEST, _FARTHEST)
    n, d = table.shape
    parts = parts_of(n, max(rows_at_once, _FEWEST_ROWS), random_state)
    found = [_unbiased(table[part]) for part in parts]
    value = np.average([part.value for part in found], weights=[len(part) for part in parts])
    first = np.concatenate([part.first for part in found])
    second = np.average([part.second for part in found])
    # The first term's own noise is taken off it: it is the second term's again, doubled.
    size = len(parts[0])
    spread = max(first.var(ddof=1) / n - 4 * second / (n * size), 0.0)
    error = np.sqrt(spread + 2 * second / (n * size))
    null = _null_parts(d, n, len(parts), n_null, random_state)
    p_value = (1 + np.sum(null >= value)) / (1 + n_null)
    return EnergyDistance(Estimate(float(value), float(error)), float(p_value), null, n)


def draw_energy_distance(distance: EnergyDistance, axes: Any = None) -> Any:
    """Draw the distance among those of samples from N(0, I).

    Args:
        distance: What `energy_distance` returned.
        axes: Matplotlib axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    axes = drawing.axes_or_new(axes)
    value = float(distance.estimate.value)
    drawing.against_null(axes, distance.null, value, distance.p_value)
    axes.set_xlabel("squared energy distance to N(0, I)")
    return axes


def expected_distance(z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    r"""The mean distance of N(0, I) from points, $\mathrm E\|z - Y\|$.

    Args:
        z: Points, shape (n, d).

    Returns:
        Distances, shape (n,).
    """
    d = z.shape[1]
    square = np.sum(np.clip(z, -_FARTHEST, _FARTHEST) ** 2, axis=1)
    # √v = ∫ (1 − exp(−u² v)) du / (u² √π) over u > 0, whose mean is known for a noncentral χ²
    # variable; u = c tan θ with the right c makes a smooth function over a quarter turn of it.
    c = 1 / np.sqrt(d + square)
    total = np.zeros(len(z))
    for angle, weight in zip(*_QUARTER_TURN, strict=True):
        u = (c * np.tan(angle)) ** 2
        log_mean = -d / 2 * np.log1p(2 * u) - square * u / (1 + 2 * u)
        total -= weight / np.sin(angle) ** 2 * np.expm1(log_mean)
    return total / (c * np.sqrt(np.pi))


class _Part(NamedTuple):
    value: float
    first: np.ndarray  # the rows' contributions, of which the value is the mean, less a constant
    second: float  # variance of the doubly centred kernel


def _unbiased(z: np.ndarray) -> _Part:
    n, d = z.shape
    sums = np.concatenate([block.sum(1) for block in distances(z)])
    to_normal = expected_distance(z)
    between = sums / (n - 1)
    value = 2 * to_normal.mean() - between.mean() - _mean_norm(d) * np.sqrt(2.0)
    # Σ‖z − z'‖² is known from the moments.
    centred = z - z.mean(0)
    squares = 2 * n / (n - 1) * np.mean(np.sum(centred**2, axis=1))
    second = max(squares - 2 * np.mean(between**2) + between.mean() ** 2, 0.0)
    return _Part(float(value), 2 * (to_normal - between), float(second))


def _mean_norm(d: int) -> float:
    """Mean of ‖Y‖."""
    return float(np.sqrt(2.0) * np.exp(gammaln((d + 1) / 2) - gammaln(d / 2)))


def _null_parts(d: int, n: int, n_parts: int, n_null: int, random_state: int) -> np.ndarray:
    size = min(n, _MOST_NULL_ROWS)
    null = _null(d, size, n_null, random_state) * size * n_parts / n
    if n_parts == 1:
        return null
    # A mean over parts: their distances are independent.
    rng = np.random.default_rng([random_state, n_parts])
    return rng.choice(null, size=(n_null, n_parts)).mean(1)


@lru_cache(maxsize=16)
def _null(d: int, n: int, n_null: int, random_state: int) -> np.ndarray:
    return np.array([_unbiased(z).value for z in null_samples(n, d, n_null, random_state)])
