"""Columns of the data beside those of a flow's samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.stats import ks_2samp

from gauss_flows.diagnostics import drawing
from gauss_flows.rbig.checks import check_finite_table

_MOST_PANELS = 6


class ColumnTable(NamedTuple):
    """Columns of two samples.

    Args:
        data: The data, shape (n, d).
        samples: The samples, shape (m, d).
        distance: Largest difference between the distribution functions, of each column,
            shape (d,).
        p_value: Probability of one as large if both are of one distribution, shape (d,).
    """

    data: Float[np.ndarray, "n d"]
    samples: Float[np.ndarray, "m d"]
    distance: Float[np.ndarray, " d"]
    p_value: Float[np.ndarray, " d"]


def column_table(x: Float[ArrayLike, "n d"], samples: Float[ArrayLike, "m d"]) -> ColumnTable:
    """Compare the columns of data with those of samples, by Kolmogorov and Smirnov.

    Args:
        x: Data, shape (n, d).
        samples: Samples, shape (m, d).

    Returns:
        Distances and p-values.

    Raises:
        ValueError: If one is no table of finite numbers, or they differ in width.

    References:
        Smirnov, *Table for Estimating the Goodness of Fit of Empirical Distributions* (1948).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.diagnostics import column_table
        >>> x, y = np.random.default_rng(0).normal(size=(2, 500, 2))
        >>> (column_table(x, y * [1.0, 2.0]).p_value < 0.01).tolist()
        [False, True]
    """
    data = check_finite_table(x)
    drawn = check_finite_table(samples, n_dims=data.shape[1], name="samples")
    tests: list[Any] = [ks_2samp(a, b) for a, b in zip(data.T, drawn.T, strict=True)]
    return ColumnTable(
        data,
        drawn,
        np.array([float(test.statistic) for test in tests]),
        np.array([float(test.pvalue) for test in tests]),
    )


def draw_columns(table: ColumnTable, names: Sequence[str] | None = None, figure: Any = None) -> Any:
    """Draw the columns that differ most, up to six of them, with the samples over the data.

    Args:
        table: What `column_table` returned.
        names: Names of the columns.
        figure: A matplotlib figure to draw on; a new one when None.

    Returns:
        The figure.
    """
    d = table.data.shape[1]
    names = [f"column {j}" for j in range(d)] if names is None else names
    shown = least_alike(table)
    figure = drawing.figure_or_new(figure, columns_height(d))
    n_across = min(2, len(shown))
    grid = figure.subplots(-(-len(shown) // n_across), n_across, squeeze=False)
    for axes, j in zip(grid.flat, shown, strict=False):
        _draw_column(axes, table.data[:, j], table.samples[:, j])
        name = str(names[j])
        # A name is not mathematics, whatever dollar signs it has.
        axes.set_title(name if len(name) <= 24 else f"{name[:23]}…", parse_math=False)
    for axes in list(grid.flat)[len(shown) :]:
        axes.set_axis_off()
    handles, labels = grid.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower left", ncols=2)
    return figure


def least_alike(table: ColumnTable) -> np.ndarray:
    """Numbers of the columns that are drawn, those that differ most first."""
    return np.argsort(-table.distance, kind="stable")[:_MOST_PANELS]


def columns_height(n_dims: int) -> float:
    """Height in inches of the figure for so many columns."""
    return 0.6 + (1.5 if n_dims > 1 else 2.4) * -(-min(n_dims, _MOST_PANELS) // 2)


def _draw_column(axes: Any, data: np.ndarray, samples: np.ndarray) -> None:
    # What lies beyond would squeeze the rest into one bin.
    low, high = np.quantile(np.concatenate([data, samples]), [0.002, 0.998])
    if not low < high:
        low, high = data.min() - 0.5, data.max() + 0.5
    edges = np.linspace(low, high, int(np.clip(2 * len(data) ** (1 / 3), 8, 40)) + 1)
    for values, style in (
        (data, {"fill": True, "color": drawing.BAND, "label": "data"}),
        (samples, {"color": drawing.OFF, "lw": 1.3, "label": "the flow's samples"}),
    ):
        axes.stairs(np.histogram(values, edges)[0] / len(values), edges, **style)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
