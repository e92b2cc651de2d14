"""What is looked at once, before anything is measured."""

from typing import Any

import numpy as np
from jaxtyping import ArrayLike, Float
from numpy.typing import NDArray

from gauss_flows.information.far import check_reach, contracted
from gauss_flows.information.repeats import warn_of_common_rows, warn_of_copies
from gauss_flows.rbig.checks import check_finite_table, check_table, without_mask

Array = NDArray[np.float64]
# Fewer rows say nothing about neighbours.
_FEWEST_ROWS = 30
# The least span of a table's column beside another's whose squares keep their digits.
_NARROWEST = 1e-7


class NamedRows:
    """Rows that tell checks what their columns are called.

    Args:
        values: The rows, shape (n, d).
        columns: The names.
    """

    def __init__(self, values: Array, columns: list[str]):
        self.values = values
        self.columns = columns

    def __array__(self, dtype=None, copy=None) -> Array:
        return np.array(self.values, dtype=dtype, copy=copy)


def named_rows(x: Any, name: str) -> NamedRows:
    """Take a table or a single column.

    Args:
        x: An array of shape (n, d) or (n,), a data frame or one of its columns.
        name: What messages call it.

    Returns:
        The finite rows and the names of their columns.

    Raises:
        ValueError: If it is no table of finite numbers; row and column are named.
    """
    x = without_mask(x)
    columns = getattr(x, "columns", None)
    if columns is None and np.ndim(x) == 1:
        label = getattr(x, "name", None)
        x = NamedRows(np.asarray(x)[:, None], [name if label is None else str(label)])
        columns = x.columns
    table = check_finite_table(x, name=name)
    if columns is None:
        columns = [f"{j}" if name == "x" else f"{j} of {name}" for j in range(table.shape[1])]
    return NamedRows(table, [str(column) for column in columns])


def checked_table(x: Any, name: str = "x") -> Array:
    """Check that rows have a density whose measures can be estimated.

    Args:
        x: As `named_rows` takes it.
        name: What messages call it.

    Returns:
        The rows in float64, shape (n, d).

    Raises:
        ValueError: If it is no table of finite numbers, a column is constant, repeats another or
            follows from the others, or there are too few rows.

    Warns:
        UserWarning: If columns hold whole numbers or are nearly dependent.
    """
    rows = named_rows(x, name)
    fewest = max(_FEWEST_ROWS, 2 * rows.values.shape[1] + 10)
    if len(rows.values) < fewest:
        raise ValueError(
            f"Expected at least {fewest} rows in {name} for its {rows.values.shape[1]} columns; "
            f"got {len(rows.values)}."
        )
    is_array = not hasattr(x, "columns") and np.ndim(x) == 2
    table = check_table(rows.values if is_array else rows, name=name)
    _check_monotone(table, rows.columns, name)
    return table


def _check_monotone(table: Array, names: list[str], name: str) -> None:
    """Refuse columns without ties that order the rows alike, or the other way round."""
    first: dict[bytes, str] = {}
    for label, column in zip(names, table.T, strict=True):
        order = np.argsort(column)
        if (np.diff(column[order]) == 0).any():
            continue  # classes of rounded values, which tell no more than they hold
        other = first.get(order.tobytes()) or first.get(order[::-1].tobytes())
        if other is not None:
            raise ValueError(
                f"Expected columns of {name} none of which follows from the others; got column "
                f"{label} as a monotone function of column {other}, so that no joint density "
                "exists and what they share is infinite. Leave one of them out."
            )
        first[order.tobytes()] = label


def checked_rows(x: Any, name: str = "x") -> tuple[Array, float]:
    """Check rows as `checked_table` does, and make them ready to be measured.

    Args:
        x: As `named_rows` takes it.
        name: What messages call it.

    Returns:
        The rows in units of their own, each column with ties spread out, shape (n, d), and the
        logarithm of these units' product, in nats.

    Raises:
        ValueError: As `checked_table`, or if a value is so far out that the others run together.

    Warns:
        UserWarning: As `checked_table`, or if rows are copies of others, or a value lies far out.
    """
    rows = named_rows(x, name)
    table = checked_table(x, name)
    check_reach(table, rows.columns, name)
    warn_of_copies({name: table})
    table, log_unit = in_own_units(table)
    return without_ties(table), log_unit


def rows_for_dependence(x: Any, name: str = "x") -> Array:
    """Check rows as `checked_table` does, for measures that no monotone map of a column changes.

    Args:
        x: As `named_rows` takes it.
        name: What messages call it.

    Returns:
        The rows in units of their own, values far out brought nearer and ties spread out, shape
        (n, d).

    Raises:
        ValueError: As `checked_table`.

    Warns:
        UserWarning: As `checked_table`, or if rows are copies of others.
    """
    table = checked_table(x, name)
    warn_of_copies({name: table})
    return without_ties(in_own_units(contracted(table))[0])


