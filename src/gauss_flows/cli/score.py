"""`gauss-flows score`: the log density of each row of a table."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli import tables
from gauss_flows.cli.checks import check_finite
from gauss_flows.cli.errors import warn
from gauss_flows.cli.flow_file import load_flow, matched_rows
from gauss_flows.cli.outputs import check_apart, check_writable
from gauss_flows.cli.report import as_json
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.words import counted, nats, shown

_SHOWN = 5
# Farther down the square of z has overflowed, whatever number stands for it.
_LOWEST = -1e300


def run(arguments: Namespace) -> None:
    """Score the table, save or summarise the log densities."""
    if arguments.output:
        check_writable(arguments.output, tables.SUFFIXES)
        check_apart({"--output": arguments.output}, [arguments.flow, arguments.table])
    file = load_flow(arguments.flow)
    # A column that the flow does not use may hold anything.
    wanted = file.columns if file.named else None
    table = tables.read_table(arguments.table, prefer=wanted)
    rows = matched_rows(file, arguments.flow, table)
    check_finite(table._replace(values=rows, columns=file.columns))
    scores = log_density(file.flow, rows)
    scores[scores < _LOWEST] = -np.inf
    _warn_of_infinite(scores, arguments.table)
    if arguments.output:
        tables.write_table(arguments.output, scores[:, None], ["log_density"])
    mean = Estimate.of_mean(scores)
    order = np.argsort(scores, kind="stable")[:_SHOWN]
    if arguments.json:
        print(
            as_json(
                {
                    "flow": arguments.flow,
                    "table": arguments.table,
                    "n_rows": len(scores),
                    "mean_log_density": mean,
                    "output": arguments.output,
                    "log_density": None if arguments.output else scores.tolist(),
                }
            )
        )
        return
    print(f"{arguments.table}: {counted(len(scores), 'row')}, log density {shown(mean)} nats a row")
    lowest = ", ".join(f"row {row + 1} ({nats(float(scores[row]))})" for row in order)
    print(f"least likely: {lowest}")
    if arguments.output:
        print(f"saved {arguments.output}")


def _warn_of_infinite(scores: NDArray[np.float64], source: str) -> None:
    """Say how many rows have no finite density: JSON can only call them null."""
    rows = np.flatnonzero(~np.isfinite(scores))
    if rows.size:
        warn(
            f"{counted(rows.size, 'row')} of {source} got no finite log density, the first is row "
            f"{rows[0] + 1}: too far from the data for double precision (null in JSON)"
        )
