"""The file a fit leaves: the flow in the table's units, and what is known about it."""

from __future__ import annotations

import os
import warnings
from typing import Any, NamedTuple

import jax
import numpy as np
from flowjax.distributions import AbstractTransformed
from numpy.typing import NDArray

from gauss_flows.cli.errors import InputError, listed, warn
from gauss_flows.cli.tables import Table
from gauss_flows.selection.words import counted
from gauss_flows.serialization import FlowFileError, load, load_metadata, save


class FlowFile(NamedTuple):
    """A saved flow.

    Attributes:
        flow: The flow, in the units of the table.
        columns: The names of its columns.
        named: Whether the names came with the table, rather than being made up.
        summary: What `fit` reported.
    """

    flow: AbstractTransformed
    columns: tuple[str, ...]
    named: bool
    summary: dict[str, Any]


def save_flow(path: str | os.PathLike[str], file: FlowFile) -> None:
    """Save a flow whole or not at all.

    Args:
        path: The file.
        file: What to save.
    """
    metadata = {
        "kind": "gauss-flows fit",
        "columns": list(file.columns),
        "named": file.named,
        "summary": file.summary,
    }
    with jax.enable_x64(True):
        save(file.flow, path, metadata)


def load_flow(path: str | os.PathLike[str]) -> FlowFile:
    """Load a flow that `save_flow` saved.

    Args:
        path: The file.

    Returns:
        What was saved.

    Raises:
        InputError: If the file is missing, damaged or no fit.
    """
    try:
        metadata = load_metadata(path)
        if metadata.get("kind") != "gauss-flows fit":
            raise InputError(
                f"{path} holds a flow, but gauss-flows fit did not save it: its columns are unknown"
            )
        with jax.enable_x64(True), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            flow = load(path)
    except FlowFileError as fault:
        raise InputError(" ".join(str(fault).split())) from None
    except OSError as fault:
        raise InputError(f"cannot read {path}: {fault.strerror or fault}") from None
    return FlowFile(flow, tuple(metadata["columns"]), metadata["named"], metadata["summary"])


def check_replaceable(path: str | os.PathLike[str]) -> None:
    """Raise an `InputError` if a file is there that is no flow, and so is not ours to replace."""
    if not os.path.exists(path) or os.path.getsize(path) == 0:
        return
    try:
        load_metadata(path)
    except (FlowFileError, OSError):
        raise InputError(
            f"cannot write {path}: expected a new name or a flow file to replace; "
            "got a file that is no flow, which --output would destroy (remove it first if it is "
            "not needed)"
        ) from None


def matched_rows(file: FlowFile, path: str, table: Table) -> NDArray[np.float64]:
    """Return a table's rows in the order of a flow's columns.

    Columns are matched by name where both sides have names, otherwise by place.

    Args:
        file: The flow.
        path: Where it was read from, for messages.
        table: The table.

    Returns:
        Rows of shape (n, d).

    Raises:
        InputError: If a column is missing, or the width is wrong.
    """
    if file.named and table.named:
        missing = [name for name in file.columns if name not in table.columns]
        if missing:
            raise InputError(
                f"{table.source} lacks {listed(missing)}, which {path} was fitted to "
                f"(it has {listed(table.columns, 12)})"
            )
        unused = [name for name in table.columns if name not in file.columns]
        if unused:
            warn(f"{path} does not use {listed(unused)} of {table.source}")
        return table.values[:, [table.columns.index(name) for name in file.columns]]
    width = table.values.shape[1]
    if width != len(file.columns):
        raise InputError(
            f"{table.source} has {counted(width, 'column')}: {path} was fitted to "
            f"{len(file.columns)} "
            f"({listed(file.columns)})"
        )
    return table.values
