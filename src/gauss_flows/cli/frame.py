"""Columns as they are found in a file, before they are known to be numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


class Frame(NamedTuple):
    """The columns of a file.

    Attributes:
        names: Their names.
        column: From the place of a column to its cells.
        named: Whether the names came with the data, rather than being made up.
    """

    names: list[str]
    column: Callable[[int], NDArray]
    named: bool


def import_pandas() -> Any:
    """Return pandas, or raise an `InputError` that says how to install it."""
    try:
        import pandas
        import pyarrow  # noqa: F401  (what pandas reads and writes Parquet with)
    except ImportError as missing:
        raise InputError(
            f"reading and writing CSV and Parquet needs {missing.name}: "
            'pip install "gauss-flows[cli]"'
        ) from None
    return pandas


def cells_of(frame: pd.DataFrame, index: int) -> NDArray:
    """Return the cells of one column: numbers with NaN for what is missing, or objects."""
    series = frame.iloc[:, index]
    if import_pandas().api.types.is_numeric_dtype(series.dtype):
        if series.dtype.kind == "c":
            return series.to_numpy()
        return series.to_numpy(dtype=np.float64, na_value=np.nan)
    return series.to_numpy(dtype=object)


def is_number(cell: object) -> bool:
    """Say whether a cell is a real number, or text that reads as one."""
    if isinstance(cell, (complex, np.complexfloating)):
        return False
    try:
        float(cell)  # pyright: ignore[reportArgumentType]  (the question is whether it can)
    except (TypeError, ValueError):
        return False
    return True


def one_line(fault: BaseException) -> str:
    """Return what a fault says, in one line of bounded length."""
    text = fault.strerror if isinstance(fault, OSError) and fault.strerror else str(fault)
    return " ".join(text.split())[:200]
