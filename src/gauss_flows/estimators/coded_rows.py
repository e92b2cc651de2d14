"""Coded rows: where discrete values stand in them, and what a density can be fitted to."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import qmc

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import Table
from gauss_flows.rbig.checks import check_table

Array = NDArray[np.float64]

# Distance from a column's centre, in its spreads.
_FARTHEST = 1e15
# Points in the intervals of discrete values over which their mass is averaged.
_N_POINTS = 64


def coded_with_noise(coder: TableCoder, table: Table, seed: int) -> Array:
    """Code rows, discrete values at random points of their intervals.

    Args:
        coder: The coder.
        table: Rows whose values are all inside the support, or missing.
        seed: Seed of the points.

    Returns:
        Codes of shape (n, d), NaN for missing values.
    """
    points = np.random.default_rng([seed, 4]).random((table.n_rows, coder.n_discrete))
    # Zero would be the edge of the interval, where a category's code is infinite.
    return coder.encode(table, np.maximum(points, np.finfo(float).eps)).rows


def mean_over_points(log_density_at: Callable[[Array], Array], n_discrete: int) -> Array:
    """Average a density over points of the intervals of discrete values.

    Args:
        log_density_at: The log density of rows, shape (n,), with their discrete values at points
            of shape (n_discrete,) of their intervals.
        n_discrete: The number of discrete columns; without any the density itself is returned.

    Returns:
        Nats, shape (n,).
    """
    if not n_discrete:
        return log_density_at(np.empty(0))
    points = qmc.Sobol(n_discrete, rng=0).random(_N_POINTS)
    return np.logaddexp.reduce([log_density_at(u) for u in points], axis=0) - np.log(_N_POINTS)


def filled(rows: Array) -> Array:
    """Replace missing values by others of their column, drawn at random: a column's own spread."""
    missing = np.isnan(rows)
    if not missing.any():
        return rows
    rng, rows = np.random.default_rng(0), rows.copy()
    for column, gone in zip(rows.T, missing.T, strict=True):
        column[gone] = rng.choice(column[~gone], gone.sum())
    return rows


def check_coded(rows: Array, names: list[str], name: str, advice: str = "") -> None:
    """Check that a density can be fitted to coded rows; see `rbig.checks.check_table`."""
    complete = ~np.isnan(rows).any(1)
    if complete.sum() > rows.shape[1]:
        check_table(rows[complete], name=name, names=names, advice=advice)


def check_reach(z: Array, names: list[str], name: str) -> None:
    """Refuse values so far out that the squares of the others are lost beside theirs.

    Args:
        z: Standardised rows, shape (n, d), NaN for missing values.
        names: What the columns are called.
        name: What messages call the table.

    Raises:
        ValueError: If there is one.
    """
    distance = np.nan_to_num(np.abs(z))
    row, column = np.unravel_index(distance.argmax(), z.shape)
    if distance[row, column] > _FARTHEST:
        raise ValueError(
            f"Expected values of {name} within {_FARTHEST:.0e} times the spread of their column; "
            f"got one {distance[row, column]:.0e} times as far out in row {row}, {names[column]}. "
            "Where it stands for a missing value, give NaN."
        )
