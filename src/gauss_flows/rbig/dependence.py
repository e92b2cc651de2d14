"""How close the columns of a table come to a linear relation."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

# Smallest eigenvalue of the correlation matrix, in units of the rounding of its entries.
_EXACT = 64 * np.finfo(np.float64).eps
_NEARLY = 1e-8
# Distance from the median, in median distances, from which on a row is pulled in.
_FAR = 10.0
# Share of the largest coefficient from which on a column belongs to the relation.
_INVOLVED = 0.1
# Of two to this power a thousand billion can be added up.
_LARGEST_EXPONENT = 980


class Relation(NamedTuple):
    """The linear relation that columns come closest to.

    Args:
        share: What it leaves of the variance of standardised columns in its direction.
        columns: Numbers of the columns that it relates.
        is_exact: Whether the share is no more than rounding.
        is_near: Whether it is small enough to be told.
    """

    share: float
    columns: list[int]
    is_exact: bool
    is_near: bool


def closest_relation(table: Float[np.ndarray, "n d"]) -> Relation:
    """Find the relation between columns, one that the bulk of the rows keeps to as well.

    A single row far away in two columns makes these look like multiples of each other, whatever
    the other rows say. A relation that has no other ground is none, so that where one is seen the
    rows are weighed too, each by how far out it lies.

    Args:
        table: Rows of shape (n, d), no column constant.

    Returns:
        The relation.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.dependence import closest_relation
        >>> a, b = np.random.default_rng(0).normal(size=(2, 100))
        >>> closest_relation(np.stack([a, b, a - 2 * b + 1], axis=1)).is_exact
        True
        >>> closest_relation(np.stack([np.append(a, 1e9), np.append(b, 1e9)], axis=1)).is_near
        False
    """
    # A column of the largest numbers there are is made smaller, so that no sum overflows.
    exponents = np.frexp(np.abs(table).max(0))[1]
    table = np.ldexp(table, -np.maximum(exponents - _LARGEST_EXPONENT, 0))
    # In units of the span, which no square can overflow.
    scaled = (table - table.mean(0)) / (table.max(0) - table.min(0))
    share, direction = _least_variance(scaled)
    if share <= _NEARLY:
        share_of_pulled_in, direction = _least_variance(_pulled_in(table))
        share = max(share, share_of_pulled_in)
    loads = np.abs(direction)
    return Relation(
        share,
        np.flatnonzero(loads > _INVOLVED * loads.max()).tolist(),
        is_exact=bool(share <= _EXACT * table.shape[1]),
        is_near=share <= _NEARLY,
    )


def _least_variance(centred):
    """Least variance of standardised columns along any direction, and that direction."""
    standard = centred / np.sqrt(np.mean(centred**2, axis=0))
    variances, axes = np.linalg.eigh(standard.T @ standard / len(standard))
    return float(variances[0]), axes[:, 0]


def _pulled_in(table):
    """Rows about a common centre, far ones brought nearer along the line to it.

    Whole rows are scaled, and no single values: a relation that the rows keep to about the centre
    is one that they keep to afterwards.
    """
    deviation = table - np.median(table, axis=0)
    distance = np.abs(deviation)
    # Of values that are not the median itself, which more than half of them may be.
    distance[distance == 0] = np.nan
    in_spreads = np.nan_to_num(distance / np.nanmedian(distance, axis=0))
    factor = 1 / np.maximum(1.0, in_spreads.max(1) / _FAR)
    centre = np.average(deviation, axis=0, weights=factor**2)
    return (deviation - centre) * factor[:, None]
