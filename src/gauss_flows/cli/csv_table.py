"""Reading CSV: which line holds the names, and what a column without a name is."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli.errors import InputError, listed, warn
from gauss_flows.cli.frame import Frame, cells_of, import_pandas, is_number, one_line

if TYPE_CHECKING:
    import pandas as pd

# What stands for a missing entry in a row of numbers. In a line of names they are names: NA is
# sodium.
_MISSING = {"", "na", "n/a", "#n/a", "<na>", "null", "none"}


def read_csv(path: Path) -> Frame:
    """Read a CSV file.

    Names are taken as they are written. A first line of numbers is data, unless it counts the
    columns: 0, 1, 2, … are the names that pandas writes for an array.

    Args:
        path: The file.

    Returns:
        Its columns, without those that are no data: row labels and empty ones, where they have no
        name. What is left out or named here is warned about.

    Raises:
        InputError: If it is no CSV.
    """
    pd = import_pandas()
    try:
        # As text, and apart from the rest: pandas would rename the second of two equal names.
        line = pd.read_csv(path, header=None, nrows=1, dtype=str, keep_default_na=False)
        first = [str(cell) for cell in line.iloc[0]]
        named = _is_header(first)
        # Since version 3, pandas rounds decimals correctly unasked, and objects to being asked.
        exact = {} if int(pd.__version__.split(".")[0]) >= 3 else {"float_precision": "round_trip"}
        frame = pd.read_csv(path, header=0 if named else None, low_memory=False, **exact)
    except pd.errors.EmptyDataError:
        raise InputError(f"cannot read {path}: the file is empty") from None
    except ValueError as fault:  # pandas' parser errors and undecodable text are of this class
        raise InputError(f"cannot read {path} as CSV: {one_line(fault)}") from None
    _check_shape(first, frame, path)
    if named:
        if _counts_columns(first):
            warn(f"{path} begins with 0, 1, 2, …: taken for the columns' names, not for a row")
        return _named_frame(first, frame, path)
    warn(f"{path} begins with a line of numbers, taken for data; the columns are x0, x1, …")
    return Frame([f"x{i}" for i in range(len(first))], lambda i: cells_of(frame, i), False)


def _is_header(first: Sequence[str]) -> bool:
    """Say whether the first line holds names: taking a row for names would lose it in silence."""
    numbers = [is_number(cell) for cell in first]
    is_row = any(numbers) and all(
        number or cell.strip().lower() in _MISSING
        for cell, number in zip(first, numbers, strict=True)
    )
    return not is_row or _counts_columns(first)


def _counts_columns(first: Sequence[str]) -> bool:
    """Say whether these are the names that pandas gives the columns of an array."""
    names = first[1:] if first[0] == "" else first  # before them, the empty name of the index
    return list(names) == [str(i) for i in range(len(names))]


def _check_shape(first: list[str], frame: pd.DataFrame, path: Path) -> None:
    if len(first) == 1 and any(mark in first[0] for mark in ";\t|"):
        raise InputError(f"cannot read {path} as CSV: expected commas between columns")
    if len(first) != frame.shape[1] or not isinstance(frame.index, import_pandas().RangeIndex):
        raise InputError(
            f"cannot read {path} as CSV: the rows have more entries than the {len(first)} names"
        )


def _named_frame(first: list[str], frame: pd.DataFrame, path: Path) -> Frame:
    kept, names, made_up = [], [], []
    for i, written in enumerate(first):
        name = written
        if not written.strip():
            name = f"column {i + 1}"
            reason = _is_no_data(cells_of(frame, i), is_first=i == 0)
            if reason:
                warn(f"{name} of {path} has no name and {reason}: it is left out")
                continue
            made_up.append(name)
        kept.append(i)
        names.append(name)
    if made_up:
        warn(f"without a name in {path}, and so called by their place: {listed(made_up)}")
    return Frame(names, lambda i: cells_of(frame, kept[i]), True)


def _is_no_data(cells: NDArray, *, is_first: bool) -> str:
    """Say why a column without a name is none to fit, or nothing.

    Row labels are what pandas and R write before the columns: a count of the rows, what a filter
    left of it, or words. No two rows have the same.
    """
    missing = np.array([cell is None or cell != cell for cell in cells], dtype=bool)
    if missing.all():
        return "no entries"
    whole = cells.dtype.kind == "f" and not missing.any() and np.all(cells % 1 == 0)
    if whole and np.array_equal(cells, np.arange(len(cells))):
        return "counts the rows"
    text = cells.dtype.kind == "O" and all(isinstance(cell, str) for cell in cells)
    if is_first and (whole or text) and len(set(cells)) == len(cells):
        return "labels the rows"
    return ""
