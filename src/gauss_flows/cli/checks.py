"""Faults of a table that only its values show, found once, at the door."""

from __future__ import annotations

import warnings

import numpy as np
from numpy.typing import NDArray

from gauss_flows.cli.errors import InputError, warn
from gauss_flows.cli.tables import Table
from gauss_flows.selection.words import counted

# A value that fills this share of a column is an atom: no density describes it.
_ATOM_SHARE = 0.1


class _NamedRows:
    """Rows that tell the library's checks what their columns are called."""

    def __init__(self, values: NDArray[np.float64], columns: tuple[str, ...]):
        self.values = values
        self.columns = columns

    def __array__(self, dtype=None, copy=None) -> NDArray[np.float64]:
        return np.array(self.values, dtype=dtype, copy=copy)


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
    """Find out whether the rows have a density, and warn of columns with atoms.

    Args:
        table: Finite rows, those to be fitted.

    Raises:
        InputError: If a column is constant, repeats another or follows from the others; or if
            there are no more rows than columns. The columns are named.
    """
    from gauss_flows.rbig.checks import check_table

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            check_table(_NamedRows(table.values, table.columns), name=table.source)
        except ValueError as fault:
            raise InputError(f"{fault} (--exclude leaves columns out)") from None
    for warning in caught:
        warn(str(warning.message))
    _warn_of_atoms(table)


def check_n_rows(table: Table, n_train: int, n_components: int | None) -> None:
    """Raise an `InputError` if too few rows are left to fit.

    Args:
        table: The whole table.
        n_train: The number of its rows that are fitted.
        n_components: Mixture components asked for, if any.

    Raises:
        InputError: If the rows are fewer than the components, or hardly more than the columns.
    """
    n_rows, n_dims = table.values.shape
    what = f"{table.source} has {counted(n_rows, 'row')}, {n_train} of them to fit"
    if n_components is not None and n_train < n_components:
        raise InputError(f"{what}: expected at least as many as components; got {n_components}")
    if n_train < n_dims + 2:
        raise InputError(
            f"{what}: expected at least {n_dims + 2} to fit {counted(n_dims, 'column')}"
        )


def _warn_of_atoms(table: Table) -> None:
    for name, column in zip(table.columns, table.values.T, strict=True):
        if np.all(column % 1 == 0):
            continue  # whole numbers have had their warning
        found, counts = np.unique(column, return_counts=True)
        value, count = found[np.argmax(counts)], counts.max()
        if count > max(1, _ATOM_SHARE * len(column)):
            share = 100 * count / len(column)
            warn(f"'{name}' is {value:g} in {share:.0f} % of the rows: an atom, not a density")
