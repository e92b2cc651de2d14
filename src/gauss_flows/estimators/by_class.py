"""One density for each combination of categories that the rows are given."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import logsumexp

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.kinds import Category
from gauss_flows.columns.tables import Table, missing_in
from gauss_flows.estimators.coded_rows import check_coded, coded_with_noise
from gauss_flows.selection.evaluate import to_data

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]

# Rows of a class beside whose categories numbers are given, at least.
_ROWS_BESIDE_NUMBERS = 10


class Classes(NamedTuple):
    """The combinations of categories that y takes.

    Args:
        places: The numbers of the columns of y that are categories.
        numbers: The numbers of the others, leaving out the constant ones and copies.
        levels: The combinations, each with a level of every category.
        members: The rows of each, masks of shape (n,); empty once they are fitted.
    """

    places: list[int]
    numbers: list[int]
    levels: list[tuple[Any, ...]]
    members: list[Mask]

    @property
    def names(self) -> list[Any]:
        """What users call them: a level, or the tuple of several categories' levels."""
        return [level[0] if len(level) == 1 else level for level in self.levels]


class ByClass(NamedTuple):
    r"""The densities $p(x \mid c, y)$ of rows given a class c and numbers y, which may be none.

    Where categories are missing the class is drawn, or summed over, with the probabilities
    $p(c \mid y) \propto p(c)\, p(y \mid c)$ of those that are possible.

    Args:
        y_coder: The coder of all that is given.
        classes: The classes.
        shares: Their shares of the rows.
        parts: The density of each, all with the same coder of x: a `Jointly` given the numbers, or
            a fitted estimator where there are none.
    """

    y_coder: TableCoder
    classes: Classes
    shares: Array
    parts: list[Any]

    @property
    def n_discrete(self) -> int:
        """How many of the numbers are discrete."""
        return self.y_coder.only(self.classes.numbers).n_discrete

    def log_density(self, table: Table, given: Table | None) -> Array:
        """Log density of rows given their class and numbers; of the rows alone without.

        Args:
            table: The rows.
            given: What they are given, missing values included; None for nothing.

        Returns:
            Nats, shape (n,).

        Raises:
            ValueError: If a combination of categories was not among the rows of the fit; or, where
                something is missing, if a part's flow is not a mixture.
        """
        if given is None:
            terms = [self._of_part(part, table, None) for part in self.parts]
            return logsumexp(np.log(self.shares)[:, None] + terms, axis=0)
        given, possible = self._possible(given)
        found = np.empty(table.n_rows)
        known = possible.sum(0) == 1
        for part, own in zip(self.parts, possible & known, strict=True):
            if own.any():
                found[own] = self._of_part(part, table.rows(own), given.rows(own))
        if not known.all():
            rows, of_rows = table.rows(~known), given.rows(~known)
            log_weights = self._log_weights(of_rows, possible[:, ~known])
            terms = log_weights + [self._of_part(part, rows, of_rows) for part in self.parts]
            found[~known] = logsumexp(terms, axis=0)
        return found

    def push(self, z: Array, given: Table, points: Array, rng: np.random.Generator) -> Array:
        """Turn latents into codes of X, row by row.

        Args:
            z: Latents of shape (n, d).
            given: What each is given; a missing class is drawn.
            points: Where in their intervals discrete numbers are, shape (n, n_discrete).
            rng: Generator of what is drawn.

        Returns:
            Codes of shape (n, d).
        """
        given, possible = self._possible(given)
        log_weights = np.where(possible, 0.0, -np.inf)
        several = possible.sum(0) > 1
        if several.any():
            log_weights[:, several] = self._log_weights(given.rows(several), possible[:, several])
        # The class of the largest log-weight with Gumbel noise has the weights' law.
        drawn = (log_weights + rng.gumbel(size=log_weights.shape)).argmax(axis=0)
        rows = np.empty_like(z)
        for place, part in enumerate(self.parts):
            own = drawn == place
            if not own.any():
                continue
            if self.classes.numbers:
                numbers = given.rows(own).only(self.classes.numbers)
                rows[own] = part.push(z[own], numbers, points[own], rng)
            else:
                rows[own] = to_data(part.flow_, z[own])
        return rows

    def _of_part(self, part: Any, table: Table, given: Table | None) -> Array:
        """Log density of rows of one class given their numbers."""
        if not self.classes.numbers:
            return part.log_density_of(table)
        numbers = None if given is None else given.only(self.classes.numbers)
        return part.log_density(table, numbers)

    def _possible(self, given: Table) -> tuple[Table, NDArray[np.bool_]]:
        """What is given, with what copies tell, and which classes it can be of, shape (K, n)."""
        given = self.y_coder.filled_from_copies(given)
        possible = np.ones((len(self.parts), given.n_rows), bool)
        for position, place in enumerate(self.classes.places):
            column = given.columns[place]
            for own, level in zip(possible, self.classes.levels, strict=True):
                own &= missing_in(column) | (column == level[position])
        if not possible.any(0).all():
            row = int(np.argmin(possible.any(0)))
            names = [self.y_coder.names[place] for place in self.classes.places]
            got = [given.columns[place][row] for place in self.classes.places]
            raise ValueError(
                f"Expected {' and '.join(names)} of y to be among the combinations of the fit; got "
                f"{', '.join(map(str, got))} in row {row}. Give fewer of them (None), or fit to "
                "rows that have it."
            )
        return given, possible

    def _log_weights(self, given: Table, possible: NDArray[np.bool_]) -> Array:
        """Log-probabilities of the classes given what is known, shape (K, n)."""
        log_weights = np.where(possible, np.log(self.shares)[:, None], -np.inf)
        if self.classes.numbers:
            numbers = given.only(self.classes.numbers)
            log_weights += [part.log_density_of_given(numbers) for part in self.parts]
        return log_weights - logsumexp(log_weights, axis=0)


