"""Faults of a table that only its values show, found once, at the door."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli.errors import InputError, listed, warn
from gauss_flows.cli.tables import Table

# A value that fills this share of a column is an atom: no density describes it.
_ATOM_SHARE = 0.1


def check_finite(table: Table) -> None:
    """Raise an `InputError` that names the first row and column that is NaN or infinite."""
    if not len(table.values):
        raise InputError(f"{table.source} has no rows")
    bad = ~np.isfinite(table.values)
    if bad.any():
        row, column = np.unravel_index(np.argmax(bad), bad.shape)
        value = table.values[row, column]
        shown = "missing or NaN" if np.isnan(value) else "infinite"
        more = f" ({bad.sum() - 1} more such entries)" if bad.sum() > 1 else ""
        raise InputError(
            f"column '{table.columns[column]}' of {table.source} is {shown} in row {row + 1}"
            f"{more}; leave out such rows, or the column with --exclude"
        )


def check_density_exists(table: Table) -> None:
    """Raise an `InputError` where no density can exist, and warn of columns with atoms.

    A constant column, one that repeats another, or one that the others determine leaves the rows
    on a surface of no volume.

    Args:
        table: Finite rows.

    Raises:
        InputError: With the columns named.
    """
    values, columns = table.values, table.columns
    _check_constant(values, columns)
    _check_repeated(values, columns)
    _check_dependent(values, columns)
    _warn_of_atoms(values, columns)


def check_n_rows(table: Table, n_train: int, n_components: int | None) -> None:
    """Raise an `InputError` if too few rows are left to fit.

    Args:
        table: The whole table.
        n_train: The number of its rows that are fitted.
        n_components: Mixture components asked for, if any.

    Raises:
        InputError: If the rows are fewer than the components, or no more than the columns.
    """
    n_rows, n_dims = table.values.shape
    rows = "row" if n_rows == 1 else "rows"
    what = f"{table.source} has {n_rows} {rows}, {n_train} of them to fit"
    if n_components is not None and n_train < n_components:
        raise InputError(f"{what}: expected at least as many as components; got {n_components}")
    if n_train <= n_dims + 1:
        raise InputError(f"{what}: expected at least {n_dims + 2} to fit {n_dims} columns")


def _check_constant(values: NDArray[np.float64], columns: tuple[str, ...]) -> None:
    constant = [columns[i] for i in np.flatnonzero(values.min(0) == values.max(0))]
    if constant:
        raise InputError(
            f"{'columns' if len(constant) > 1 else 'column'} {listed(constant, 30)} "
            "never change, so no density exists; leave them out with "
            f"--exclude {_as_option(constant)}"
        )


def _check_repeated(values: NDArray[np.float64], columns: tuple[str, ...]) -> None:
    first: dict[bytes, str] = {}
    for name, column in zip(columns, values.T, strict=True):
        # Adding zero makes -0.0 and 0.0 one value.
        other = first.setdefault((column + 0.0).tobytes(), name)
        if other != name:
            raise InputError(
                f"columns '{other}' and '{name}' are the same, so no joint density exists; "
                f"leave one out with --exclude {_as_option([name])}"
            )


def _check_dependent(values: NDArray[np.float64], columns: tuple[str, ...]) -> None:
    n_rows, n_dims = values.shape
    if n_rows <= n_dims:
        return  # too few rows to tell, which is its own fault
    scaled = (values - values.mean(0)) / values.std(0)
    # Column by column, what the ones before leave over: the diagonal of R.
    left = np.abs(np.diag(np.linalg.qr(scaled, mode="r"))) / np.sqrt(n_rows)
    dependent = np.flatnonzero(left < 1e-9)
    if dependent.size:
        name = columns[dependent[0]]
        raise InputError(
            f"column '{name}' is a linear combination of those before it, so no joint density "
            f"exists; leave it out with --exclude {_as_option([name])}"
        )


def _warn_of_atoms(values: NDArray[np.float64], columns: tuple[str, ...]) -> None:
    whole = [
        name for name, column in zip(columns, values.T, strict=True) if np.all(column % 1 == 0)
    ]
    if whole:
        warn(
            f"{listed(whole)} hold whole numbers: their values are atoms, a density can grow "
            "without limit there, and its likelihood measures the resolution too"
        )
    for name, column in zip(columns, values.T, strict=True):
        value, count = _commonest(column)
        if name not in whole and count > max(1, _ATOM_SHARE * len(column)):
            share = 100 * count / len(column)
            warn(f"'{name}' is {value:g} in {share:.0f} % of the rows: an atom, not a density")


def _commonest(column: NDArray[np.float64]) -> tuple[float, int]:
    found, counts = np.unique(column, return_counts=True)
    return float(found[np.argmax(counts)]), int(counts.max())


def _as_option(names: list[str]) -> str:
    return f'"{",".join(names)}"'
