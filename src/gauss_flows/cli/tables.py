"""Reading and writing tables: CSV, Parquet, NPY and the tables bundled with scikit-learn."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli.csv_table import read_csv
from gauss_flows.cli.errors import InputError, listed, suggestion
from gauss_flows.cli.frame import Frame, cells_of, import_pandas, is_number, one_line

SUFFIXES = (".csv", ".parquet", ".npy")
BUNDLED = ("breast_cancer", "diabetes", "digits", "iris", "wine")


class Table(NamedTuple):
    """A table of numbers.

    Attributes:
        values: The numbers, shape (n, d).
        columns: The name of each column.
        named: Whether the names came with the data, or were made up (`x0`, `x1`, …).
        source: Where it was read from, for messages.
    """

    values: NDArray[np.float64]
    columns: tuple[str, ...]
    named: bool
    source: str


def read_table(
    source: str,
    *,
    columns: Sequence[str] | None = None,
    exclude: Sequence[str] = (),
    prefer: Sequence[str] | None = None,
) -> Table:
    """Read a table of numbers.

    Args:
        source: A path ending in `.csv`, `.parquet` or `.npy`, or `sklearn:NAME`.
        columns: The columns to keep, by name and in this order; all when None.
        exclude: Columns to leave out.
        prefer: Columns to keep alone where the table has all of them.

    Returns:
        The table; missing entries are NaN.

    Raises:
        InputError: If it cannot be read, a column is unknown, or one holds no numbers.
    """
    frame = _read(source)
    if prefer is not None and frame.named and set(prefer) <= set(frame.names):
        columns = prefer
    chosen = _choose(frame.names, columns, exclude, source)
    values = [_as_numbers(frame.column(i), frame.names[i], source) for i in chosen]
    stacked = np.stack(values, axis=1) if values else np.zeros((0, 0))
    return Table(stacked, tuple(frame.names[i] for i in chosen), frame.named, source)


def write_table(
    path: str | os.PathLike[str], values: NDArray[np.float64], columns: Sequence[str]
) -> None:
    """Write a table whole or not at all.

    Args:
        path: A path ending in `.csv`, `.parquet` or `.npy` (which keeps no names).
        values: The numbers, shape (n, d).
        columns: The name of each column.
    """
    from gauss_flows.training.atomic_file import write_atomically

    content = io.BytesIO()
    suffix = Path(path).suffix.lower()
    if suffix == ".npy":
        np.save(content, values)
    else:
        frame = import_pandas().DataFrame(values, columns=list(columns))
        write = frame.to_csv if suffix == ".csv" else frame.to_parquet
        write(content, index=False)
    write_atomically(path, content.getvalue())


def _read(source: str) -> Frame:
    if source.startswith("sklearn:"):
        return _read_bundled(source.removeprefix("sklearn:"))
    path = Path(source)
    reader = {".csv": read_csv, ".parquet": _read_parquet, ".npy": _read_npy}.get(
        path.suffix.lower()
    )
    if reader is None:
        raise InputError(
            f"cannot read {source}: expected a name ending in {', '.join(SUFFIXES)}, "
            f"or sklearn:NAME; got '{path.suffix}'"
        )
    if path.is_dir():
        raise InputError(f"cannot read {source}: it is a folder")
    try:
        if path.stat().st_size == 0:
            raise InputError(f"cannot read {source}: the file is empty")
        return reader(path)
    except FileNotFoundError:
        raise InputError(f"cannot read {source}: there is no such file") from None
    except PermissionError:
        raise InputError(f"cannot read {source}: permission denied") from None
    except OSError as fault:
        raise InputError(f"cannot read {source}: {one_line(fault)}") from None


def _read_bundled(name: str) -> Frame:
    if name not in BUNDLED:
        raise InputError(
            f"there is no bundled table 'sklearn:{name}'{suggestion(name, BUNDLED)} "
            f"(known: {', '.join(BUNDLED)})"
        )
    from sklearn import datasets

    bundle = getattr(datasets, f"load_{name}")()
    return Frame([str(n) for n in bundle.feature_names], lambda i: bundle.data[:, i], True)


def _read_parquet(path: Path) -> Frame:
    pd = import_pandas()
    try:
        frame = pd.read_parquet(path)
    except Exception as fault:  # pyarrow has an error class for each kind of damage
        raise InputError(f"cannot read {path} as Parquet: {one_line(fault)}") from None
    return Frame([str(n) for n in frame.columns], lambda i: cells_of(frame, i), True)


def _read_npy(path: Path) -> Frame:
    try:
        values = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as fault:
        raise InputError(f"cannot read {path} as NPY: {one_line(fault)}") from None
    if not isinstance(values, np.ndarray) or values.ndim != 2:
        shape = getattr(values, "shape", "an archive")
        raise InputError(f"cannot read {path}: expected a 2-D array; got shape {shape}")
    return Frame([f"x{i}" for i in range(values.shape[1])], lambda i: values[:, i], False)


def _choose(
    names: list[str], columns: Sequence[str] | None, exclude: Sequence[str], source: str
) -> list[int]:
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{source} has more than one column named {listed(twice)}")
    for name in [*(columns or ()), *exclude]:
        if name not in names:
            raise InputError(
                f"{source} has no column '{name}'{suggestion(name, names)} "
                f"(columns: {listed(names, 40)})"
            )
    wanted = list(columns) if columns is not None else names
    repeated = sorted({name for name in wanted if wanted.count(name) > 1})
    if repeated:
        raise InputError(f"--columns names {listed(repeated)} more than once")
    chosen = [names.index(name) for name in wanted if name not in exclude]
    if not chosen:
        raise InputError(f"{source} has no columns to use")
    return chosen


def _as_numbers(cells: NDArray, name: str, source: str) -> NDArray[np.float64]:
    if cells.dtype.kind in "fiub":
        return np.asarray(cells, dtype=np.float64)
    missing = [cell is None or cell is np.nan or str(cell) == "<NA>" for cell in cells]
    for row, cell in enumerate(cells):
        # Digits kept as text are codes more often than quantities, so they are refused too, but
        # an entry that is no number at all says more.
        if not missing[row] and not is_number(cell):
            raise _not_numbers(name, source, row, cell)
    for row, cell in enumerate(cells):
        if isinstance(cell, str):
            raise _not_numbers(name, source, row, cell)
    return np.array(
        [np.nan if gone else float(cell) for gone, cell in zip(missing, cells, strict=True)]
    )


def _not_numbers(name: str, source: str, row: int, cell: object) -> InputError:
    return InputError(
        f"column '{name}' of {source} does not hold numbers: row {row + 1} is "
        f"{str(cell)[:40]!r}; choose others with --columns, or leave it out with --exclude"
    )
