"""All diagnostics of a flow on one page."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from gauss_flows._version import __version__
from gauss_flows.diagnostics import drawing, flow_sections, latent_sections
from gauss_flows.diagnostics.page import html_page
from gauss_flows.diagnostics.pushforward import (
    OpenFlow,
    Pushed,
    Rows,
    check_rows,
    draw,
    layers_of,
    open_flow,
    to_latent,
)
from gauss_flows.diagnostics.words import (
    Mark,
    Numbers,
    Section,
    Verdict,
    number,
    shown,
)
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.numerics.normal import LOG_SQRT_2PI
from gauss_flows.rbig.options import check_seed
from gauss_flows.selection.words import counted
from gauss_flows.training.atomic_file import write_atomically

_LOWEST = 5
_NOTES = (
    "A p-value is the probability of a finding as large if the flow were the truth. A flow that "
    "is the truth has one below 0.05 in one check of twenty, and with very many rows the smallest "
    "fault is found: look at the size of what was found, too. Rows that the flow was fitted to "
    "make it look better than it is."
)


class Report(NamedTuple):
    """What a report says.

    Args:
        path: Where the page is.
        log_likelihood: Mean log-density of the rows, in nats.
        verdicts: What each check found, by its name.
    """

    path: Path
    log_likelihood: Estimate
    verdicts: dict[str, Verdict]


def report(
    flow: Any,
    x: Any,
    path: str | os.PathLike[str],
    *,
    condition: Any = None,
    title: str = "Is this flow a good fit?",
    columns: Sequence[str] | None = None,
    row_names: Sequence[str] | None = None,
    facts: Sequence[str] = (),
    random_state: int = 0,
) -> Report:
    """Judge a flow by rows it was not fitted to, and write what is found as one HTML page.

    The page holds its pictures and asks for nothing else: it can be mailed, and read on a phone.
    Every picture has its numbers in words beside it. The checks are those of
    `gauss_flows.diagnostics`; one that needs more rows than there are says so.

    Args:
        flow: A flow, conditional or not: a flowjax `Transformed` with a normal base.
        x: Rows, an array or data frame of shape (n, d), whose column names are used.
        path: The file to write, whole or not at all.
        condition: Conditions of the rows, shape (n, c), for a conditional flow.
        title: The page's title.
        columns: Names of the columns, instead of the data frame's.
        row_names: Names of the rows; by default their numbers, counted from 0.
        facts: Lines to put below the title, such as how the flow was fitted.
        random_state: Seed of all that is random.

    Returns:
        Where the page is, and its verdicts.

    Raises:
        ValueError: If it is no flow with a normal latent, a table has another width or holds what
            is no finite number (row and column are named), names are of another number, or the
            flow sends a row to what is not finite. Nothing is written then.
        OSError: If the folder is missing, or there is something that is no file.
        ImportError: If matplotlib is missing.

    Example:
        >>> import pathlib, tempfile
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> from gauss_flows.diagnostics import report
        >>> x = np.random.default_rng(0).gamma(2.0, size=(400, 2))
        >>> flow = gf.fit_rbig(x[:300], n_layers=1)
        >>> page = report(flow, x[300:], pathlib.Path(tempfile.mkdtemp()) / "fit.html")
        >>> page.verdicts["audit"].mark
        'fine'
    """
    check_seed(random_state)
    drawing.import_matplotlib()
    target = _check_path(path)
    opened = open_flow(flow)
    rows = check_rows(opened, x, condition)
    n, d = rows.x.shape
    names = _names("columns", columns, d, _column_names(x, d))
    numbers = _names("row_names", row_names, n, [f"row {i}" for i in range(n)])
    pushed = _checked(to_latent(opened, rows), numbers)
    log_density = _log_density(pushed)
    log_likelihood = Estimate.of_mean(log_density)
    sections = _sections(flow, opened, rows, pushed.rows, names, numbers, random_state)
    sections.append(_unlikely(log_density, numbers))
    lines = (
        *facts,
        f"{counted(n, 'row')}, {counted(d, 'column')}"
        + (f", given {opened.cond_dim} more" if opened.cond_dim else "")
        + f"; {counted(len(layers_of(opened)), 'layer')}. "
        f"Mean log-density {shown(log_likelihood)} nats a row. gauss-flows {__version__}.",
    )
    page = html_page(title, lines, _headline(sections), sections, _NOTES)
    write_atomically(target, page.encode("utf-8"))
    return Report(target, log_likelihood, {one.name: one.verdict for one in sections})


def _sections(
    flow: Any,
    opened: OpenFlow,
    rows: Rows,
    z: np.ndarray,
    names: list[str],
    row_names: list[str],
    seed: int,
) -> list[Section]:
    n, d = rows.x.shape
    samples = draw(opened, n, rows.condition, seed)
    latent, whole = latent_sections, flow_sections
    plan: list[tuple[str, str, int, Callable[[], Section]]] = [
        ("quantiles", "Quantiles of the latents", 10, lambda: latent.quantile_section(z)),
        ("probabilities", "Probabilities of the latents", 10,
         lambda: latent.probability_section(z)),
        ("energy", "Energy distance to N(0, I)", 4, lambda: latent.energy_section(z, seed)),
        ("henze-zirkler", "Henze–Zirkler test of N(0, I)", 4,
         lambda: latent.henze_zirkler_section(z, seed)),
        ("columns", "Columns: data and samples", 4,
         lambda: whole.columns_section(rows, samples, names)),
        ("classifier", "A classifier between data and samples", 20,
         lambda: whole.classifier_section(rows, samples, seed)),
        ("intervals", "Coverage of intervals", 10,
         lambda: whole.calibration_section(flow, rows, names, seed)),
        ("layers", "What each layer leaves", max(50, d + 1),
         lambda: whole.layers_section(flow, rows, seed)),
        ("audit", "Round trips and log-determinants", 1,
         lambda: whole.audit_section(flow, rows, row_names)),
    ]  # fmt: skip
    return [
        make() if n >= fewest else _too_few(name, title, fewest, n)
        for name, title, fewest, make in plan
    ]


def _too_few(name: str, title: str, fewest: int, n: int) -> Section:
    text = f"This needs at least {counted(fewest, 'row')}; there {'is' if n == 1 else 'are'} {n}."
    return Section(name, title, Verdict("none", text), "", [], [])


def _unlikely(log_density: np.ndarray, row_names: list[str]) -> Section:
    order = np.argsort(log_density, kind="stable")[:_LOWEST]
    lines = [(row_names[i], number(float(log_density[i]))) for i in order]
    middle = number(float(np.median(log_density)))
    first = f"{lines[0][0]} with {lines[0][1]} nats; the median is {middle}."
    return Section(
        "unlikely",
        "Least likely rows",
        Verdict("none", f"The least likely is {first}"),
        "The rows that the flow finds strangest: mistakes in the data, rare cases, or what the "
        "flow has not learnt. No check, only where to look.",
        [],
        [Numbers("Lowest log-densities", ("row", "nats"), lines)],
    )


def _headline(sections: Sequence[Section]) -> str:
    marks: list[Mark] = [section.verdict.mark for section in sections]
    n_checks = sum(mark != "none" for mark in marks)
    n_found = sum(mark in ("look", "bad") for mark in marks)
    if not n_found:
        return f"None of {counted(n_checks, 'check')} found anything wrong."
    verb = "found" if "bad" in marks else "may have found"
    return f"{n_found} of {counted(n_checks, 'check')} {verb} something."


def _log_density(pushed: Pushed) -> np.ndarray:
    d = pushed.rows.shape[1]
    return pushed.log_det - 0.5 * np.sum(pushed.rows**2, axis=1) - d * LOG_SQRT_2PI


def _checked(pushed: Pushed, row_names: list[str]) -> Pushed:
    whole = np.isfinite(pushed.rows).all(1) & np.isfinite(pushed.log_det)
    if not whole.all():
        row = int(np.argmin(whole))
        raise ValueError(
            f"Expected latents that are finite; got {pushed.rows[row]} with log-determinant "
            f"{pushed.log_det[row]} for {row_names[row]} of x."
        )
    return pushed


def _column_names(x: Any, d: int) -> list[str]:
    columns = getattr(x, "columns", None)
    if columns is None or len(columns) != d:
        return [f"column {j}" for j in range(d)]
    return [str(column) for column in columns]


def _names(what: str, given: Sequence[str] | None, n: int, default: list[str]) -> list[str]:
    if given is None:
        return default
    if len(given) != n:
        raise ValueError(f"Expected {n} {what}; got {len(given)}.")
    return [str(name) for name in given]


def _check_path(path: str | os.PathLike[str]) -> Path:
    """Find out before the work that a file cannot be written."""
    target = Path(path)
    if target.is_dir():
        raise IsADirectoryError(f"Expected a file to write the report to; got the folder {target}.")
    if target.exists() and not target.is_file():
        raise OSError(f"Expected a regular file to replace; {target} is a device or a pipe.")
    folder = Path(os.path.realpath(target)).parent
    if not folder.is_dir():
        raise FileNotFoundError(f"Expected a folder to write the report to; there is no {folder}.")
    return target
