"""The report's sections on the flow: its samples, its intervals, its layers, its formulas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.audit import Discrepancy, audit_flow, draw_audit
from gauss_flows.diagnostics.calibration import (
    draw_interval_calibration,
    interval_calibration,
    pit_values,
)
from gauss_flows.diagnostics.classifier import (
    classifier_two_sample_test,
    draw_classifier_two_sample_test,
)
from gauss_flows.diagnostics.columns import (
    column_table,
    columns_height,
    draw_columns,
    least_alike,
)
from gauss_flows.diagnostics.layers import draw_layer_states, layer_states
from gauss_flows.diagnostics.pushforward import Rows
from gauss_flows.diagnostics.words import (
    Mark,
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
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.selection.words import counted

_MOST_LINES = 12
_CALIBRATED_ROWS = 1_000
_SAMPLES_A_ROW = 99
# Nats from which on what is left is more than a trifle.
_MANY_NATS = 0.05


def columns_section(rows: Rows, samples: np.ndarray, names: Sequence[str]) -> Section:
    """Columns of the data and of the flow's samples."""
    table = column_table(rows.x, samples)
    with drawing.own_style():
        figure = drawing.blank_figure(columns_height(len(names)))
        svg = drawing.as_svg(draw_columns(table, names, figure))
    smallest = float(min(1.0, len(names) * table.p_value.min()))  # columns depend on each other
    off = [j for j in _least(table.p_value) if table.p_value[j] < 0.05 / len(names)]
    found = f"differ in {listed([names[j] for j in off])}" if off else "agree column by column"
    order = _least(table.p_value, _MOST_LINES)
    lines = [
        (
            names[j],
            f"{number(rows.x[:, j].mean())}, {number(samples[:, j].mean())}",
            f"{number(rows.x[:, j].std())}, {number(samples[:, j].std())}",
            cell_p(float(table.p_value[j])),
        )
        for j in order
    ]
    told = "; ".join(
        f"{names[j]} has mean {number(rows.x[:, j].mean())} and standard deviation "
        f"{number(rows.x[:, j].std())} in the data, {number(samples[:, j].mean())} and "
        f"{number(samples[:, j].std())} in the samples"
        for j in least_alike(table).tolist()
    )
    return Section(
        "columns",
        "Columns: data and samples",
        Verdict(mark_of(smallest), f"Data and samples {found}."),
        "Each column of the data with the flow's own samples over it, the least alike first. The "
        "p-value is Kolmogorov and Smirnov's: of a difference as large by chance.",
        [Picture(svg, f"Histograms of columns, data and the flow's samples. {told}.")],
        [
            Numbers(
                _caption(len(names), "Data, samples"),
                ("column", "means", "sds", "p"),
                lines,
            )
        ],
    )


def classifier_section(rows: Rows, samples: np.ndarray, random_state: int) -> Section:
    """A classifier between the data and the flow's samples."""
    data, drawn = rows.x, samples
    if rows.condition is not None:
        data, drawn = (np.concatenate([table, rows.condition], axis=1) for table in (data, drawn))
    test = classifier_two_sample_test(data, drawn, random_state=random_state)
    with drawing.own_style():
        figure = drawing.blank_figure(3.6)
        axes = draw_classifier_two_sample_test(test, figure.subplots())
        axes.set_xlabel("share of samples taken for data")
        axes.set_ylabel("share of data found")
        svg = drawing.as_svg(figure)
    mark = mark_of(test.p_value)
    said = f"area under the curve {shown(test.auc)} ({said_p(test.p_value)})"
    found = "it cannot tell them apart" if mark == "fine" else "it tells them apart"
    return Section(
        "classifier",
        "A classifier between data and samples",
        Verdict(mark, f"{said[0].upper()}{said[1:]}: {found}."),
        "Boosted trees are trained to tell the data from the flow's samples, and asked about rows "
        "that they have not seen. An area of 0.5 is guessing, 1 is never wrong. It finds what is "
        "wrong between columns, too.",
        [
            Picture(
                svg,
                f"The classifier's ROC curve: {said}. Taking one in ten samples for data, it finds "
                f"{100 * test.true_positive[10]:.0f} % of the data; guessing finds 10 %.",
            )
        ],
        [
            Numbers(
                "Classifier two-sample test",
                ("figure", "value"),
                [
                    ("area ± standard error", shown(test.auc)),
                    ("p-value", cell_p(test.p_value)),
                    ("rows of data, of samples", f"{test.n_rows[0]}, {test.n_rows[1]}"),
                ],
            )
        ],
    )


