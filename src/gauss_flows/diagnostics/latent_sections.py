"""The report's sections on the latents: are they N(0, I)?"""

from __future__ import annotations

import contextlib

import numpy as np

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.energy import draw_energy_distance, energy_distance
from gauss_flows.diagnostics.henze_zirkler import draw_henze_zirkler, henze_zirkler
from gauss_flows.diagnostics.quantiles import (
    PITTable,
    QQTable,
    draw_pit,
    draw_qq,
    pit_table,
    qq_height,
    qq_table,
)
from gauss_flows.diagnostics.words import (
    Numbers,
    Picture,
    Section,
    Verdict,
    cell_p,
    listed,
    mark_of,
    number,
    said_p,
    shown,
)
from gauss_flows.selection.words import counted

_MOST_LINES = 12


def quantile_section(z: np.ndarray) -> Section:
    """Quantiles of each coordinate."""
    table = qq_table(z)
    with drawing.own_style():
        svg = drawing.as_svg(draw_qq(table, drawing.blank_figure(qq_height(z.shape[1]))))
    ends = f"{number(table.normal[0])} to {number(table.normal[-1])}"
    told = [
        f"z[{j}] runs from {number(table.sample[0, j])} to {number(table.sample[-1, j])}, "
        f"{said_p(float(table.p_value[j]))}"
        for j in np.argsort(table.p_value, kind="stable")[:6]
    ]
    alternative = (
        f"Quantiles of z against those of N(0, 1), which run from {ends} for "
        f"{table.n_rows} rows. {'; '.join(told)}. {_inside(table)}"
    )
    rows = [
        (
            f"z[{j}]",
            number(z[:, j].mean()),
            number(z[:, j].std(ddof=1)),
            f"{number(table.sample[0, j])}, {number(table.sample[-1, j])}",
            cell_p(float(table.p_value[j])),
        )
        for j in np.argsort(table.p_value, kind="stable")[:_MOST_LINES]
    ]
    header = ("", "mean", "sd", "ends", "p")
    return Section(
        "quantiles",
        "Quantiles of the latents",
        Verdict(mark_of(_smallest(table.p_value)), _inside(table)),
        "If the flow is right, every coordinate of z is a standard normal: its quantiles lie on "
        "the dashed line, and all of all coordinates stay in the grey band in "
        f"{100 * table.level:.3g} of 100 tables. A line steeper than the dashed one means tails "
        "heavier than the flow's, a flatter one lighter; a shift means a wrong centre. The least "
        "normal coordinates are shown.",
        [Picture(svg, alternative)],
        [Numbers(_caption(z, "Coordinates of z, least normal first"), header, rows)],
    )


def probability_section(z: np.ndarray) -> Section:
    """Probability integral transforms of each coordinate."""
    table = pit_table(z)
    with drawing.own_style():
        figure = drawing.blank_figure(3.0)
        draw_pit(table, figure.subplots())
        svg = drawing.as_svg(figure)
    gaps = table.share - table.point[:, None]
    worst = np.argmax(np.abs(gaps), axis=0)
    order = np.argsort(table.p_value, kind="stable")[:_MOST_LINES]
    rows = [
        (
            f"z[{j}]",
            *(number(table.share[_nearest(table.point, p), j]) for p in (0.1, 0.5, 0.9)),
            f"{number(float(gaps[worst[j], j]))} at {table.point[worst[j]]:.2g}",
            cell_p(float(table.p_value[j])),
        )
        for j in order
    ]
    first = int(order[0])
    middle = len(table.point) // 2
    alternative = (
        "Share of Φ(z) below p less p, for p from 0 to 1, with a band that is "
        f"{number(table.low[middle] - table.point[middle])} to "
        f"{number(table.high[middle] - table.point[middle])} in the middle. The farthest "
        f"coordinate, z[{first}], is off by {number(gaps[worst[first], first])} at p = "
        f"{table.point[worst[first]]:.2g}. {_inside(table)}"
    )
    return Section(
        "probabilities",
        "Probabilities of the latents",
        Verdict(mark_of(_smallest(table.p_value)), _inside(table)),
        "Φ(z), the probability that the flow gives to smaller values, should be uniform. A curve "
        "below zero on the left and above on the right means that the flow is too wide, the other "
        "way round that it is too narrow.",
        [Picture(svg, alternative)],
        [
            Numbers(
                _caption(z, "Share of Φ(z) below p, least uniform first"),
                ("", "p = 0.1", "0.5", "0.9", "largest gap", "p"),
                rows,
            )
        ],
    )