def comparable_rows(x: Array, y: Array) -> tuple[Array, Array]:
    """Make checked rows of two tables ready to be compared.

    What is a tie, the rows of both tell: a value that each has once is rounded as well.

    Args:
        x: Rows, shape (n, d).
        y: Rows, shape (m, d).

    Returns:
        The rows of both in the same units, with ties spread out.

    Raises:
        ValueError: If one of the tables is a point beside what both span.

    Warns:
        UserWarning: If the tables have rows in common.
    """
    warn_of_common_rows(x, y)
    both = np.concatenate([x, y])
    in_units, _ = in_own_units(both)
    of_both = _bulk(in_units)
    for name, side in (("x", in_units[: len(x)]), ("y", in_units[len(x) :])):
        shares = _bulk(side) / of_both
        if shares.min() < _NARROWEST:
            raise ValueError(
                "Expected x and y whose columns are on comparable scales; got column "
                f"{shares.argmin()}, of which {name} spans only {shares.min():.0e} of what both "
                "span together, so that nothing can be told of their densities in the same place. "
                "Look whether they are in the same units."
            )
    rows = without_ties(in_own_units(contracted(both))[0])
    return rows[: len(x)], rows[len(x) :]


def _bulk(table: Array) -> Array:
    """The width of what nine tenths of a column's rows take, or of all where that is an atom."""
    low, high = np.quantile(table, [0.05, 0.95], axis=0)
    return np.where(high > low, high - low, np.ptp(table, axis=0))


def in_own_units(table: Array) -> tuple[Array, float]:
    """Measure every column in a unit near its span, of which no square is too large or small.

    The units are powers of two, and columns far from zero, whose squares would have no digits for
    their spread, are measured from one of their values: nothing is rounded.

    Args:
        table: Rows, shape (n, d).

    Returns:
        The rows in those units, shape (n, d), and the logarithm of the units' product.
    """
    # Halves, since a span may be too large for a number.
    half_span = table.max(0) / 2 - table.min(0) / 2
    exponents = np.frexp(half_span)[1] + 1
    middle = np.sort(table, axis=0)[len(table) // 2]
    table = np.where(np.abs(middle) / 4 > half_span, table - middle, table)
    return np.ldexp(table, -exponents), float(exponents.sum() * np.log(2))


def without_ties(table: Array) -> Array:
    """Spread equal values of a column evenly over half the gaps to their neighbours.

    A value that is repeated was rounded; what it was before lies somewhere between. Distances of
    zero would make the density infinite there.

    Args:
        table: Rows, shape (n, d), no column constant.

    Returns:
        The rows, those without ties as they were.
    """
    spread = table.copy()
    rng = np.random.default_rng(len(table))
    for column in spread.T:
        values, inverse, counts = np.unique(column, return_inverse=True, return_counts=True)
        if len(values) == len(column):
            continue
        gaps = np.diff(values)
        below, above = np.r_[gaps[0], gaps] / 2, np.r_[gaps, gaps[-1]] / 2
        tied = np.flatnonzero(counts[inverse] > 1)
        shift = rng.uniform(size=len(tied)) * (below + above)[inverse[tied]] - below[inverse[tied]]
        column[tied] += shift
    return spread


def joined(parts: dict[str, Any]) -> tuple[Array, list[NDArray[np.int_]]]:
    """Put blocks of columns beside each other.

    Args:
        parts: The blocks by the names that messages give them.

    Returns:
        The checked rows of all columns, and the numbers of each block's columns.

    Raises:
        ValueError: As `checked_table`, or if the blocks have different numbers of rows.
    """
    blocks = {name: named_rows(x, name) for name, x in parts.items()}
    lengths = {name: len(block.values) for name, block in blocks.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{length} in {name}" for name, length in lengths.items())
        raise ValueError(f"Expected as many rows in every block; got {told}.")
    names = [
        column if hasattr(parts[name], "columns") else f"{name}[{column}]"
        for name, block in blocks.items()
        for column in block.columns
    ]
    values = np.concatenate([block.values for block in blocks.values()], axis=1)
    ends = np.cumsum([block.values.shape[1] for block in blocks.values()])
    numbers = np.split(np.arange(values.shape[1]), ends[:-1])
    return rows_for_dependence(NamedRows(values, names), " and ".join(parts)), numbers


def finite_rows(x: Float[ArrayLike, "n d"], n_dims: int) -> Array:
    """Check rows that a flow is to be asked about.

    Args:
        x: The rows.
        n_dims: The flow's number of columns.

    Returns:
        The rows in float64, in the units of the flow.

    Raises:
        ValueError: If they are no table of finite numbers with so many columns.
    """
    return check_finite_table(x, n_dims=n_dims)


def rows_beside_flow(x: Float[ArrayLike, "n d"], n_dims: int) -> Array:
    """Check rows as `finite_rows` does, and make them ready to be measured with a flow as the map.

    Args:
        x: The rows.
        n_dims: The flow's number of columns.

    Returns:
        The rows in the units of the flow, with ties spread out.

    Raises:
        ValueError: As `finite_rows`.

    Warns:
        UserWarning: If rows are copies of others.
    """
    table = finite_rows(x, n_dims)
    warn_of_copies({"rows": table})
    return without_ties(table)
