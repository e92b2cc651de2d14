"""Henze and Zirkler's test, of N(0, I) and of any normal distribution."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.stats import lognorm

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.pairs import distances, null_samples
from gauss_flows.diagnostics.quantiles import check_latents
from gauss_flows.rbig.options import check_count, check_seed

_FEWEST_ROWS = 4
_MOST_NULL_ROWS = 300


class HenzeZirkler(NamedTuple):
    """A Henze–Zirkler statistic and its p-value.

    Args:
        statistic: The statistic, a pure number.
        mean: Its mean if the rows are normal.
        variance: Its variance then.
        p_value: Probability of one at least as large then.
        method: `"simulation"` or `"lognormal"`: how the p-value was found.
        null: Simulated statistics, shape (n_null,); empty for `"lognormal"`.
        bandwidth: β.
        n_rows: Number of rows that were used.
    """

    statistic: float
    mean: float
    variance: float
    p_value: float
    method: Literal["simulation", "lognormal"]
    null: Float[np.ndarray, " n_null"]
    bandwidth: float
    n_rows: int


def henze_zirkler(
    z: Float[ArrayLike, "n d"],
    *,
    parameters: Literal["standard", "estimated"] = "standard",
    method: Literal["simulation", "lognormal"] = "simulation",
    max_rows: int = 10_000,
    n_null: int = 999,
    random_state: int = 0,
) -> HenzeZirkler:
    r"""Test whether rows are normal by their characteristic function.

    $$T = n \int \bigl|\hat\varphi(t) - e^{-\|t\|^2 / 2}\bigr|^2\, N(t; 0, \beta^2 I)\, dt
    = \frac1n \sum_{r,s} e^{-\frac{\beta^2}{2} \|z_r - z_s\|^2}
    - 2\,(1 + \beta^2)^{-\frac d2} \sum_r e^{-\frac{\beta^2 \|z_r\|^2}{2 (1 + \beta^2)}}
    + n\,(1 + 2 \beta^2)^{-\frac d2}$$

    with $\beta = \bigl((2 d + 1)\,n / 4\bigr)^{1 / (d + 4)} / \sqrt 2$. With
    `parameters="standard"` the rows are taken as they are: the hypothesis is N(0, I), as a flow's
    latents should be. With `"estimated"` they are standardised by their own mean and covariance
    first, which is the test as published: the hypothesis is any normal distribution.

    The p-value comes from samples of the hypothesis, at this β, with their mean and variance
    brought to those at n rows (samples have at most 300 rows; up to there it is exact), or from
    the lognormal distribution of the same mean and variance, which Henze and Zirkler proposed.
    Those moments are exact for `"standard"`, and Henze and Zirkler's limits for `"estimated"`.

    Args:
        z: Rows, shape (n, d).
        parameters: `"standard"` or `"estimated"`.
        method: `"simulation"` or `"lognormal"`.
        max_rows: Most rows to use; of more, some are drawn at random.
        n_null: Number of simulated samples.
        random_state: Seed of samples and choice.

    Returns:
        The statistic and its p-value.

    Raises:
        ValueError: If z is no table of finite numbers, has fewer than 4 rows or, with
            `"estimated"`, no more rows than columns or a singular covariance; or if an option is
            unknown.

    References:
        Henze and Zirkler, *A Class of Invariant Consistent Tests for Multivariate Normality*
        (1990). Henze and Wagner, *A New Approach to the BHEP Tests for Multivariate Normality*
        (1997).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.diagnostics import henze_zirkler
        >>> z = np.random.default_rng(0).normal(size=(500, 2))
        >>> henze_zirkler(z).p_value > 0.05, henze_zirkler(1.5 * z).p_value < 0.01
        (True, True)
        >>> henze_zirkler(1.5 * z, parameters="estimated").p_value > 0.05
        True
    """
    _check_options(parameters, method)
    check_count("max_rows", max_rows)
    check_count("n_null", n_null)
    check_seed(random_state)
    table = check_latents(z, _FEWEST_ROWS)
    if len(table) > max_rows:
        rng = np.random.default_rng([random_state, len(table)])
        table = table[np.sort(rng.choice(len(table), max(max_rows, _FEWEST_ROWS), replace=False))]
    n, d = table.shape
    estimated = parameters == "estimated"
    beta = float(((2 * d + 1) * n / 4) ** (1 / (d + 4)) / np.sqrt(2))
    statistic = _statistic(_standardised(table) if estimated else table, beta)
    moments = _limit_moments(d, beta) if estimated else _exact_moments(d, n, beta)
    null = np.zeros(0)
    if method == "simulation":
        null = _scaled_null(d, n, beta, n_null, random_state, estimated)
        p_value = (1 + np.sum(null >= statistic)) / (1 + n_null)
    else:
        p_value = lognormal_tail(statistic, *moments)
    return HenzeZirkler(statistic, *moments, float(p_value), method, null, beta, n)


def draw_henze_zirkler(test: HenzeZirkler, axes: Any = None) -> Any:
    """Draw the statistic among those of normal samples.

    Args:
        test: What `henze_zirkler` returned.
        axes: Matplotlib axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    axes = drawing.axes_or_new(axes)
    if len(test.null):
        drawing.against_null(axes, test.null, test.statistic, test.p_value)
    else:
        law = _lognormal(test.mean, test.variance)
        low, high = law.ppf([1e-4, 1 - 1e-4])
        grid = np.linspace(low, high, 201)
        axes.fill_between(grid, law.pdf(grid), color=drawing.BAND, label="lognormal, if normal")
        axes.axvline(test.statistic, color=drawing.SEEN, lw=1.8, label="these rows")
        drawing.legend_above(axes)
    axes.set_xlabel("Henze–Zirkler statistic")
    return axes


