"""`gauss-flows sample`: rows drawn from a flow."""

from __future__ import annotations

from argparse import Namespace

from gauss_flows.cli import tables
from gauss_flows.cli.evaluate import draw
from gauss_flows.cli.flow_file import load_flow
from gauss_flows.cli.outputs import check_apart, check_writable
from gauss_flows.cli.report import as_json, counted


def run(arguments: Namespace) -> None:
    """Draw the rows and write them, in the units of the table that was fitted."""
    check_writable(arguments.output, tables.SUFFIXES)
    check_apart({"--output": arguments.output}, [arguments.flow])
    file = load_flow(arguments.flow)
    rows = draw(file.flow, arguments.n, arguments.seed)
    tables.write_table(arguments.output, rows, file.columns)
    if arguments.json:
        said = {
            "flow": arguments.flow,
            "n_rows": arguments.n,
            "seed": arguments.seed,
            "columns": file.columns,
            "output": arguments.output,
        }
        print(as_json(said))
    else:
        size = f"{counted(arguments.n, 'row')}, {counted(len(file.columns), 'column')}"
        print(f"saved {arguments.output}: {size}")
