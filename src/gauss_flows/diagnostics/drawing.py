"""What all pictures of the diagnostics share: matplotlib, found late, colours and sizes."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Iterator
from typing import Any

# Told apart by everyone, on paper too (Okabe and Ito's palette).
SEEN, EXPECTED, BAND, OFF, FAINT = "#0072b2", "#30363d", "#c9d6e2", "#c8553d", "#7d8b99"

_STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.labelcolor": EXPECTED,
    "xtick.color": EXPECTED,
    "ytick.color": EXPECTED,
    "legend.frameon": False,
    "legend.fontsize": 8,
    "svg.hashsalt": "gauss-flows",  # the same figure is the same bytes
}
# A page's column on a phone is some 330 pixels wide: wider figures would have letters too small.
WIDTH = 4.1


def import_matplotlib() -> Any:
    """Return matplotlib.

    Raises:
        ImportError: If it is missing; the message names the extra to install.
    """
    try:
        import matplotlib
    except ImportError:
        raise ImportError(
            'Drawing diagnostics needs matplotlib: pip install "gauss-flows[cli]"'
        ) from None
    return matplotlib


def axes_or_new(axes: Any) -> Any:
    """Return the axes, or those of a new pyplot figure when there are none."""
    import_matplotlib()
    if axes is not None:
        return axes
    from matplotlib import pyplot as plt

    return plt.subplots(figsize=(WIDTH, 3.2), layout="constrained")[1]


def figure_or_new(figure: Any, height: float) -> Any:
    """Return the figure, or a new pyplot figure when there is none."""
    import_matplotlib()
    if figure is not None:
        return figure
    from matplotlib import pyplot as plt

    return plt.figure(figsize=(WIDTH, height), layout="constrained")


@contextlib.contextmanager
def own_style() -> Iterator[None]:
    """Draw in the report's style, and leave the user's as it was."""
    with import_matplotlib().rc_context(_STYLE):
        yield


def blank_figure(height: float) -> Any:
    """Return a figure that pyplot does not know and no window shows."""
    import_matplotlib()
    from matplotlib.figure import Figure

    return Figure(figsize=(WIDTH, height), layout="constrained")


def as_svg(figure: Any) -> bytes:
    """Return a figure as SVG, the same bytes every time."""
    content = io.BytesIO()
    figure.savefig(content, format="svg", metadata={"Date": None, "Creator": None})
    return content.getvalue()


def against_null(axes: Any, null: Any, value: float, p_value: float) -> None:
    """Draw a statistic among its values by chance.

    Args:
        axes: Matplotlib axes.
        null: Values by chance, shape (m,).
        value: The statistic.
        p_value: Its p-value.
    """
    axes.hist(null, bins=40, color=BAND, label="samples of N(0, I)")
    colour = OFF if p_value < 0.05 else SEEN
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    # The line ends below the legend.
    axes.axvline(value, ymax=0.72, color=colour, lw=1.8, label="these rows")
    legend_above(axes)


def legend_above(axes: Any, n_columns: int = 2, room: float = 0.4) -> None:
    """Put the legend above what is drawn.

    Args:
        axes: Matplotlib axes.
        n_columns: Its columns.
        room: Height to add, as a share of the axes'.
    """
    low, high = (axes.transScale.transform((1.0, y))[1] for y in axes.get_ylim())
    top = axes.transScale.inverted().transform((1.0, high + room * (high - low)))[1]
    axes.set_ylim(axes.get_ylim()[0], top)
    axes.legend(loc="upper left", ncols=n_columns, columnspacing=1.0, handlelength=1.4)
