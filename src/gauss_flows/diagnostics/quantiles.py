"""Every latent coordinate's quantiles and probabilities against the normal's."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.special import ndtr, ndtri

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.bands import order_band, share_band
from gauss_flows.rbig.checks import check_finite_table
from gauss_flows.rbig.options import check_count

_MOST_RANKS = 60
_MOST_PANELS = 6
_FEWEST_ROWS = 10


class QQTable(NamedTuple):
    """Quantiles of coordinates beside the normal's.

    Args:
        rank: Ranks that are shown, counted from 1, shape (k,).
        normal: The median of N(0, 1)'s value of that rank, shape (k,).
        sample: The coordinates' values of that rank, shape (k, d).
        low: Lower end of the simultaneous band, shape (k,).
        high: Upper end, shape (k,).
        p_value: Of each coordinate, shape (d,).
        level: Probability that all coordinates of N(0, I) stay in the band everywhere.
        n_rows: Number of rows.
    """

    rank: np.ndarray
    normal: Float[np.ndarray, " k"]
    sample: Float[np.ndarray, "k d"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    p_value: Float[np.ndarray, " d"]
    level: float
    n_rows: int

    @property
    def outside(self) -> np.ndarray:
        """Which coordinates leave the band, shape (d,)."""
        below, above = self.sample < self.low[:, None], self.sample > self.high[:, None]
        return np.any(below | above, axis=0)


class PITTable(NamedTuple):
    """Shares of values below points of the unit interval.

    Args:
        point: The points, shape (k,).
        share: Share of each coordinate's Φ(z) at or below them, shape (k, d).
        low: Lower end of the simultaneous band, shape (k,).
        high: Upper end, shape (k,).
        p_value: Of each coordinate, shape (d,).
        level: Probability that all coordinates of N(0, I) stay in the band everywhere.
        n_rows: Number of rows.
    """

    point: Float[np.ndarray, " k"]
    share: Float[np.ndarray, "k d"]
    low: Float[np.ndarray, " k"]
    high: Float[np.ndarray, " k"]
    p_value: Float[np.ndarray, " d"]
    level: float
    n_rows: int

    @property
    def outside(self) -> np.ndarray:
        """Which coordinates leave the band, shape (d,)."""
        rounding = 1e-9  # shares are whole numbers over n
        below = self.share < self.low[:, None] - rounding
        return np.any(below | (self.share > self.high[:, None] + rounding), axis=0)


def qq_table(z: Float[ArrayLike, "n d"], *, level: float = 0.95) -> QQTable:
    """Compare each coordinate's quantiles with those of N(0, 1).

    The band is one that all ranks of all coordinates stay in together with probability `level`:
    equal local levels at up to 60 ranks, evenly apart in normal quantiles, first and last among
    them. Where coordinates are normal but not independent its probability is at least about that.

    Args:
        z: Latents, shape (n, d).
        level: Probability of the band.

    Returns:
        The table.

    Raises:
        ValueError: If z is no table of finite numbers or has fewer than 10 rows.

    References:
        Aldor-Noiman, Brown, Buja, Rolke and Stine, *The Power to See: A New Graphical Test of
        Normality* (2013).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.diagnostics import qq_table
        >>> z = np.random.default_rng(0).normal(size=(1000, 2)) * [1.0, 1.3]
        >>> qq_table(z).outside.tolist()
        [False, True]
    """
    table = check_latents(z, _FEWEST_ROWS)
    n = len(table)
    edge = ndtri(1 / (n + 1))
    evenly = n * ndtr(np.linspace(edge, -edge, _MOST_RANKS))
    rank = np.unique(np.clip(np.rint(evenly), 1, n).astype(int))
    rank = np.unique(np.concatenate([[1], rank, [n]]))
    sample = np.sort(table, axis=0)[rank - 1]
    # Beyond 37 the probability would be 0.
    band = order_band(ndtr(np.clip(sample, -37.0, 37.0)), rank, n, level=level)
    normal = ndtri((rank - 0.3) / (n + 0.4))
    low, high = ndtri(band.low), ndtri(band.high)
    return QQTable(rank, normal, sample, low, high, band.p_value, level, n)


def pit_table(z: Float[ArrayLike, "n d"], *, n_points: int = 49, level: float = 0.95) -> PITTable:
    r"""Compare the share of each coordinate's $\Phi(z)$ below points of (0, 1) with the points.

    Φ(z) is the probability integral transform, uniform where z is N(0, 1). The band is one that
    all points of all coordinates stay in together with probability `level`.

    Args:
        z: Latents, shape (n, d).
        n_points: Number of points, evenly apart.
        level: Probability of the band.

    Returns:
        The table.

    Raises:
        ValueError: If z is no table of finite numbers or has fewer than 10 rows.

    References:
        Säilynoja, Bürkner and Vehtari, *Graphical Test for Discrete Uniformity and its
        Applications in Goodness-of-Fit Evaluation and Multiple Sample Comparison* (2022).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.diagnostics import pit_table
        >>> z = np.random.default_rng(0).normal(size=(1000, 2)) + [0.0, 0.3]
        >>> pit_table(z).outside.tolist()
        [False, True]
    """
    return uniform_table(ndtr(check_latents(z, _FEWEST_ROWS)), n_points=n_points, level=level)


def uniform_table(
    u: Float[np.ndarray, "n d"], *, n_points: int = 49, level: float = 0.95
) -> PITTable:
    """The table of values that should be uniform.

    Args:
        u: Values in [0, 1], shape (n, d).
        n_points: Number of points, evenly apart.
        level: Probability of the band.

    Returns:
        The table.
    """
    check_count("n_points", n_points)
    point = np.arange(1, n_points + 1) / (n_points + 1)
    ranked = np.sort(u, axis=0)
    share = np.stack([np.searchsorted(c, point, side="right") for c in ranked.T], axis=1) / len(u)
    band = share_band(share, point, len(u), level=level)
    return PITTable(point, share, band.low, band.high, band.p_value, level, len(u))


def check_latents(z: Any, fewest: int) -> Float[np.ndarray, "n d"]:
    """Check latents and that there are enough rows of them."""
    table = check_finite_table(z, name="z")
    if len(table) < fewest:
        raise ValueError(f"Expected at least {fewest} rows of z; got {len(table)}.")
    return table


def draw_qq(table: QQTable, figure: Any = None) -> Any:
    """Draw the least normal coordinates' quantiles less the normal's, up to six of them.

    Args:
        table: What `qq_table` returned.
        figure: A matplotlib figure to draw on; a new one when None.

    Returns:
        The figure.
    """
    shown = np.argsort(table.p_value, kind="stable")[:_MOST_PANELS]
    n_columns = 2 if len(shown) > 1 else 1
    n_lines = -(-len(shown) // n_columns)
    figure = drawing.figure_or_new(figure, qq_height(table.sample.shape[1]))
    grid = figure.subplots(n_lines, n_columns, squeeze=False, sharex=True, sharey=True)
    outside = table.outside
    limit = 1.06 * abs(table.normal[0])
    span = _y_limit(table, shown)
    for axes, j in zip(grid.flat, shown, strict=False):
        axes.fill_between(table.normal, table.low, table.high, color=drawing.BAND, lw=0)
        axes.plot([-limit, limit], [-limit, limit], color=drawing.EXPECTED, lw=0.8, ls=(0, (4, 3)))
        colour = drawing.OFF if outside[j] else drawing.SEEN
        axes.plot(table.normal, table.sample[:, j], color=colour, lw=1.4)
        note = "leaves the band" if outside[j] else "inside"
        axes.set_title(f"z[{j}]: {note}")
        axes.set_xlim(-limit, limit)
        axes.set_ylim(-span, span)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    figure.supxlabel("quantile of N(0, 1)", fontsize=9)
    figure.supylabel("quantile of z", fontsize=9)
    return figure


def qq_height(n_dims: int) -> float:
    """Height in inches of the figure for so many coordinates."""
    return 0.7 + (1.75 if n_dims > 1 else 3.0) * -(-min(n_dims, _MOST_PANELS) // 2)


def draw_pit(table: PITTable, axes: Any = None) -> Any:
    """Draw how far each coordinate's distribution function is from uniform, with the band.

    Args:
        table: What `pit_table` returned.
        axes: Matplotlib axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    axes = drawing.axes_or_new(axes)
    inside = f"{100 * table.level:.3g} % of perfect fits"
    low, high = table.low - table.point, table.high - table.point
    axes.fill_between(table.point, low, high, color=drawing.BAND, lw=0, label=inside)
    axes.axhline(0.0, color=drawing.EXPECTED, lw=0.8, ls=(0, (4, 3)))
    labels: set[str] = set()
    for off, gap in zip(table.outside, (table.share - table.point[:, None]).T, strict=True):
        label = "coordinate outside" if off else "coordinate inside"
        style = {"color": drawing.OFF, "lw": 1.2} if off else {"color": drawing.SEEN, "lw": 0.9}
        axes.plot(table.point, gap, label=None if label in labels else label, **style)
        labels.add(label)
    axes.set_xlim(0, 1)
    axes.set_xlabel("p")
    axes.set_ylabel("share of Φ(z) below p, less p")
    drawing.legend_above(axes)
    return axes


def _y_limit(table: QQTable, shown: np.ndarray) -> float:
    """Room for what is drawn, up to twice the normal's range."""
    ends = np.abs(table.sample[[0, -1]][:, shown]).max()
    middle = abs(table.normal[0])
    return float(min(max(ends, np.abs(table.low[0])), 2 * middle) * 1.06)
