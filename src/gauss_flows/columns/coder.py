"""A table as real coordinates, and back."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.columns.kinds import Kind
from gauss_flows.columns.support import kinds_of
from gauss_flows.columns.tables import Table, missing_in

Array = NDArray[np.float64]


class Coded(NamedTuple):
    """Rows as real coordinates.

    Args:
        rows: Codes of shape (n, d), NaN where a value is missing.
        log_det: What their log density gains for that of the table's own values, shape (n,), in
            nats; −inf where a value is outside its column's support.
    """

    rows: Array
    log_det: Array


@dataclass(frozen=True)
class Constant:
    """A column with one value, which no density can have."""

    value: Any


@dataclass(frozen=True)
class Copy:
    """A column that repeats another."""

    of: int


@dataclass(frozen=True)
class TableCoder:
    """The map between a table and real coordinates, one for each column that varies.

    Args:
        columns: What every column is.
        names: What messages call the columns.
        labels: A data frame's own names.
        dtypes: The columns' types, which values that come back have again.
    """

    columns: tuple[Kind | Constant | Copy, ...]
    names: tuple[str, ...]
    labels: tuple[Any, ...] | None
    dtypes: tuple[Any, ...]

    @classmethod
    def fit(cls, table: Table, support: Any = None, *, name: str = "X") -> TableCoder:
        """Learn what every column is.

        Args:
            table: The rows.
            support: See `kinds_of`.
            name: What messages call the table.

        Returns:
            The coder.

        Raises:
            ValueError: If a column's values are outside its support, or none varies.

        Warns:
            UserWarning: If columns are constant or repeat others: they are left out of the density
                and come back in what is decoded.
        """
        found: list[Kind | Constant | Copy] = []
        kinds = kinds_of(table, support, name)
        first: dict[Any, int] = {}
        for place, (column, kind) in enumerate(zip(table.columns, kinds, strict=True)):
            observed = column[~missing_in(column)]
            same = first.setdefault(_content(column), place)
            if (observed == observed[0]).all():
                found.append(Constant(observed[0]))
                continue
            if same == place:
                originals = (j for j, other in enumerate(found) if isinstance(other, Kind))
                alike = (j for j in originals if _agree(table.columns[j], column))
                same = next(alike, place)
            found.append(kind if same == place else Copy(same))
        coder = cls(
            tuple(found),
            tuple(table.names),
            None if table.labels is None else tuple(table.labels),
            tuple(table.dtypes),
        )
        coder._tell(name)
        return coder

    def _tell(self, name: str) -> None:
        named = list(zip(self.names, self.columns, strict=True))
        constant = [where for where, column in named if isinstance(column, Constant)]
        if not self.kinds:
            raise ValueError(
                f"Expected columns of {name} that vary; got the same value in every row of "
                f"{', '.join(constant)}."
            )
        left_out = [f"{where} is constant" for where in constant] + [
            f"{where} repeats {self.names[column.of]}"
            for where, column in named
            if isinstance(column, Copy)
        ]
        if left_out:
            warnings.warn(
                f"Columns of {name} without a density of their own: {', '.join(left_out)}. They "
                "are left out of it and come back in samples; rows that differ there have log "
                "density -inf.",
                stacklevel=4,
            )

    @property
    def kinds(self) -> list[Kind]:
        """The kinds of the columns that have a coordinate."""
        return [column for column in self.columns if isinstance(column, Kind)]

    @property
    def kept(self) -> list[int]:
        """The numbers of these columns."""
        return [j for j, column in enumerate(self.columns) if isinstance(column, Kind)]

    @property
    def coded_names(self) -> list[str]:
        """What messages call these columns."""
        return [self.names[j] for j in self.kept]

    @property
    def n_discrete(self) -> int:
        """How many of these are discrete."""
        return sum(kind.is_discrete for kind in self.kinds)

    def is_number(self, column: Kind | Constant | Copy) -> bool:
        """Say whether a column's values can be averaged and ordered."""
        if isinstance(column, Copy):
            column = self.columns[column.of]
        if isinstance(column, Constant):
            return isinstance(column.value, int | float | np.number)
        return isinstance(column, Kind) and column.is_number

    def described(self, place: int) -> str:
        """Say in words what values a column can have."""
        where, column = self.names[place], self.columns[place]
        if isinstance(column, Constant):
            return f"{where} {column.value}"
        return (
            f"{where} as {self.names[column.of]}"
            if isinstance(column, Copy)
            else f"{where} {column}"
        )

    def encode(self, table: Table, u: Array) -> Coded:
        """Code rows.

        Args:
            table: Rows with the columns that were learnt.
            u: Points of (0, 1), shape (n, n_discrete): where in its interval a discrete value goes.

        Returns:
            The coded rows.

        Raises:
            ValueError: If a column of numbers holds something else.
        """
        table = self.as_learnt(self.filled_from_copies(table))
        n = table.n_rows
        rows, log_det = np.zeros((n, len(self.kinds))), np.zeros(n)
        coordinate = discrete = 0
        for place, column in enumerate(self.columns):
            values = table.columns[place]
            missing = missing_in(values)
            if isinstance(column, Kind):
                inside = ~missing
                inside[inside] = column.holds(values[inside])
                points = np.full(n, 0.5)
                if column.is_discrete:
                    points = u[:, discrete]
                    discrete += 1
                codes, gained = column.encode(values[inside], points[inside])
                rows[inside, coordinate] = codes
                rows[missing, coordinate] = np.nan
                log_det[inside] += gained
                coordinate += 1
            elif isinstance(column, Copy):
                other = table.columns[column.of]
                inside = (values == other) | missing_in(other)
            else:
                inside = values == column.value
            log_det[~inside & ~missing] = -np.inf
        return Coded(rows, log_det)

    def as_learnt(self, table: Table, name: str = "X") -> Table:
        """Turn numbers that came as objects into numbers, in columns that had numbers.

        Args:
            table: Rows with the columns that were learnt.
            name: What messages call the table.

        Returns:
            The table.

        Raises:
            ValueError: If such a column holds something else; row and column are named.
        """
        places = [f"{where} of {name}" for where in self.names]
        triples = zip(self.columns, table.columns, places, strict=True)
        return table._replace(columns=[_as_learnt(*triple) for triple in triples])

    def filled_from_copies(self, table: Table) -> Table:
        """Where a column is missing and its copy is not, it is known all the same."""
        columns = list(table.columns)
        for place, column in enumerate(self.columns):
            if isinstance(column, Copy):
                known = columns[column.of]
                columns[column.of] = np.where(missing_in(known), columns[place], known)
        return table._replace(columns=columns)

    def only(self, places: Sequence[int]) -> TableCoder:
        """The coder of the columns with these numbers, none of which is left out of the density."""
        labels = None if self.labels is None else tuple(self.labels[j] for j in places)
        return TableCoder(
            tuple(self.columns[j] for j in places),
            tuple(self.names[j] for j in places),
            labels,
            tuple(self.dtypes[j] for j in places),
        )

    def first_outside(self, table: Table) -> tuple[int, int] | None:
        """Find a value outside its column's support: its row and column, or None.

        Args:
            table: Rows with the columns that were learnt.

        Raises:
            ValueError: If a column of numbers holds something else.
        """
        table = self.as_learnt(table)
        for place, column in enumerate(self.columns):
            values = table.columns[place]
            there = ~missing_in(values)
            if isinstance(column, Kind):
                there[there] = ~column.holds(values[there])
            elif isinstance(column, Constant):
                there[there] = values[there] != column.value
            else:
                other = table.columns[column.of]
                there &= (values != other) & ~missing_in(other)
            if there.any():
                return int(np.argmax(there)), place
        return None

    def decode(self, rows: Array) -> Any:
        """Turn codes into rows of the table's own kind.

        Args:
            rows: Codes of shape (n, d).

        Returns:
            A data frame with the names and types of the one that was learnt, or an array.
        """
        codes = iter(np.asarray(rows).T)
        values: list[NDArray[Any]] = []
        for column in self.columns:
            if isinstance(column, Kind):
                values.append(column.decode(next(codes)))
            elif isinstance(column, Copy):
                values.append(values[column.of])
            else:
                values.append(np.full(len(rows), column.value))
        if self.labels is None:
            return self._array(values)
        return self._frame(values)

    def _array(self, values: list[NDArray[Any]]) -> NDArray[Any]:
        array = np.column_stack(values)
        dtype = np.dtype(self.dtypes[0])
        # A real number is not rounded for the sake of a type of whole numbers.
        if dtype.kind in "iub" and not all(kind.is_discrete for kind in self.kinds):
            return array.astype(np.float64)
        return _within(array, dtype).astype(dtype)

    def _frame(self, values: list[NDArray[Any]]) -> Any:
        import pandas as pd

        assert self.labels is not None
        columns = []
        for column, value, dtype in zip(self.columns, values, self.dtypes, strict=True):
            kind = self.columns[column.of] if isinstance(column, Copy) else column
            is_real = isinstance(kind, Kind) and not kind.is_discrete
            keeps = not is_real or getattr(dtype, "kind", "f") not in "iub"
            series = pd.Series(_within(value, dtype) if keeps else value)
            columns.append(series.astype(dtype) if keeps else series)
        frame = pd.concat(columns, axis=1)
        frame.columns = pd.Index(self.labels)
        return frame


