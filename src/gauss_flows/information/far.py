"""Values far out: told of, or brought nearer where no measure changes."""

import warnings

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
# Powers of ten of distances from the median, in quartile ranges, that are told of and refused.
_FAR, _FARTHEST = 4.0, 10.0
# And the distance from which on values are brought nearer where that changes no measure.
_NEAR = 100.0


def contracted(table: Array) -> Array:
    r"""Bring values far out nearer, and leave the others as they are.

    In quartile ranges u from its median a column's map is u up to c = 100, and from there on
    c + log(1 + u − c): monotone, and smooth enough for densities.

    Args:
        table: Rows, shape (n, d).

    Returns:
        The rows; the same array where no value is far out.
    """
    log_distance = _log_distance(table)
    is_far = log_distance > np.log(_NEAR)
    if not is_far.any():
        return table
    low, middle, high = np.quantile(table, [0.25, 0.5, 0.75], axis=0)
    excess = np.where(is_far, log_distance, 0.0)
    excess = excess + np.log1p(np.where(is_far, (1 - _NEAR) * np.exp(-excess), 0.0))
    mapped = middle + np.sign(table - middle) * (_NEAR + excess) * (high - low)
    return np.where(is_far, mapped, table)


def check_reach(table: Array, names: list[str], name: str) -> None:
    """Refuse a value so far out that the others run together, and warn of one far out.

    Args:
        table: Rows, shape (n, d).
        names: What the columns are called.
        name: What messages call the table.

    Raises:
        ValueError: If one is beyond all digits of the others.

    Warns:
        UserWarning: If one is far out.
    """
    log_distance = _log_distance(table)
    row, column = np.unravel_index(log_distance.argmax(), table.shape)
    farthest = log_distance[row, column] / np.log(10)
    if farthest <= _FAR:
        return
    told = f"a value 1e{farthest:.0f} quartile ranges from the others in row {row}, column"
    if farthest > _FARTHEST:
        raise ValueError(
            f"Expected values of {name} that can be told apart beside the farthest; got {told} "
            f"{names[column]}. Leave it out, or take logarithms."
        )
    warnings.warn(
        f"In {name} there is {told} {names[column]}: what is measured may be far off, by more than "
        "the error says. Leave it out, or take logarithms.",
        stacklevel=4,
    )


def _log_distance(table: Array) -> Array:
    """Logarithms of the distances from a column's median, in its quartile ranges."""
    low, middle, high = np.quantile(table, [0.25, 0.5, 0.75], axis=0)
    with np.errstate(divide="ignore"):
        distance = np.log(np.abs(table - middle)) - np.log(high - low)
    return np.where(high > low, distance, -np.inf)  # of atoms distances say nothing
