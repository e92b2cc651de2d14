"""One flow for each category that the rows are given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.kinds import Category
from gauss_flows.columns.tables import Table, missing_in
from gauss_flows.selection.evaluate import to_data

Array = NDArray[np.float64]


class ByClass(NamedTuple):
    r"""The densities $p(x \mid c)$ and the shares of the classes.

    Args:
        levels: The classes.
        shares: Their shares of the rows.
        parts: A fitted estimator for each, all with the same coder.
    """

    levels: tuple[Any, ...]
    shares: Array
    parts: list[Any]

    def log_density(self, table: Table, given: Table | None) -> Array:
        """Log density of rows given their class; of the rows alone where it is missing.

        Args:
            table: The rows.
            given: Their classes, missing ones included; None for none.

        Returns:
            Nats, shape (n,).
        """
        found = np.empty(table.n_rows)
        labels = None if given is None else given.columns[0]
        gone = np.ones(table.n_rows, bool) if labels is None else missing_in(labels)
        if gone.any():
            rows = _rows(table, gone)
            terms = [part.log_density_of(rows) for part in self.parts]
            found[gone] = np.logaddexp.reduce(np.log(self.shares)[:, None] + terms, axis=0)
        for level, part in zip(self.levels, self.parts, strict=True):
            own = ~gone if labels is None else ~gone & (labels == level)
            if labels is not None and own.any():
                found[own] = part.log_density_of(_rows(table, own))
        return found

    def push(self, z: Array, given: Table, points: Array, rng: np.random.Generator) -> Array:
        """Turn latents into codes of X, row by row.

        Args:
            z: Latents of shape (n, d).
            given: The class of each; a missing one is drawn.
            points: Not needed: classes have no place in an interval here.
            rng: Generator of these.

        Returns:
            Codes of shape (n, d).
        """
        labels = given.columns[0]
        number = {level: index for index, level in enumerate(self.levels)}
        gone = missing_in(labels)
        drawn = rng.choice(len(self.levels), size=len(z), p=self.shares)
        index = [
            drawn[row] if gone[row] else number[label] for row, label in enumerate(labels.tolist())
        ]
        rows = np.empty_like(z)
        for place, part in enumerate(self.parts):
            own = np.equal(index, place)
            if own.any():
                rows[own] = to_data(part.flow_, z[own])
        return rows


def is_one_category(rows: Array, given: Table, y_coder: TableCoder, *, least: int) -> bool:
    """Say whether y is one category, each of whose levels has rows that a flow can be fitted to.

    Args:
        rows: Codes of X, shape (n, d), NaN for missing values.
        given: y.
        y_coder: Its coder.
        least: The fewest rows for a flow.
    """
    if len(y_coder.columns) != 1 or not isinstance(y_coder.kinds[0], Category):
        return False
    for level in y_coder.kinds[0].levels:
        own = rows[given.columns[0] == level]
        if len(own) < least or np.isnan(own).all(0).any():
            return False
        if (np.nanmin(own, axis=0) == np.nanmax(own, axis=0)).any():
            return False
    return True


def _rows(table: Table, which: NDArray[np.bool_]) -> Table:
    return table._replace(columns=[column[which] for column in table.columns])