def energy_section(z: np.ndarray, random_state: int) -> Section:
    """The energy distance to N(0, I)."""
    distance = energy_distance(z, random_state=random_state)
    with drawing.own_style():
        figure = drawing.blank_figure(2.5)
        draw_energy_distance(distance, figure.subplots())
        svg = drawing.as_svg(figure)
    mark = mark_of(distance.p_value)
    found = "as far from N(0, I) as chance puts normal rows" if mark == "fine" else (
        "farther from N(0, I) than chance puts normal rows"
    )  # fmt: skip
    usual = f"{number(np.quantile(distance.null, 0.95))}"
    said = f"{shown(distance.estimate)} ({said_p(distance.p_value)})"
    return Section(
        "energy",
        "Energy distance to N(0, I)",
        Verdict(mark, f"{said}: {found}."),
        "One number for all coordinates together, and for what they have to do with each other: "
        "zero only for N(0, I). It has no bias, so that it lies below zero as often as above "
        "where the flow is right. Grey is what normal rows give.",
        [
            Picture(
                svg,
                f"The squared energy distance, {said}, among those of {len(distance.null)} samples "
                f"of N(0, I), 95 % of which are below {usual}.",
            )
        ],
        [
            Numbers(
                "Squared energy distance",
                ("figure", "value"),
                [
                    ("distance ± standard error", shown(distance.estimate)),
                    ("95 % of normal samples below", usual),
                    ("p-value", cell_p(distance.p_value)),
                ],
            )
        ],
    )


def henze_zirkler_section(z: np.ndarray, random_state: int) -> Section:
    """Henze and Zirkler's test."""
    test = henze_zirkler(z, random_state=random_state)
    shape = None
    # Too few rows, or a row so far out that it relates columns, have no shape to be asked about.
    with contextlib.suppress(ValueError):
        shape = henze_zirkler(z, parameters="estimated", random_state=random_state)
    with drawing.own_style():
        figure = drawing.blank_figure(2.5)
        draw_henze_zirkler(test, figure.subplots())
        svg = drawing.as_svg(figure)
    mark = mark_of(test.p_value)
    found = "no sign against N(0, I)" if mark == "fine" else "the rows are not from N(0, I)"
    said = f"statistic {number(test.statistic)} ({said_p(test.p_value)})"
    rows = [
        ("statistic", number(test.statistic)),
        ("mean ± sd for N(0, I)", f"{number(test.mean)} ± {number(np.sqrt(test.variance))}"),
        ("p-value", cell_p(test.p_value)),
        ("rows used", str(test.n_rows)),
    ]
    if shape is not None:
        rows.append(("p-value, any normal", cell_p(shape.p_value)))
    return Section(
        "henze-zirkler",
        "Henze–Zirkler test of N(0, I)",
        Verdict(mark, f"{said}: {found}."),
        "Compares characteristic functions, and is sensitive to shape where the energy distance "
        "is to place. Mean 0 and covariance I are part of the hypothesis; 'any normal' asks about "
        "the shape only, with mean and covariance taken from the rows, where they have one. "
        "p-values are from simulated normal samples.",
        [
            Picture(
                svg,
                f"The Henze–Zirkler {said}, among those of {len(test.null)} samples of N(0, I), "
                f"95 % of which are below {number(np.quantile(test.null, 0.95))}.",
            )
        ],
        [Numbers("Henze–Zirkler test", ("figure", "value"), rows)],
    )


def _smallest(p_value: np.ndarray) -> float:
    """The p-value of the least normal of several independent coordinates."""
    return float(1 - (1 - p_value.min()) ** len(p_value))


def _inside(table: QQTable | PITTable) -> str:
    outside = np.flatnonzero(table.outside)
    d = len(table.p_value)
    if not outside.size:
        return (
            "The only coordinate stays inside." if d == 1 else f"All {d} coordinates stay inside."
        )
    named = listed([f"z[{j}]" for j in outside[np.argsort(table.p_value[outside], kind="stable")]])
    leaves = "leaves" if outside.size == 1 else "leave"
    return f"{counted(outside.size, 'coordinate')} of {d} {leaves} the band: {named}."


def _caption(z: np.ndarray, text: str) -> str:
    d = z.shape[1]
    return text if d <= _MOST_LINES else f"{text}: {_MOST_LINES} of {d}"


def _nearest(points: np.ndarray, p: float) -> int:
    return int(np.argmin(np.abs(points - p)))