def _content(column: NDArray[Any]) -> Any:
    if column.dtype == object:
        return tuple(column.tolist())
    return (column + 0.0).tobytes()  # adding zero makes −0.0 and 0.0 one value


def _agree(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Say whether columns with gaps are the same wherever both have values, which are several."""
    gone, also = missing_in(one), missing_in(other)
    if not (gone.any() or also.any()):
        return False  # without gaps their contents are compared
    both = ~gone & ~also
    values = one[both]
    return bool(both.sum() > 2 and (values == other[both]).all() and (values != values[0]).any())


def _within(values: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Bring whole numbers into the range of their type, where they would wrap around."""
    dtype = getattr(dtype, "numpy_dtype", dtype)
    if getattr(dtype, "kind", "f") not in "iu" or values.dtype == object:
        return values
    # As float64 the largest int64 is one too many.
    info = np.iinfo(dtype)
    high = np.nextafter(float(info.max), 0.0) if info.max > 2**53 else float(info.max)
    return np.clip(values, float(info.min), high)


def _as_learnt(column: Kind | Constant | Copy, values: NDArray[Any], where: str) -> NDArray[Any]:
    if not (isinstance(column, Kind) and column.is_number and values.dtype == object):
        return values
    numbers = np.full(len(values), np.nan)
    for row, value in enumerate(values):
        try:
            numbers[row] = np.nan if value is None else float(value)
        except (TypeError, ValueError):
            raise ValueError(
                f"Expected numbers in {where}, which had numbers when it was fitted; got {value!r} "
                f"in row {row}."
            ) from None
    return numbers
