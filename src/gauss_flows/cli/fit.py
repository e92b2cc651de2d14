"""`gauss-flows fit`: fit a flow to a table, compare it with baselines, save it."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from typing import Any, NamedTuple

import numpy as np
from flowjax.distributions import Transformed
from numpy.typing import NDArray

from gauss_flows._version import __version__
from gauss_flows.cli import pictures, tables
from gauss_flows.cli.baselines import Baseline, fit_baselines
from gauss_flows.cli.checks import check_density_exists, check_finite, check_n_rows
from gauss_flows.cli.errors import InputError
from gauss_flows.cli.flow_file import FlowFile, check_replaceable, save_flow
from gauss_flows.cli.info import describe, n_parameters
from gauss_flows.cli.interrupt import check_interrupt
from gauss_flows.cli.outputs import check_apart, check_writable
from gauss_flows.cli.report import as_json, plain
from gauss_flows.cli.sample import drawn
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.selection.assemble import (
    standard_deviations,
    standardise,
    standardiser,
    with_standardiser,
)
from gauss_flows.selection.evaluate import log_density, to_latent
from gauss_flows.selection.families import NEED_TWO_COLUMNS
from gauss_flows.selection.fitting import Settings, fit_flow
from gauss_flows.selection.words import counted, nats, shown

_DRAWN = 5_000
_PAGES = (".html", ".htm")
_SHOWN = 3


class Split(NamedTuple):
    """Row numbers to fit and to hold out."""

    train: NDArray[np.intp]
    test: NDArray[np.intp]


def split_rows(n_rows: int, test_fraction: float, seed: int) -> Split:
    """Split rows at random.

    Args:
        n_rows: How many rows.
        test_fraction: The share to hold out; at least one row is.
        seed: Seed of the split.

    Returns:
        The row numbers of both parts, in their order in the table.
    """
    order = np.random.default_rng(seed).permutation(n_rows)
    n_test = max(1, round(test_fraction * n_rows))
    return Split(np.sort(order[n_test:]), np.sort(order[:n_test]))


def run(arguments: Namespace) -> None:
    """Fit, compare, save and report."""
    start = time.perf_counter()
    _check_outputs(arguments)
    table = tables.read_table(arguments.table, columns=arguments.columns, exclude=arguments.exclude)
    check_finite(table)
    split = split_rows(len(table.values), arguments.test_fraction, arguments.seed)
    train, test = table.values[split.train], table.values[split.test]
    check_n_rows(table, len(train), arguments.n_components)
    check_density_exists(table._replace(values=train))
    if train.shape[1] == 1 and arguments.family in NEED_TWO_COLUMNS:
        raise InputError(
            f"a {arguments.family} flow needs two columns; got one: use --family diagonal"
        )

    talks = not (arguments.quiet or arguments.json)
    tell = _progress if talks else lambda _: None
    units = standardiser(train)
    settings = Settings(
        family=arguments.family,
        n_layers=arguments.n_layers,
        n_components=arguments.n_components,
        max_epochs=arguments.max_epochs,
        learning_rate=arguments.learning_rate,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        show_progress=talks and sys.stderr.isatty(),
    )
    fitted = fit_flow(standardise(units, train), settings, tell)
    flow = with_standardiser(units, fitted.flow)
    scores = log_density(flow, test)
    tell("fitting the baselines")
    # The baselines see standardised rows; their densities are brought back to the table's units.
    log_scale = np.float64(units.log_scale).sum()
    baselines = [
        baseline._replace(log_density=baseline.log_density - log_scale)
        for baseline in fit_baselines(
            standardise(units, train), standardise(units, test), arguments.seed
        )
    ]
    summary: dict[str, Any] = {
        "version": __version__,
        "table": arguments.table,
        "n_rows": len(table.values),
        "n_train": len(train),
        "n_test": len(test),
        "test_fraction": arguments.test_fraction,
        "seed": arguments.seed,
        "columns": table.columns,
        "means": train.mean(0).tolist(),
        "standard_deviations": standard_deviations(train).tolist(),
        "family": fitted.family,
        "n_blocks": fitted.n_blocks,
        "recipe": str(fitted.recipe),
        "n_parameters": n_parameters(flow),
        "log_likelihood": Estimate.of_mean(scores),
        "baselines": [_compared(baseline, scores) for baseline in baselines],
        "candidates": [one._asdict() for one in fitted.candidates],
        "training": _training(fitted.history),
        "least_likely_held_out_rows": [
            {"row": int(split.test[i]) + 1, "log_density": float(scores[i])}
            for i in np.argsort(scores, kind="stable")[:_SHOWN]
        ],
        "seconds": round(time.perf_counter() - start, 2),
    }
    check_interrupt()
    save_flow(arguments.output, FlowFile(flow, table.columns, table.named, plain(summary)))
    if arguments.picture:
        pictures.draw_fit(
            arguments.picture,
            columns=table.columns,
            data=table.values,
            samples=drawn(flow, _DRAWN, arguments.seed),
            z=to_latent(flow, test),
            title=f"{arguments.table}: {describe(summary)}",
            subtitle=f"held-out log-likelihood {shown(summary['log_likelihood'])} nats a row",
        )
    if arguments.report:
        tell("judging the flow by the held-out rows")
        _write_report(arguments, flow, table, split, summary)
    if arguments.json:
        files = {key: getattr(arguments, key) for key in ("output", "picture", "report")}
        print(as_json({**summary, **files}))
    elif not arguments.quiet:
        _print_report(summary, arguments)


def _check_outputs(arguments: Namespace) -> None:
    check_writable(arguments.output, not_ending=(*tables.SUFFIXES, *pictures.SUFFIXES, *_PAGES))
    if arguments.picture:
        pictures.check_matplotlib()
        check_writable(arguments.picture, pictures.SUFFIXES)
    if arguments.report:
        pictures.check_matplotlib()
        check_writable(arguments.report, _PAGES)
    outputs = {f"--{key}": getattr(arguments, key) for key in ("output", "picture", "report")}
    check_apart(outputs, [arguments.table])
    check_replaceable(arguments.output)


def _write_report(
    arguments: Namespace, flow: Transformed, table: tables.Table, split: Split, summary: Any
) -> None:
    """Write the page on how the flow does on the rows it was not fitted to."""
    from gauss_flows.diagnostics import report

    n_train, n_test = counted(len(split.train), "row"), counted(len(split.test), "row")
    try:
        report(
            flow,
            table.values[split.test],
            arguments.report,
            title=f"{arguments.table}: {describe(summary)}",
            columns=table.columns,
            row_names=[f"row {i + 1}" for i in split.test],
            facts=[f"Fitted to {n_train}, judged by {n_test} held out."],
            random_state=arguments.seed,
        )
    except ValueError as fault:
        raise InputError(
            f"the flow is in {arguments.output}, but {arguments.report} was not written, as the "
            f"latents z of the rows held out cannot be judged: {fault}"
        ) from None


def _progress(line: str) -> None:
    print(f"  {line}", file=sys.stderr)


def _compared(baseline: Baseline, scores: NDArray[np.float64]) -> dict[str, Any]:
    return {
        "name": baseline.name,
        "n_components": baseline.n_components,
        "log_likelihood": Estimate.of_mean(baseline.log_density),
        # Row by row: much of what makes a row likely is common to both.
        "gain": Estimate.of_mean(scores - baseline.log_density),
    }


def _training(history: dict[str, Any]) -> dict[str, Any] | None:
    if not history:
        return None
    losses = [float(loss) for loss in history["val"] or history["train"]]
    return {
        "n_epochs": len(losses),
        "best_epoch": int(np.argmin(losses)) + 1 if losses else 0,
        "best_validation_loss": min(losses, default=None),
        "stopped": history.get("stopped"),
    }


def _print_report(summary: dict[str, Any], arguments: Namespace) -> None:
    size = f"{counted(summary['n_rows'], 'row')}, {counted(len(summary['columns']), 'column')}"
    print(
        f"{summary['table']}: {size}; {counted(summary['n_train'], 'row')} to fit, "
        f"{summary['n_test']} held out (seed {summary['seed']})"
    )
    print(f"fitted a {describe(summary)}, {counted(summary['n_parameters'], 'parameter')}")
    training = summary["training"]
    if training:
        epochs = counted(training["n_epochs"], "epoch")
        print(f"trained for {epochs}, the best was {training['best_epoch']}")
        if training["stopped"]:
            print(f"training stopped: {training['stopped']}")
    print()
    print(f"{'log-likelihood of held-out rows, nats a row':44}{'':20}{'the flow gains':>18}")
    rows = [("this flow", summary["log_likelihood"], None)]
    rows += [(b["name"], b["log_likelihood"], b["gain"]) for b in summary["baselines"]]
    for name, value, gain in rows:
        # Wide figures push the next column on rather than run into it.
        print(f"  {name:42}{shown(value):>20}{'' if gain is None else '  ' + shown(gain):>18}")
    print()
    unlikely = ", ".join(
        f"{entry['row']} ({nats(entry['log_density'])})"
        for entry in summary["least_likely_held_out_rows"]
    )
    print(f"least likely held-out rows: {unlikely}")
    saved = [path for path in (arguments.output, arguments.picture, arguments.report) if path]
    print(f"saved {' and '.join(saved)}", end="")
    print(f" after {summary['seconds']:.1f} s")
