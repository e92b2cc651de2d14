"""One picture of a fit: columns, latent coordinates, and each beside what it should be."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli import panels
from gauss_flows.cli.errors import InputError
from gauss_flows.selection.assemble import standard_deviations
from gauss_flows.selection.words import counted

SUFFIXES = (".png", ".pdf", ".svg")
_MAX_PANELS = 4
_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": panels.FAINT,
    "axes.labelcolor": panels.DARK,
    "xtick.color": panels.DARK,
    "ytick.color": panels.DARK,
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
    """Draw columns before the flow, coordinates after it, and z against the normal.

    The upper row shows the least normal columns as they are, with the flow's own samples over
    them. A flow rotates, so that no coordinate of z belongs to a column: the lower row shows the
    least normal coordinates, where what is left to learn is in sight. The right side has every
    coordinate's quantiles against the normal's.

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

    content = io.BytesIO()
    with plt.rc_context(_STYLE):
        figure = _compose(columns, data, samples, z)
        figure.suptitle(
            f"{title}\n{subtitle}" if subtitle else title, fontsize=11, color=panels.DARK
        )
        figure.savefig(content, format=os.fspath(path).rpartition(".")[2].lower())
        plt.close(figure)
    write_atomically(path, content.getvalue())


def _compose(columns: Sequence[str], data, samples, z) -> Any:
    from matplotlib import pyplot as plt

    n_panels = min(_MAX_PANELS, len(columns))
    width = max(2.35 * n_panels, 4.7)  # the rows' titles need room too
    figure: Any = plt.figure(figsize=(width + 4.6, 5.8), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=(width, 4.6))
    upper, lower = left.subfigures(2, 1)

    before = "columns, least normal first" if len(columns) > 1 else "the column"
    _title_row(upper, f"Before the flow: {before}", panels.TABLE_AND_FLOW)
    least_normal = _least_normal((data - data.mean(0)) / standard_deviations(data), n_panels)
    for axes, i in _panels_of(upper, least_normal):
        panels.draw_column(axes, str(columns[i]), data[:, i], samples[:, i])

    after = f"After the flow: z of {counted(len(z), 'held-out row')}"
    if len(columns) > 1:
        after += ", least normal first\n(each z mixes columns and is not that of the panel above)"
    _title_row(lower, after, panels.LATENT_AND_NORMAL)
    latents = _least_normal(z, n_panels)
    heights = [panels.draw_latent(axes, i, z[:, i]) for axes, i in _panels_of(lower, latents)]
    for axes in lower.axes:
        axes.set_ylim(
            0, panels.HEADROOM * max(heights)
        )  # one scale, or the normal would look different

    panels.draw_quantiles(right.subplots(), z)
    return figure


def _panels_of(subfigure: Any, indices: NDArray[np.intp]) -> list[tuple[Any, int]]:
    apart = {"wspace": 0.08}
    row = subfigure.subplots(1, len(indices), squeeze=False, gridspec_kw=apart)[0]
    return [(axes, int(i)) for axes, i in zip(row, indices, strict=True)]


def _title_row(subfigure: Any, text: str, legend: Sequence[tuple[str, Any]]) -> None:
    subfigure.suptitle(text, x=0.02, ha="left", fontsize=9.5, color=panels.DARK)
    handles = [make(label) for label, make in legend]
    subfigure.legend(
        handles=handles,
        loc="outside lower left",
        ncols=len(handles),
        frameon=False,
        fontsize=8,
        handlelength=1.2,
    )


def _least_normal(values: NDArray[np.float64], count: int) -> NDArray[np.intp]:
    """Return the columns that lie farthest from N(0, 1), by mean distance between quantiles."""
    normal = panels.normal_quantiles(len(values))[:, None]
    distance = np.abs(np.sort(values, axis=0) - normal).mean(0)
    return np.argsort(-distance, kind="stable")[:count]
