"""Faults that only the data show, found once, before anything is fitted."""

import warnings
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int

from gauss_flows.rbig.dependence import closest_relation

_SHOWN = 8
# From here on every float64 is a whole number.
_WHOLE_WHATEVER_ITS_VALUE = 2.0**52
# A value that so many rows have, and this share of them, is no chance; so many rows tell.
_FEWEST_OF_AN_ATOM, _SHARE_OF_AN_ATOM, _ROWS_FOR_ATOMS = 10, 0.1, 10_000
# Rounding of values, in standard deviations, from which on a fit takes notice of it.
_COARSEST_STEP = 1e-3


def check_table(
    x: Any,
    *,
    n_components: int = 1,
    n_dims: int | None = None,
    name: str = "x",
    rows: Int[np.ndarray, " n_fitted"] | None = None,
    names: Sequence[str] | None = None,
    advice: str = "",
) -> Float[np.ndarray, "n_fitted n_dims"]:
    """Check that a density with `n_components` components a coordinate can be fitted to a table.

    Args:
        x: The table: an array, nested lists or a data frame, whose column names are then used in
            messages.
        n_components: Components of each coordinate's mixture.
        n_dims: Number of columns it must have, if that is known.
        name: What messages call the table.
        rows: Numbers of the rows that the density is to be fitted to, shape (n_fitted,); all by
            default.
        names: What messages call the columns; by default their names in a data frame, or numbers.
        advice: What the warning of whole numbers adds.

    Returns:
        Those rows in float64, shape (n_fitted, n_dims).

    Raises:
        ValueError: If it is not a table of finite numbers, has fewer rows than components or no
            more rows than columns, or if a column is constant, repeats another or follows from
            the others, since no density exists then. Row and column are named.

    Warns:
        UserWarning: If columns hold whole numbers, which are atoms, or are nearly dependent.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.checks import check_table
        >>> check_table(np.array([[1.0, 2.0], [np.nan, 0.0], [0.0, 1.0]]))
        Traceback (most recent call last):
            ...
        ValueError: Expected finite values in x; got nan in row 1, column 0.
    """
    table = check_finite_table(x, n_dims=n_dims, name=name)
    names = _column_names(x, table.shape[1]) if names is None else list(names)
    got = f"{len(table)}"
    if rows is not None and len(rows) < len(table):
        got = f"{len(rows)} to fit among its {len(table)}"
        table = table[rows]
    if len(table) < n_components:
        raise ValueError(
            f"Expected at least as many rows in {name} as components, {n_components}; got {got}."
        )
    if len(table) <= len(names):
        raise ValueError(f"Expected more rows in {name} than its {len(names)} columns; got {got}.")
    _check_constant(table, names, name)
    _check_repeated(table, names, name)
    _check_dependent(table, names, name)
    _warn_of_whole_numbers(table, names, name, advice)
    _warn_of_atoms(table, names, name)
    return table


def check_finite_table(
    x: Any, *, n_dims: int | None = None, name: str = "x"
) -> Float[np.ndarray, "n_rows n_dims"]:
    """Check that something is a table of finite numbers.

    Args:
        x: The table.
        n_dims: Number of columns it must have, if that is known.
        name: What messages call the table.

    Returns:
        The table in float64, shape (n_rows, n_dims).

    Raises:
        ValueError: If it is not, with the row and column.
    """
    table = np.asarray(without_mask(x))
    if table.ndim != 2:
        hint = f" For one column write {name}[:, None]." if table.ndim == 1 else ""
        raise ValueError(
            f"Expected {name} of shape (n_rows, n_dims); got shape {table.shape}.{hint}"
        )
    if table.shape[0] == 0 or table.shape[1] == 0:
        what = "rows" if table.shape[0] == 0 else "columns"
        raise ValueError(f"Expected {name} to have {what}; got shape {table.shape}.")
    if n_dims is not None and table.shape[1] != n_dims:
        raise ValueError(f"Expected {name} to have {n_dims} columns; got {table.shape[1]}.")
    names = _column_names(x, table.shape[1])
    if table.dtype.kind not in "biuf":
        table = _numbers(table, names, name)
    table = table.astype(np.float64)
    faults = ~np.isfinite(table)
    if faults.any():
        row, column = np.unravel_index(np.argmax(faults), faults.shape)
        more = faults.sum() - 1
        also = f", and {more} more such values" if more else ""
        raise ValueError(
            f"Expected finite values in {name}; got {table[row, column]} in row {row}, "
            f"{names[column]}{also}."
        )
    return table


def without_mask(x: Any) -> Any:
    """Put NaN for what an array masks, which is not there; return anything else as it is."""
    if not isinstance(x, np.ma.MaskedArray):
        return x
    return np.ma.filled(np.ma.asarray(x, np.float64), np.nan)


