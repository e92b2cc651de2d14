"""Rows that are equal more often than those of independent draws."""

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Independent rows have fewer pairs of equal ones than so many times those that chance explains; ten
# leaves room for rounded columns that nearly follow from each other.
_FAR_MORE_COPIES, _FAR_MORE_COMMON = 10, 3
# Pairs that are never told: as a share of the rows, and between two tables.
_FEW_COPIES, _FEW_COMMON = 0.1, 5


def warn_of_copies(tables: dict[str, Array]) -> None:
    """Warn if more rows are equal than ties within single columns explain.

    Args:
        tables: Rows in the units they came in, each of shape (n, d), by the names of the tables.
    """
    told = []
    for name, table in tables.items():
        counts = _counts(table)
        excess = _pairs(counts) - _FEW_COPIES * len(table)
        # Columns of whole numbers alone are counts or codes, which repeat of themselves.
        if excess > 0 and not np.all(table % 1 == 0) and excess > _FAR_MORE_COPIES * _chance(table):
            told.append(f"{len(table) - len(counts)} of {len(table)} rows in {name}")
    if told:
        warnings.warn(
            f"Copies of rows: {' and '.join(told)} repeat others in every column. Measures take "
            "rows for independent and would find dependence, and too small errors, in copies. "
            "Leave the copies out.",
            stacklevel=4,
        )


def warn_of_common_rows(x: Array, y: Array) -> None:
    """Warn if more rows of x are rows of y than chance explains.

    Args:
        x: Rows, shape (n, d).
        y: Rows, shape (m, d).
    """
    # Adding zero makes −0.0 and 0.0 one value.
    _, labels = np.unique(np.concatenate([x, y]) + 0.0, axis=0, return_inverse=True)
    labels = labels.ravel()
    of_x, of_y = (
        np.bincount(part, minlength=labels.max() + 1) for part in np.split(labels, [len(x)])
    )
    # Of independent rows no more are equal between tables than within, by Cauchy and Schwarz. One
    # pair more is allowed for where a short table has none.
    chance = 2 * np.sqrt((_pairs(of_x) + 1) * (_pairs(of_y) + 1) - 1)
    if of_x @ of_y > _FAR_MORE_COMMON * chance + _FEW_COMMON:
        warnings.warn(
            f"Rows in common: {of_x[of_y > 0].sum()} of the {len(x)} rows of x are rows of y too. "
            "A divergence takes the two samples for independent and comes out too low. Leave the "
            "common rows out of one of them.",
            stacklevel=5,
        )


def _chance(table: Array) -> float:
    """Pairs of equal rows to expect if some column did not depend on the others."""
    n_rows, n_dims = table.shape
    if n_dims == 1:
        return _pairs(_counts(table))
    in_others = [_pairs(_counts(np.delete(table, j, axis=1))) for j in range(n_dims)]
    in_column = [_pairs(_counts(column)) for column in table.T]
    return max(np.multiply(in_others, in_column)) / (n_rows * (n_rows - 1) / 2)


def _counts(values: Array) -> NDArray[np.int_]:
    """How often every value, or row, occurs."""
    return np.unique(values + 0.0, axis=0, return_counts=True)[1]


def _pairs(counts: NDArray[np.int_]) -> float:
    """Number of pairs of equal things."""
    return float(counts @ (counts - 1) / 2)
