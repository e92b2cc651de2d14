"""One picture of a fit: columns, latent coordinates, and each beside what it should be."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli.errors import InputError

SUFFIXES = (".png", ".pdf", ".svg")
_MAX_PANELS = 4
_DATA, _MODEL, _NORMAL, _FAINT = "#9db4c8", "#c8553d", "#2f3e46", "#7d8b99"
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _NORMAL,
    "xtick.color": _NORMAL,
    "ytick.color": _NORMAL,
    "figure.dpi": 140,
}


def check_matplotlib() -> None:
    """Raise an `InputError` that says how to install matplotlib when it is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InputError(
            'drawing a picture needs matplotlib: pip install "gauss-flows[cli]"'
        ) from None


def draw_fit(
    path: str | os.PathLike[str],
    *,
    columns: Sequence[str],
    data: NDArray[np.float64],
    samples: NDArray[np.float64],
    z: NDArray[np.float64],
    title: str,
    subtitle: str = "",
) -> None:
    """Draw marginals before and after, and z against the normal.

    The top row shows the least normal columns as they are, with the flow's own samples over them;
    the row below the least normal latent coordinates, so that what is left to learn is in sight;
    the right side every latent coordinate's quantiles against the normal's.

    Args:
        path: The picture, ending in `.png`, `.pdf` or `.svg`.
        columns: Names of the d columns.
        data: Rows in their own units, shape (n, d).
        samples: Draws from the flow in the same units, shape (m, d).
        z: Latent images of held-out rows, shape (k, d).
        title: The headline.
        subtitle: A line below it.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    from gauss_flows.training.atomic_file import write_atomically

    n_panels = min(_MAX_PANELS, len(columns))
    content = io.BytesIO()
    with plt.rc_context(_STYLE):
        figure = plt.figure(figsize=(2.35 * n_panels + 5.0, 5.4), layout="constrained")
        grid = figure.add_gridspec(2, n_panels + 2)
        for panel, i in enumerate(_least_normal(_standardised(data), n_panels)):
            axes = figure.add_subplot(grid[0, panel])
            _draw_column(axes, str(columns[i]), data[:, i], samples[:, i], legend=panel == 0)
        for panel, i in enumerate(_least_normal(z, n_panels)):
            _draw_latent(figure.add_subplot(grid[1, panel]), i, z[:, i], legend=panel == 0)
        _draw_quantiles(figure.add_subplot(grid[:, n_panels:]), z)
        figure.suptitle(f"{title}\n{subtitle}" if subtitle else title, fontsize=11, color=_NORMAL)
        figure.savefig(content, format=os.fspath(path).rpartition(".")[2].lower())
        plt.close(figure)
    write_atomically(path, content.getvalue())


def _standardised(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return (values - values.mean(0)) / values.std(0)


def _least_normal(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the columns that lie farthest from N(0, 1), by mean distance between quantiles."""
    distance = np.abs(np.sort(values, axis=0) - _normal_quantiles(len(values))[:, None]).mean(0)
    return np.argsort(-distance, kind="stable")[:count]


def _normal_quantiles(n: int) -> NDArray[np.float64]:
    from scipy.special import ndtri

    return ndtri((np.arange(n) + 0.5) / n)


def _bins(values: NDArray[np.float64]) -> NDArray[np.float64]:
    n_bins = int(np.clip(3 * len(values) ** (1 / 3), 10, 60))
    # One far outlier must not squeeze everything else into one bar.
    low, high = np.quantile(values, [0.002, 0.998])
    return np.linspace(low, high, n_bins + 1) if high > low else np.linspace(low - 1, low + 1, 11)


def _draw_column(axes, name: str, data, samples, *, legend: bool) -> None:
    bins = _bins(data)
    axes.hist(data, bins=bins, density=True, color=_DATA, label="table")
    axes.hist(samples, bins=bins, density=True, histtype="step", color=_MODEL, lw=1.3, label="flow")
    axes.set_title(name if len(name) <= 28 else f"{name[:27]}…")
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.locator_params(axis="x", nbins=4)
    if legend:
        axes.set_ylabel("least normal columns")
        axes.legend(frameon=False, fontsize=8, loc="upper right", handlelength=1.2)


def _draw_latent(axes, index: int, z, *, legend: bool) -> None:
    grid = np.linspace(-4.5, 4.5, 181)
    density = np.exp(-0.5 * grid**2) / np.sqrt(2 * np.pi)
    n_bins = int(np.clip(3 * len(z) ** (1 / 3), 10, 40))
    bins = np.linspace(-4.5, 4.5, n_bins + 1)
    axes.hist(z, bins=bins, density=True, color=_DATA, label="held-out rows")
    axes.plot(grid, density, color=_NORMAL, lw=1.3, label="N(0, 1)")
    axes.set_title(f"z[{index}]")
    axes.set_xlim(-4.5, 4.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    if legend:
        axes.set_ylabel("least normal coordinates of z")
        axes.set_ylim(top=1.35 * max(density.max(), axes.get_ylim()[1] / 1.05))
        axes.legend(frameon=False, fontsize=8, loc="upper right", handlelength=1.2)


def _draw_quantiles(axes, z) -> None:
    from scipy.special import ndtri
    from scipy.stats import beta

    n, d = z.shape
    normal = _normal_quantiles(n)
    rank = np.arange(1, n + 1)
    low, high = (ndtri(beta.ppf(q, rank, n + 1 - rank)) for q in (0.025, 0.975))
    limit = max(3.2, abs(normal[0]) * 1.15)
    axes.fill_between(
        normal, low, high, color=_DATA, alpha=0.45, lw=0, label="95 % of normal samples"
    )
    for i, column in enumerate(np.sort(z, axis=0).T):
        label = f"each of {d} coordinates" if i == 0 else None
        axes.plot(normal, column, color=_FAINT, lw=0.7, alpha=0.6, label=label)
    pooled = np.sort(z, axis=None)
    axes.plot(_normal_quantiles(n * d), pooled, color=_MODEL, lw=1.8, label="all together")
    axes.plot([-limit, limit], [-limit, limit], color=_NORMAL, lw=0.8, ls=(0, (4, 3)))
    axes.set_xlim(-limit, limit)
    axes.set_ylim(-1.35 * limit, 1.35 * limit)
    axes.set_xlabel("quantile of N(0, 1)")
    axes.set_ylabel("quantile of z, held-out rows")
    axes.set_title("z against the normal")
    axes.legend(frameon=False, fontsize=8, loc="upper left")