def lognormal_tail(statistic: float, mean: float, variance: float) -> float:
    """Probability that a lognormal variable of this mean and variance is larger."""
    return float(_lognormal(mean, variance).sf(statistic))


def _lognormal(mean: float, variance: float) -> Any:
    spread = np.log1p(variance / mean**2)
    return lognorm(np.sqrt(spread), scale=mean * np.exp(-spread / 2))


def _check_options(parameters: str, method: str) -> None:
    if parameters not in ("standard", "estimated"):
        raise ValueError(
            f"Expected parameters to be 'standard' or 'estimated'; got {parameters!r}."
        )
    if method not in ("simulation", "lognormal"):
        raise ValueError(f"Expected method to be 'simulation' or 'lognormal'; got {method!r}.")


def _statistic(z: np.ndarray, beta: float) -> float:
    n, d = z.shape
    b = beta**2
    with np.errstate(over="ignore"):  # what is so far has no weight
        pairs = sum(np.exp(-b / 2 * block).sum() for block in distances(z, "sqeuclidean"))
        one = np.exp(-b / (2 * (1 + b)) * np.sum(z**2, axis=1)).sum()
    return float(pairs / n - 2 * (1 + b) ** (-d / 2) * one + n * (1 + 2 * b) ** (-d / 2))


def _standardised(z: np.ndarray) -> np.ndarray:
    n, d = z.shape
    if n <= d:
        raise ValueError(f"Expected more rows in z than its {d} columns; got {n}.")
    centred = z - z.mean(0)
    deviation = centred.std(0)
    # A column that one row has made wide is not for that a relation between columns.
    centred = centred / np.where(deviation > 0, deviation, 1.0)
    covariance = centred.T @ centred / n
    values, axes = np.linalg.eigh(covariance)
    if values[0] <= d * np.finfo(np.float64).eps * values[-1]:
        raise ValueError("Expected columns of z none of which follows from the others.")
    return centred @ (axes / np.sqrt(values))


def _exact_moments(d: int, n: int, beta: float) -> tuple[float, float]:
    """Mean and variance of the statistic of n rows of N(0, I), taken as they are."""
    b = beta**2
    c = (1 + 2 * b) ** (-d / 2)
    once = ((1 + b) * (1 + 3 * b)) ** (-d / 2)
    pairs = (1 + 4 * b) ** (-d / 2) - 2 * once + c**2
    return 1 - c, 2 * (n - 1) / n * pairs + 4 * (once - c**2) / n


def _limit_moments(d: int, beta: float) -> tuple[float, float]:
    """Henze and Zirkler's mean and variance where mean and covariance are estimated."""
    b = beta**2
    a, w = 1 + 2 * b, (1 + b) * (1 + 3 * b)
    mean = 1 - a ** (-d / 2) * (1 + d * b / a + d * (d + 2) * b**2 / (2 * a**2))
    variance = (
        2 * (1 + 4 * b) ** (-d / 2)
        + 2 * a**-d * (1 + 2 * d * b**2 / a**2 + 3 * d * (d + 2) * b**4 / (4 * a**4))
        - 4 * w ** (-d / 2) * (1 + 3 * d * b**2 / (2 * w) + d * (d + 2) * b**4 / (2 * w**2))
    )
    return mean, variance


def _scaled_null(
    d: int, n: int, beta: float, n_null: int, random_state: int, estimated: bool
) -> np.ndarray:
    # With more columns than that, so many rows have no covariance to standardise by.
    size = min(n, max(_MOST_NULL_ROWS, 4 * d) if estimated else _MOST_NULL_ROWS)
    null = _null(d, size, beta, n_null, random_state, estimated)
    if size == n or estimated:
        return null
    (mean, variance), (m, v) = _exact_moments(d, n, beta), _exact_moments(d, size, beta)
    return mean + (null - m) * np.sqrt(variance / v)


@lru_cache(maxsize=16)
def _null(
    d: int, n: int, beta: float, n_null: int, random_state: int, estimated: bool
) -> np.ndarray:
    samples = null_samples(n, d, n_null, random_state)
    return np.array([_statistic(_standardised(z) if estimated else z, beta) for z in samples])