def as_rows(
    table: Float[np.ndarray, "n_rows n_dims"],
    name: str = "x",
    *,
    numbers: Int[np.ndarray, " n_rows"] | None = None,
) -> Array:
    """Move a checked table to JAX, in its precision.

    Args:
        table: The table in float64.
        name: What messages call it.
        numbers: What messages call its rows, shape (n_rows,); counted from 0 by default.

    Returns:
        The rows.

    Raises:
        ValueError: If a value is too large for that precision.

    Warns:
        UserWarning: If a column is so far from zero that its values run together.
    """
    with np.errstate(over="ignore"):
        rows = jnp.asarray(table)
    faults = np.argwhere(~np.isfinite(rows))
    if len(faults):
        row, column = faults[0]
        raise ValueError(
            f"Expected values of {name} within the range of {rows.dtype}; got "
            f"{table[row, column]:g} in row {row if numbers is None else numbers[row]}, "
            f"column {column}. Standardise {name} first."
        )
    step = np.abs(table).max(0) * float(jnp.finfo(rows.dtype).eps)
    coarse = np.flatnonzero(step > _COARSEST_STEP * table.std(0))
    if coarse.size:
        warnings.warn(
            f"In {rows.dtype} the values of {_listed([f'column {j}' for j in coarse])} of {name} "
            "run together, being far from zero for their spread. Standardise them first.",
            stacklevel=4,
        )
    return rows


def check_weights(
    sample_weight: Float[ArrayLike, " n_rows"] | None, n_rows: int
) -> Float[np.ndarray, " n_rows"] | None:
    """Check the weights of rows.

    Args:
        sample_weight: Weights, or None.
        n_rows: Number of rows.

    Returns:
        The weights in float64, or None.

    Raises:
        ValueError: If their number is wrong, one is negative or not finite, or all are zero.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(sample_weight, np.float64)
    if weight.shape != (n_rows,):
        raise ValueError(f"Expected sample_weight of shape ({n_rows},); got {weight.shape}.")
    faults = ~(np.isfinite(weight) & (weight >= 0))
    if faults.any():
        row = int(np.argmax(faults))
        raise ValueError(
            f"Expected sample_weight to be finite and not negative; got {weight[row]} in row {row}."
        )
    if not weight.any():
        raise ValueError("Expected a sample_weight above zero; got none.")
    return weight


def _column_names(x: Any, n_dims: int) -> list[str]:
    columns = getattr(x, "columns", None)
    if columns is None or len(columns) != n_dims:
        return [f"column {j}" for j in range(n_dims)]
    return [f"column {str(column)!r}" for column in columns]


def _listed(names: Sequence[str]) -> str:
    shown = list(names[:_SHOWN])
    if len(names) > _SHOWN:
        shown[-1:] = [f"{len(names) - _SHOWN + 1} more"]
    return shown[0] if len(shown) == 1 else f"{', '.join(shown[:-1])} and {shown[-1]}"


def _numbers(table: np.ndarray, names: list[str], name: str) -> np.ndarray:
    """Numbers held as objects; anything else, strings of digits too, is refused."""
    for (row, column), value in np.ndenumerate(table):
        if not isinstance(value, int | float | np.number) or isinstance(value, np.complexfloating):
            raise ValueError(
                f"Expected real numbers in {name}; got {value!r} in row {row}, {names[column]}."
            )
    return table


def _check_constant(table, names, name):
    constant = np.flatnonzero(table.min(0) == table.max(0))
    if constant.size:
        raise ValueError(
            f"Expected columns of {name} that vary; got the same value in every row of "
            f"{_listed([names[j] for j in constant])}, where no density exists. Leave such "
            "columns out."
        )


def _check_repeated(table, names, name):
    first: dict[bytes, str] = {}
    for label, column in zip(names, table.T, strict=True):
        # Adding zero makes −0.0 and 0.0 one value.
        other = first.setdefault((column + 0.0).tobytes(), label)
        if other != label:
            raise ValueError(
                f"Expected columns of {name} that differ; got {label} equal to {other}, so that no "
                "joint density exists. Leave one of them out."
            )


def _check_dependent(table, names, name):
    if table.shape[1] == 1:
        return
    relation = closest_relation(table)
    involved = _listed([names[j] for j in relation.columns])
    if relation.is_exact:
        raise ValueError(
            f"Expected columns of {name} none of which follows from the others; got a linear "
            f"relation between {involved}, so that no joint density exists. Leave one of them out."
        )
    if relation.is_near:
        warnings.warn(
            f"The columns of {name} are nearly dependent: {involved} leave a share of "
            f"{relation.share:.0e} of their variance in one direction, which the density will "
            "follow.",
            stacklevel=4,
        )


def _warn_of_atoms(table, names, name):
    """Tell of single values that many rows have; of whole numbers another warning tells."""
    some = table[:: max(1, len(table) // _ROWS_FOR_ATOMS)]
    for label, column in zip(names, some.T, strict=True):
        values, counts = np.unique(column, return_counts=True)
        most = counts.max()
        if most < max(_FEWEST_OF_AN_ATOM, _SHARE_OF_AN_ATOM * len(column)) or _is_whole(column):
            continue
        warnings.warn(
            f"One value in {name}: {values[counts.argmax()]:g} makes up {most / len(column):.0%} "
            f"of {label}. At such an atom a density has no limit, so that its likelihood measures "
            "the width given to it as well. Model those rows apart, or give NaN where the value "
            "stands for a missing one.",
            stacklevel=4,
        )


def _is_whole(column):
    return np.all(column % 1 == 0) and np.abs(column).max() < _WHOLE_WHATEVER_ITS_VALUE


def _warn_of_whole_numbers(table, names, name, advice):
    whole = [
        label
        for label, column in zip(names, table.T, strict=True)
        if column[0] % 1 == 0 and _is_whole(column)
    ]
    if whole:
        warnings.warn(
            f"Whole numbers in {name}: the values of {_listed(whole)} are atoms, where a density "
            "has no limit, so that its likelihood measures the width given to them as well."
            + (advice and f" {advice}"),
            stacklevel=4,
        )