def classes_of(rows: Array, given: Table, y_coder: TableCoder, *, least: int) -> Classes | None:
    """Find the classes of y, if it has categories and each has rows that a flow can be fitted to.

    Args:
        rows: Codes of X, shape (n, d), NaN for missing values.
        given: y.
        y_coder: Its coder.
        least: The fewest rows for a flow.

    Returns:
        The classes, or None.

    Warns:
        UserWarning: If some have rows enough, and others not.
    """
    is_category = {j: isinstance(y_coder.columns[j], Category) for j in y_coder.kept}
    places = [j for j, category in is_category.items() if category]
    numbers = [j for j, category in is_category.items() if not category]
    if not places:
        return None
    given = y_coder.filled_from_copies(given)
    columns = [given.columns[j] for j in places]
    if any(missing_in(column).any() for column in columns):
        return None
    levels = sorted(set(zip(*(column.tolist() for column in columns), strict=True)), key=str)
    members = [np.all([c == v for c, v in zip(columns, level, strict=True)], 0) for level in levels]
    if numbers:
        least = max(least + len(numbers), _ROWS_BESIDE_NUMBERS)
        of_numbers = y_coder.only(numbers)
        rows = np.column_stack([coded_with_noise(of_numbers, given.only(numbers), 0), rows])
    classes = Classes(places, numbers, levels, members)
    alone = [_can_be_fitted(rows[own], least) for own in members]
    if all(alone):
        return classes
    if any(alone):
        poor = alone.index(False)
        warnings.warn(
            f"The {int(members[poor].sum())} rows whose y is {classes.names[poor]!r} are too few, "
            "or too alike, for a density of their own. So all rows are fitted together, with "
            "categories as numbers, which blurs what holds for the others. Leave those rows out, "
            "or join them with others.",
            stacklevel=3,
        )
    return None


def _can_be_fitted(rows: Array, least: int) -> bool:
    if len(rows) < least or np.isnan(rows).all(0).any():
        return False
    if (np.nanmin(rows, axis=0) == np.nanmax(rows, axis=0)).any():
        return False
    with warnings.catch_warnings():
        # The fit itself says so again, with the columns' names.
        warnings.simplefilter("ignore")
        try:
            check_coded(rows, [str(j) for j in range(rows.shape[1])], "y and X")
        except ValueError:
            return False
    return True
