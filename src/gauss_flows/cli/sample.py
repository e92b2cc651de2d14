"""`gauss-flows sample`: rows drawn from a flow."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
from flowjax.distributions import AbstractTransformed
from numpy.typing import NDArray

from gauss_flows.cli import tables
from gauss_flows.cli.errors import InputError
from gauss_flows.cli.flow_file import load_flow
from gauss_flows.cli.outputs import check_apart, check_writable
from gauss_flows.cli.report import as_json
from gauss_flows.selection.evaluate import draw
from gauss_flows.selection.words import counted


def drawn(flow: AbstractTransformed, n: int, seed: int) -> NDArray[np.float64]:
    """Return rows of `draw`; an `InputError` says that the flow cannot draw them."""
    try:
        return draw(flow, n, seed)
    except ValueError as fault:
        raise InputError(str(fault)) from None


def run(arguments: Namespace) -> None:
    """Draw the rows and write them, in the units of the table that was fitted."""
    check_writable(arguments.output, tables.SUFFIXES)
    check_apart({"--output": arguments.output}, [arguments.flow])
    file = load_flow(arguments.flow)
    rows = drawn(file.flow, arguments.n, arguments.seed)
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
