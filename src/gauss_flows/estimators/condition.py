"""What a conditional density is given: y, read and coded as X is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import Table, is_frame, read_array, read_frame

Array = NDArray[np.float64]


def read_condition(y: Any, n_rows: int | None = None) -> Table:
    """Read y.

    Args:
        y: Shape (n,) or (n, c): numbers, truth values, or text, or a data frame or series.
        n_rows: How many rows it must have, if that is known.

    Returns:
        The table.

    Raises:
        ValueError: If it has another number of rows, no columns, or holds infinite values or times.
    """
    if is_frame(y):
        table = read_frame(y if hasattr(y, "columns") else y.to_frame(), "y")
    else:
        array = np.asarray(y)
        if array.ndim == 1:
            array = array[:, None]
        if array.ndim != 2 or not array.size:
            raise ValueError(f"Expected y of shape (n,) or (n, c); got {np.shape(y)}.")
        # Truth values stay what they are: categories.
        is_number = array.dtype.kind in "iuf"
        table = read_array(array.astype(np.float64 if is_number else object), "y", array.dtype)
    if not table.n_rows:
        raise ValueError("Expected rows in y; got none.")
    if n_rows is not None and table.n_rows != n_rows:
        raise ValueError(
            f"Expected one row of y for each of the {n_rows} rows of X; got {table.n_rows}."
        )
    return table


def check_within(coder: TableCoder, table: Table) -> None:
    """Check that what is given can be: its probability must not be zero.

    Args:
        coder: The coder of y.
        table: Rows of y.

    Raises:
        ValueError: If it has other columns, text among numbers, or values outside their support.
    """
    if len(table.columns) != len(coder.columns):
        raise ValueError(f"Expected y with {len(coder.columns)} columns; got {len(table.columns)}.")
    learnt, got = coder.labels or (), table.labels or ()
    if learnt and got and list(got) != list(learnt):
        raise ValueError(
            f"Expected y with the columns {', '.join(map(repr, learnt))} in this order; got "
            f"{', '.join(map(repr, got))}."
        )
    outside = coder.first_outside(coder.as_learnt(table, "y"))
    if outside is not None:
        row, place = outside
        raise ValueError(
            f"Expected y within its support, {coder.described(place)}; got "
            f"{table.columns[place][row]} in row {row}."
        )
