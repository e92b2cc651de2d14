"""How often intervals cover what they should."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.special import ndtr

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.bands import share_band
from gauss_flows.diagnostics.pushforward import Rows, check_rows, open_flow, to_data, to_latent
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.checks import check_finite_table
from gauss_flows.rbig.options import check_count, check_seed

LEVELS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98)
_FEWEST_ROWS = 10
_DRAWN_AT_ONCE = 500_000


class Calibration(NamedTuple):
    """Nominal and actual coverage of central intervals.

    Args:
        nominal: Probability that each interval should have, ascending, shape (k,).
        covered: Share of rows inside, with the binomial error, each of shape (k, d).
        low: Lower end of the simultaneous band of shares of calibrated intervals, shape (k,).
        high: Its upper end, shape (k,).
        p_value: Of each column, shape (d,).
        level: Probability that all columns of calibrated intervals stay in the band everywhere.
        n_rows: Number of rows.
    """

    nominal: Float[np.ndarray, " k"]
    covered: Estimate
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    p_value: Float[np.ndarray, " d"]
    level: float
    n_rows: int

    @property
    def outside(self) -> np.ndarray:
        """Which columns leave the band, shape (d,)."""
        rounding = 1e-9  # shares are whole numbers over n
        share = np.asarray(self.covered.value)
        below = share < self.low[:, None] - rounding
        return np.any(below | (share > self.high[:, None] + rounding), axis=0)


def pit_values(
    flow: Any, x: Any, condition: Any = None, *, n_samples: int = 400, random_state: int = 0
) -> Float[np.ndarray, "n d"]:
    r"""Where each value lies in its own predictive distribution.

    $$u_{ri} = F_i(x_{ri} \mid c_r),$$

    uniform if the flow is right. For a flow of one column it is $\Phi(z)$, exactly. For more, the
    marginal of a column has no closed form, and u is the rank of the value among `n_samples` drawn
    for its row, $(\text{rank} + v) / (n + 1)$ with v uniform in (0, 1), which is exactly uniform
    too.

    Args:
        flow: A flow, conditional or not.
        x: Rows, an array or data frame of shape (n, d).
        condition: Their conditions, shape (n, c), for a conditional flow.
        n_samples: Draws for each row.
        random_state: Seed of the draws.

    Returns:
        Values in (0, 1), shape (n, d).

    Raises:
        ValueError: If it is no flow with a normal latent, or a table has another width or holds
            what is no finite number; row and column are named.

    References:
        Gneiting, Balabdaoui and Raftery, *Probabilistic Forecasts, Calibration and Sharpness*
        (2007).

    Example:
        >>> import jax.numpy as jnp
        >>> from flowjax.distributions import Normal
        >>> from gauss_flows.diagnostics import pit_values
        >>> pit_values(Normal(jnp.ones(1), 2.0), [[1.0], [5.0]]).round(4).tolist()
        [[0.5], [0.9772]]
    """
    check_count("n_samples", n_samples)
    check_seed(random_state)
    opened = open_flow(flow)
    rows = check_rows(opened, x, condition)
    n, d = rows.x.shape
    if d == 1:
        z = to_latent(opened, rows).rows
        # A flow may turn its axis round; u keeps the direction of x.
        ends = Rows(np.array([[-1.0], [1.0]]), _first_two(rows.condition))
        low, high = to_data(opened, ends).rows[:, 0]
        return ndtr(z if high > low else -z)
    rng = np.random.default_rng([random_state, 5])
    u = np.empty((n, d))
    step = max(1, _DRAWN_AT_ONCE // n_samples)
    for start in range(0, n, step):
        part = slice(start, min(start + step, n))
        size = part.stop - start
        z = rng.normal(size=(size * n_samples, d))
        given = None if rows.condition is None else np.repeat(rows.condition[part], n_samples, 0)
        drawn = to_data(opened, Rows(z, given)).rows.reshape(size, n_samples, d)
        rank = np.sum(drawn < rows.x[part, None], axis=1)
        u[part] = (rank + rng.uniform(size=(size, d))) / (n_samples + 1)
    return u


def interval_calibration(
    pit: Float[ArrayLike, "n d"], *, levels: Sequence[float] = LEVELS, level: float = 0.95
) -> Calibration:
    r"""Compare the coverage of central intervals with what it should be.

    The central interval of probability q covers a value where $|2 u - 1| \le q$.

    Args:
        pit: Values in [0, 1] from `pit_values` or any other model, shape (n, d) or (n,).
        levels: Probabilities of the intervals.
        level: Probability of the simultaneous band.

    Returns:
        Nominal and actual coverage.

    Raises:
        ValueError: If a value is outside [0, 1], a level outside (0, 1), or there are fewer than
            10 rows.

    References:
        Gneiting, Balabdaoui and Raftery, *Probabilistic Forecasts, Calibration and Sharpness*
        (2007).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.diagnostics import interval_calibration
        >>> u = np.random.default_rng(0).uniform(size=2000)
        >>> table = interval_calibration(u, levels=(0.5, 0.9))
        >>> bool(np.all(abs(table.covered.value[:, 0] - table.nominal) < 0.04))
        True
    """
    values = np.asarray(pit)
    values = check_finite_table(values[:, None] if values.ndim == 1 else values, name="pit")
    wrong = np.argwhere((values < 0) | (values > 1))
    if len(wrong):
        row, column = wrong[0]
        raise ValueError(
            f"Expected values of pit in [0, 1]; got {values[row, column]:g} in row {row}, "
            f"column {column}."
        )
    nominal = _check_levels(levels)
    inside = np.abs(2 * values - 1)[None] <= nominal[:, None, None]
    return _calibration(inside, nominal, level)


def quantile_calibration(
    quantiles: Callable[[Float[np.ndarray, " m"], Any], ArrayLike],
    y: Float[ArrayLike, " n"],
    condition: Any,
    *,
    levels: Sequence[float] = LEVELS,
    level: float = 0.95,
) -> Calibration:
    """Compare the coverage of any model's central intervals with what it should be.

    Args:
        quantiles: Gives the quantiles of each row's predictive distribution: of probabilities of
            shape (m,) and the condition, an array of shape (n, m).
        y: What was to be predicted, shape (n,).
        condition: Passed on to `quantiles`.
        levels: Probabilities of the intervals.
        level: Probability of the simultaneous band.

    Returns:
        Nominal and actual coverage.

    Raises:
        ValueError: If y is not finite, the quantiles have another shape or are not ordered, a level
            is outside (0, 1), or there are fewer than 10 rows.

    Example:
        >>> import numpy as np
        >>> from scipy.stats import norm
        >>> from gauss_flows.diagnostics import quantile_calibration
        >>> c, noise = np.random.default_rng(0).normal(size=(2, 2000))
        >>> def too_wide(p, c):
        ...     return c[:, None] + 1.5 * norm.ppf(p)
        >>> quantile_calibration(too_wide, c + noise, c).outside.tolist()
        [True]
    """
    values = check_finite_table(np.asarray(y)[:, None], name="y")
    nominal = _check_levels(levels)
    probabilities = np.concatenate([0.5 - nominal / 2, 0.5 + nominal / 2])
    ends = np.asarray(quantiles(probabilities, condition), np.float64)
    if ends.shape != (len(values), len(probabilities)):
        raise ValueError(
            f"Expected quantiles of shape {(len(values), len(probabilities))}; got {ends.shape}."
        )
    low, high = np.split(ends, 2, axis=1)
    if not np.all(low <= high):
        row = int(np.argmax(np.any(~(low <= high), axis=1)))
        raise ValueError(f"Expected quantiles that rise with the probability; row {row} does not.")
    inside = (low <= values) & (values <= high)
    return _calibration(inside.T[:, :, None], nominal, level)


def draw_interval_calibration(calibration: Calibration, axes: Any = None) -> Any:
    """Draw actual less nominal coverage against the nominal one.

    Args:
        calibration: What one of the functions above returned.
        axes: Matplotlib axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    axes = drawing.axes_or_new(axes)
    nominal = calibration.nominal
    label = f"{100 * calibration.level:.3g} % of calibrated fits"
    low, high = calibration.low - nominal, calibration.high - nominal
    axes.fill_between(nominal, low, high, color=drawing.BAND, lw=0, label=label)
    axes.axhline(0.0, color=drawing.EXPECTED, lw=0.8, ls=(0, (4, 3)))
    gaps = (np.asarray(calibration.covered.value) - nominal[:, None]).T
    labels: set[str] = set()
    for off, gap in zip(calibration.outside, gaps, strict=True):
        label = "column outside" if off else "column inside"
        style = {"color": drawing.OFF, "lw": 1.2} if off else {"color": drawing.SEEN, "lw": 0.9}
        axes.plot(nominal, gap, marker="o", ms=2.5, label=None if label in labels else label,
                  **style)  # fmt: skip
        labels.add(label)
    axes.set_xlim(0, 1)
    axes.set_xlabel("nominal coverage of the interval")
    axes.set_ylabel("covered, less nominal")
    drawing.legend_above(axes)
    return axes


def _check_levels(levels: Sequence[float]) -> np.ndarray:
    nominal = np.unique(np.asarray(levels, np.float64))
    if nominal.ndim != 1 or not len(nominal) or not np.all((nominal > 0) & (nominal < 1)):
        raise ValueError(f"Expected levels between 0 and 1; got {list(levels)}.")
    return nominal


def _calibration(inside: np.ndarray, nominal: np.ndarray, level: float) -> Calibration:
    n = inside.shape[1]
    if n < _FEWEST_ROWS:
        raise ValueError(f"Expected at least {_FEWEST_ROWS} rows; got {n}.")
    share = inside.mean(1)
    # Half a row is added on either side, so that an error of zero is claimed by none.
    shrunk = (inside.sum(1) + 0.5) / (n + 1)
    error = np.sqrt(shrunk * (1 - shrunk) / n)
    band = share_band(share, nominal, n, level=level)
    return Calibration(nominal, Estimate(share, error), band.low, band.high, band.p_value, level, n)


def _first_two(condition: np.ndarray | None) -> np.ndarray | None:
    # The direction is the same for all conditions, a flow being continuous in them.
    return None if condition is None else condition[[0, 0]]
