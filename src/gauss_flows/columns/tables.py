"""Reading tables: arrays of numbers, and data frames whose columns have types of their own."""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_TIMES = (datetime.date, datetime.timedelta, np.datetime64, np.timedelta64)


class Table(NamedTuple):
    """Columns of one length.

    Args:
        columns: Arrays of shape (n,): float64 with NaN for missing values, or objects with None.
        names: What messages call them.
        labels: The data frame's own names, in its order; None for an array.
        dtypes: The columns' types as they came.
    """

    columns: list[NDArray[Any]]
    names: list[str]
    labels: list[Any] | None
    dtypes: list[Any]

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self.columns[0])

    def rows(self, which: NDArray[Any]) -> Table:
        """The rows of a mask of shape (n,), or with these numbers."""
        return self._replace(columns=[column[which] for column in self.columns])

    def only(self, places: Sequence[int]) -> Table:
        """The columns with these numbers."""
        labels = None if self.labels is None else [self.labels[j] for j in places]
        return Table(
            [self.columns[j] for j in places],
            [self.names[j] for j in places],
            labels,
            [self.dtypes[j] for j in places],
        )


def is_frame(x: Any) -> bool:
    """Say whether something is a pandas data frame (or series)."""
    return hasattr(x, "iloc") and hasattr(x, "index")


def read_frame(frame: Any, name: str) -> Table:
    """Read a pandas data frame.

    Args:
        frame: The frame.
        name: What messages call it.

    Returns:
        The table.

    Raises:
        ValueError: If it has no columns, or one of them holds neither numbers, truth values,
            categories nor text, or an infinite number.
    """
    from pandas import CategoricalDtype, PeriodDtype
    from pandas.api import types

    if not len(frame.columns):
        raise ValueError(f"Expected columns in {name}; got none in a frame of {len(frame)} rows.")
    columns = []
    names = [f"column {str(label)!r}" for label in frame.columns]
    for place, where in enumerate(names):
        series = frame.iloc[:, place]
        if types.is_bool_dtype(series.dtype) or not types.is_numeric_dtype(series.dtype):
            if (
                types.is_datetime64_any_dtype(series.dtype)
                or types.is_timedelta64_dtype(series.dtype)
                or isinstance(series.dtype, PeriodDtype)
            ):
                raise _no_times(series.dtype, name, where)
            values = _objects(series, name, where)
            # Who makes dates or numbers categories has said so.
            if not isinstance(series.dtype, CategoricalDtype):
                _check_no_times(values, name, where)
                values = _numbers_or_objects(values)
            columns.append(values)
        elif types.is_complex_dtype(series.dtype):
            raise ValueError(f"Complex data not supported: {where} of {name} is {series.dtype}.")
        else:
            columns.append(series.to_numpy("float64", na_value=np.nan))
    table = Table(columns, names, list(frame.columns), list(frame.dtypes))
    _check_finite(table, name)
    return table


def read_array(array: NDArray[Any], name: str, dtype: Any = None) -> Table:
    """Read an array of shape (n, d), with NaN for missing values.

    Args:
        array: The array, float64 or objects.
        name: What messages call it.
        dtype: Its type as it came.

    Returns:
        The table.

    Raises:
        ValueError: If a number is infinite, or a value is a time.
    """
    n_columns = array.shape[1]
    columns = [np.ascontiguousarray(column) for column in array.T]
    names = [f"column {j}" for j in range(n_columns)]
    # As objects some types of time would be whole numbers.
    if getattr(dtype, "kind", "") in ("m", "M"):
        raise _no_times(dtype, name, names[0])
    if array.dtype == object:
        columns = [_without_nan(column) for column in columns]
        for column, where in zip(columns, names, strict=True):
            _check_no_times(column, name, where)
    table = Table(columns, names, None, [array.dtype if dtype is None else dtype] * n_columns)
    _check_finite(table, name)
    return table


def _objects(series: Any, name: str, where: str) -> NDArray[Any]:
    missing = series.isna().to_numpy()
    values = series.astype(object).to_numpy(copy=True)
    values[missing] = None
    for row, value in enumerate(values):
        try:
            hash(value)
        except TypeError:
            raise ValueError(
                f"Expected numbers, truth values, categories or text in {name}; got {value!r} in "
                f"row {row}, {where}."
            ) from None
    return values


def _check_no_times(values: NDArray[Any], name: str, where: str) -> None:
    """Refuse times among objects, of which every day would be a level of its own."""
    for row, value in enumerate(values):
        # A span of pandas' is no date of Python's.
        if isinstance(value, _TIMES) or type(value).__name__ == "Period":
            raise _no_times(repr(value), name, f"row {row}, {where}")


def _no_times(got: Any, name: str, where: str) -> ValueError:
    return ValueError(
        f"Expected numbers, truth values, categories or text in {name}; got {got} in {where}. "
        "Turn it into numbers, such as days since a date."
    )


def _numbers_or_objects(values: NDArray[Any]) -> NDArray[Any]:
    """Turn objects that are all numbers, as a column with gaps may hold them, into numbers."""
    there = [value for value in values if value is not None]
    if not there or not all(is_number(value) for value in there):
        return values
    return np.array([np.nan if value is None else float(value) for value in values])


def is_number(value: Any) -> bool:
    """Say whether something is a real number; a truth value is none."""
    return isinstance(value, int | float | np.number) and not isinstance(
        value, bool | np.complexfloating
    )


def _without_nan(column: NDArray[Any]) -> NDArray[Any]:
    values = np.empty(len(column), object)
    values[:] = [None if value != value else value for value in column.tolist()]
    return values


def missing_in(column: NDArray[Any]) -> NDArray[np.bool_]:
    """Say which values of a column are missing."""
    if column.dtype == object:
        return np.array([value is None for value in column], bool)
    return np.isnan(column)


def _check_finite(table: Table, name: str) -> None:
    for column, where in zip(table.columns, table.names, strict=True):
        if column.dtype != object and np.isinf(column).any():
            row = int(np.argmax(np.isinf(column)))
            raise ValueError(
                f"Expected finite values in {name}; got {column[row]} in row {row}, {where}. "
                "Missing values are NaN."
            )
