"""The panels of a fit's picture: a column, a latent coordinate, quantiles."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.selection.words import counted

DATA, MODEL, DARK, FAINT = "#9db4c8", "#c8553d", "#2f3e46", "#7d8b99"
Z_LIMIT = 4.5
# Notes on what lies outside go above the bars.
HEADROOM = 1.15
# A column is drawn to this many interquartile ranges from its median, which shows a normal column
# whole and of a heavy tail how many rows lie beyond.
_IQRS = 5


def _patch(label: str) -> Any:
    from matplotlib.patches import Patch

    return Patch(color=DATA, label=label)


def _line(colour: str) -> Any:
    from matplotlib.lines import Line2D

    return lambda label: Line2D([], [], color=colour, lw=1.3, label=label)


TABLE_AND_FLOW = (("table", _patch), ("the flow's samples", _line(MODEL)))
LATENT_AND_NORMAL = (("z of held-out rows", _patch), ("N(0, 1)", _line(DARK)))


def normal_quantiles(n: int) -> NDArray[np.float64]:
    """Return the quantiles of N(0, 1) at the middle of each of n equal shares."""
    from scipy.special import ndtri

    return ndtri((np.arange(n) + 0.5) / n)


def edges_of(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the edges of bins over where a column's mass is.

    Args:
        values: Values that are not all equal, shape (n,).

    Returns:
        Edges from the least to the greatest value, or to 5 interquartile ranges from the median.
    """
    quartiles = np.quantile(values, [0.25, 0.5, 0.75])
    reach = _IQRS * (quartiles[2] - quartiles[0])
    if reach == 0:  # more than half are one value: the spread of the others says where they are
        reach = _IQRS * np.median(np.abs(values - quartiles[1])[values != quartiles[1]])
    low, high = max(values.min(), quartiles[1] - reach), min(values.max(), quartiles[1] + reach)
    return np.linspace(low, high, int(np.clip(3 * len(values) ** (1 / 3), 10, 60)) + 1)


def shares(values: NDArray[np.float64], edges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the density in each bin; what lies outside the bins takes its share of the mass."""
    counts, _ = np.histogram(values, edges)
    # By the bin's share of the range: 1 / (edges[1] - edges[0]) overflows where values are 1e-310.
    return counts / len(values) * len(counts)


def draw_column(axes: Any, name: str, data, samples) -> None:
    """Draw a column with the flow's samples over it, and say how much lies outside."""
    edges = edges_of(data)
    for values, style in (
        (data, {"fill": True, "color": DATA}),
        (samples, {"color": MODEL, "lw": 1.3}),
    ):
        axes.stairs(shares(values, edges), edges, **style)
    _note_outside(axes, data, edges)
    axes.set_title(name if len(name) <= 28 else f"{name[:27]}…")
    _bare(axes)
    axes.locator_params(axis="x", nbins=3)
    axes.set_ylim(0, HEADROOM * axes.dataLim.ymax)


def draw_latent(axes: Any, index: int, z) -> float:
    """Draw a latent coordinate against N(0, 1).

    Returns:
        The height of what is drawn.
    """
    grid = np.linspace(-Z_LIMIT, Z_LIMIT, 181)
    density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    edges = np.linspace(-Z_LIMIT, Z_LIMIT, int(np.clip(3 * len(z) ** (1 / 3), 10, 40)) + 1)
    # What lies beyond the edges stays in sight: it is what a bad fit looks like.
    heights = shares(np.clip(z, -Z_LIMIT, Z_LIMIT), edges) / (2 * Z_LIMIT)
    axes.stairs(heights, edges, fill=True, color=DATA)
    axes.plot(grid, density, color=DARK, lw=1.3)
    _note_outside(axes, z, edges)
    axes.set_title(f"z[{index}]")
    axes.set_xlim(-Z_LIMIT, Z_LIMIT)
    _bare(axes)
    return float(max(heights.max(), density.max()))


def draw_quantiles(axes: Any, z) -> None:
    """Draw the quantiles of every latent coordinate against those of N(0, 1)."""
    from scipy.special import ndtri
    from scipy.stats import beta

    n, d = z.shape
    normal = normal_quantiles(n)
    rank = np.arange(1, n + 1)
    low, high = (ndtri(beta.ppf(q, rank, n + 1 - rank)) for q in (0.025, 0.975))
    limit = max(3.2, abs(normal[0]) * 1.15)
    dots = {"marker": "o", "ms": 2} if n * d < 50 else {}
    axes.fill_between(
        normal, low, high, color=DATA, alpha=0.45, lw=0, label="95 % of normal samples"
    )
    if d > 1:
        for i, column in enumerate(np.sort(z, axis=0).T):
            label = f"each of {d} coordinates" if i == 0 else None
            axes.plot(normal, column, color=FAINT, lw=0.7, alpha=0.6, label=label)
    pooled = np.sort(z, axis=None)
    label = "all together" if d > 1 else "z"
    axes.plot(normal_quantiles(n * d), pooled, color=MODEL, lw=1.8, label=label, **dots)
    axes.plot([-limit, limit], [-limit, limit], color=DARK, lw=0.8, ls=(0, (4, 3)))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-1.35 * limit, 1.35 * limit)
    axes.set_xlabel("quantile of N(0, 1)")
    axes.set_ylabel("quantile of z, held-out rows")
    axes.set_title("z against the normal")
    axes.legend(frameon=False, fontsize=8, loc="upper left")


def _note_outside(axes: Any, values: NDArray[np.float64], edges: NDArray[np.float64]) -> None:
    sides = (
        (0.0, "left", "← {}", np.sum(values < edges[0])),
        (1.0, "right", "{} →", np.sum(values > edges[-1])),
    )
    for x, align, text, count in sides:
        if count:
            said = text.format(counted(count, "row"))
            place = {"x": x, "y": 1.0, "ha": align, "va": "top", "transform": axes.transAxes}
            axes.text(s=said, fontsize=8, color=DARK, **place)


def _bare(axes: Any) -> None:
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