def calibration_section(flow: Any, rows: Rows, names: Sequence[str], random_state: int) -> Section:
    """Coverage of predictive intervals."""
    part = slice(0, _CALIBRATED_ROWS)
    given = None if rows.condition is None else rows.condition[part]
    pit = pit_values(flow, rows.x[part], given, n_samples=_SAMPLES_A_ROW, random_state=random_state)
    table = interval_calibration(pit)
    with drawing.own_style():
        figure = drawing.blank_figure(3.0)
        draw_interval_calibration(table, figure.subplots())
        svg = drawing.as_svg(figure)
    smallest = float(min(1.0, len(names) * table.p_value.min()))  # columns depend on each other
    outside = [j for j in _least(table.p_value) if table.outside[j]]
    found = (
        f"Intervals of {listed([names[j] for j in outside])} do not cover what they should."
        if outside
        else "Intervals cover what they should."
    )
    order = _least(table.p_value, _MOST_LINES)
    shares, errors = (np.asarray(part) for part in table.covered)
    half, most = (int(np.argmin(np.abs(table.nominal - q))) for q in (0.5, 0.9))
    lines = [
        (
            names[j],
            *(f"{100 * shares[k, j]:.1f} ± {100 * errors[k, j]:.1f}" for k in (half, most)),
            cell_p(float(table.p_value[j])),
        )
        for j in order
    ]
    told = "; ".join(f"{name}: {a} % and {b} %" for name, a, b, _ in lines)
    whose = "of each column" if rows.condition is None else "of each column, given the condition"
    return Section(
        "intervals",
        "Coverage of intervals",
        Verdict(mark_of(smallest), found),
        f"The flow's central intervals {whose}: how many of {counted(table.n_rows, 'row')} they "
        "cover, against how many they should. Above zero they are too wide, below too narrow.",
        [Picture(svg, f"Coverage of intervals, nominal 50 % and 90 %, by column. {told}. {found}")],
        [
            Numbers(
                _caption(len(names), "Covered, in %"),
                ("column", "of 50 %", "of 90 %", "p"),
                lines,
            )
        ],
    )


def layers_section(flow: Any, rows: Rows, random_state: int) -> Section:
    """What each layer leaves."""
    states = layer_states(flow, rows.x, rows.condition, random_state=random_state)
    with drawing.own_style():
        figure = drawing.blank_figure(3.2)
        draw_layer_states(states, figure.subplots())
        svg = drawing.as_svg(figure)
    figures = (states.total_correlation, states.negentropy)
    total, negentropy = (_at(figure, -1) for figure in figures)
    start = " and ".join(
        f"{shown(_at(figure, 0))} nats of {name}"
        for figure, name in zip(figures, ("total correlation", "negentropy"), strict=True)
    )
    end = f"{shown(total)} of total correlation and {shown(negentropy)} of negentropy"
    lines = [
        (f"{i} {name}", *(shown(_at(figure, i)) for figure in figures))
        for i, name in enumerate(states.name)
    ]
    mark = _left(total, negentropy)
    found = f"{end}, no more than its error allows," if mark == "fine" else end
    return Section(
        "layers",
        "What each layer leaves",
        Verdict(mark, f"Of {start}, {found} is left in z."),
        "Total correlation is what the coordinates say about each other; negentropy is how far "
        "each is from a normal curve. Both in nats, both zero when the work is done, and both by "
        "estimates that may come out below zero. Layers that change nothing are left out.",
        [Picture(svg, f"Nats left after each of {len(lines) - 1} layers: of {start}, {end} in z.")],
        [Numbers("Nats left", ("after", "total correlation", "negentropy"), _some(lines))],
    )


def audit_section(flow: Any, rows: Rows, row_names: Sequence[str]) -> Section:
    """Round trips and log-determinants."""
    audit = audit_flow(flow, rows.x, rows.condition)
    with drawing.own_style():
        figure = drawing.blank_figure(3.2)
        draw_audit(audit, figure.subplots())
        svg = drawing.as_svg(figure)
    failed = audit.failed
    found = (
        f"Not within {number(audit.tolerance)}: {listed(failed)}."
        if failed
        else f"All within {number(audit.tolerance)}."
    )

    def line(name: str, one: Discrepancy, of_data: bool) -> tuple[str, ...]:
        row = row_names[one.row] if of_data else f"draw {one.row}"
        return name, number(one.largest), number(one.median), row

    lines = [
        line("x → z → x, in sds", audit.data_round_trip, True),
        line("z → x → z", audit.latent_round_trip, False),
        line("log-dets there + back, nats", audit.log_det_sum, True),
        line("log-det − Jacobian's, nats", audit.log_det_jacobian, True),
    ]
    told = "; ".join(f"{name}: at most {most}, median {middle}" for name, most, middle, _ in lines)
    return Section(
        "audit",
        "Round trips and log-determinants",
        Verdict("bad" if failed else "fine", found),
        "Whether the inverse undoes the flow, and whether the log-determinants, from which every "
        "density comes, are those of the Jacobian that automatic differentiation finds "
        f"({counted(audit.n_jacobians, 'row')}). In double precision, where only a wrong formula "
        "shows.",
        [
            Picture(
                svg,
                f"Largest discrepancies of each of {len(audit.layers)} layers and of the flow, on "
                f"a logarithmic scale. {told}. {found}",
            )
        ],
        [Numbers("The whole flow", ("what", "largest", "median", "worst row"), lines)],
    )


def _least(p_value: np.ndarray, most: int | None = None) -> list[int]:
    return np.argsort(p_value, kind="stable")[:most].tolist()


def _left(total: Estimate, negentropy: Estimate) -> Mark:
    mark: Mark = "fine"
    for value, error in (total, negentropy):
        if value > max(5 * error, _MANY_NATS):
            return "bad"
        if value > 2 * error:
            mark = "look"
    return mark


def _at(figure: Estimate, i: int) -> Estimate:
    value, error = np.asarray(figure.value), np.asarray(figure.standard_error)
    return Estimate(float(value[i]), float(error[i]))


def _some(lines: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """All lines of few, the first and last of many."""
    if len(lines) <= 2 * _MOST_LINES:
        return lines
    gap = ("…", "", "")
    return [*lines[:_MOST_LINES], gap, *lines[-_MOST_LINES:]]


def _caption(n: int, text: str) -> str:
    return text if n <= _MOST_LINES else f"{text}: {_MOST_LINES} of {n} columns"
