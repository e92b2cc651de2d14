"""One conditional flow for all that the rows are given."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import Table
from gauss_flows.estimators.coded_rows import mean_over_points
from gauss_flows.selection.evaluate import log_density, to_data
from gauss_flows.selection.incomplete import Companion
from gauss_flows.selection.mixture_recipes import given_alone

Array = NDArray[np.float64]


class Jointly(NamedTuple):
    r"""The density $p(x \mid y)$ of a conditional flow.

    Args:
        flow: The flow.
        family: Its family.
        companion: The joint mixture of (y, x), which the flow may be.
        coder: The coder of X.
        y_coder: The coder of y.
    """

    flow: Any
    family: str
    companion: Companion
    coder: TableCoder
    y_coder: TableCoder

    def log_density(self, table: Table, given: Table | None) -> Array:
        """Log density of rows given y; of the rows alone without.

        Args:
            table: The rows.
            given: What they are given, missing values included; None for nothing.

        Returns:
            Nats, shape (n,).

        Raises:
            ValueError: If values are missing, or y is, and the flow is not a mixture.
        """
        n, n_own = table.n_rows, self.coder.n_discrete

        def at(u: Array) -> Array:
            rows, log_det = self.coder.encode(table, np.tile(u[:n_own], (n, 1)))
            y_rows = np.full((n, len(self.y_coder.kinds)), np.nan)
            if given is not None:
                y_rows = self.y_coder.encode(given, np.tile(u[n_own:], (n, 1))).rows
            return self._of_codes(rows, y_rows) + log_det

        return mean_over_points(at, n_own + (self.y_coder.n_discrete if given is not None else 0))

    @property
    def n_discrete(self) -> int:
        """How many columns of y are discrete."""
        return self.y_coder.n_discrete

    def log_density_of_given(self, given: Table) -> Array:
        """Log density of y itself, in nats, shape (n,).

        Args:
            given: Its rows.

        Raises:
            ValueError: If the flow is not a mixture.
        """
        n, n_dims = given.n_rows, len(self.coder.kinds)

        def at(u: Array) -> Array:
            y_rows, log_det = self.y_coder.encode(given, np.tile(u, (n, 1)))
            joint = np.column_stack([y_rows, np.full((n, n_dims), np.nan)])
            return self._exact().log_density(joint) + log_det

        return mean_over_points(at, self.n_discrete)

    def push(self, z: Array, given: Table, points: Array, rng: np.random.Generator) -> Array:
        """Turn latents into codes of X, row by row.

        Args:
            z: Latents of shape (n, d).
            given: What each row is given; where that is incomplete, X is drawn anew.
            points: Where in their intervals discrete values of y are, shape (n, n_discrete).
            rng: Generator of what is drawn.

        Returns:
            Codes of shape (n, d).
        """
        y_rows = self.y_coder.encode(given, points).rows
        if not np.isnan(y_rows).any():
            return to_data(self.flow, z, y_rows)
        joint = np.column_stack([y_rows, np.full_like(z, np.nan)])
        return self._exact().complete(joint, rng)[:, y_rows.shape[1] :]

    def _of_codes(self, rows: Array, y_rows: Array) -> Array:
        incomplete = np.isnan(rows).any(1) | np.isnan(y_rows).any(1)
        found = np.empty(len(rows))
        if not incomplete.all():
            whole = ~incomplete
            found[whole] = log_density(self.flow, rows[whole], y_rows[whole])
        if incomplete.any():
            mixture = self._exact()
            joint = np.column_stack([y_rows, rows])[incomplete]
            alone = given_alone(joint, y_rows.shape[1])
            found[incomplete] = mixture.log_density(joint) - mixture.log_density(alone)
        return found

    def _exact(self) -> Companion:
        if not self.companion.is_flow:
            raise ValueError(
                f"Expected y, and rows without missing values: what a conditional {self.family} "
                "flow leaves open cannot be marginalised. Fit with family='mixture'."
            )
        return self.companion
