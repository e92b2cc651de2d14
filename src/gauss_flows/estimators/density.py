"""A density estimator with the conventions of scikit-learn's `KernelDensity`."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import Table
from gauss_flows.estimators.base import FlowEstimator, check_number
from gauss_flows.estimators.by_class import ByClass, Classes, classes_of
from gauss_flows.estimators.coded_rows import check_coded, check_reach, coded_with_noise, filled
from gauss_flows.estimators.condition import check_within, read_condition
from gauss_flows.estimators.jointly import Jointly
from gauss_flows.estimators.summaries import ConditionalSummaries
from gauss_flows.selection import interrupts
from gauss_flows.selection.assemble import standardise, standardiser
from gauss_flows.selection.conditional import (
    CONDITIONAL_FAMILIES,
    fit_conditional,
    with_standardisers,
)
from gauss_flows.selection.families import FAMILIES
from gauss_flows.selection.incomplete import Companion

Array = NDArray[np.float64]

_MOST_SEED = 2**31 - 1
_ADVICE = 'Where those of y are labels of classes, say y_support="category".'


class FlowDensity(ConditionalSummaries, FlowEstimator):
    r"""Estimate the density of rows by a flow, or their density given y.

    As with `sklearn.neighbors.KernelDensity`, `score_samples` gives the log density of every row,
    `score` their sum, and `sample` draws rows.

    With `fit(X, y)` the density is $p(x \mid y)$: for a regression of a target on features, X is
    the target and y the features. `score_samples(X)` without y is then the density of X alone.
    Where y has categories, every combination of them has its own flow, of X given the other columns
    of y if there are any, provided that each has enough rows.

    Args:
        family: As in `Gaussianizer`; so is what follows. Given y with other columns than
            categories: `"auto"`, `"gaussian"`, `"mixture"`, `"mixture-coupling"`,
            `"spline-coupling"` or `"affine-coupling"`.
        support: What values columns of X can have.
        y_support: The same of y.
        n_layers: Number of blocks, or of couplings.
        n_components: Components of each mixture.
        max_epochs: Most passes of training.
        random_state: Seed, or `numpy.random.RandomState`, of the fit.
        verbose: Whether to tell what is tried.

    Attributes:
        flow_: The flow, as in `Gaussianizer`; given y one that is conditional on y, or None where
            every combination of categories has its own.
        flows_: These by category, or by the tuple of several; empty otherwise.
        coder_: The map of columns that are not real to the flow's coordinates, and back.
        y_coder_: The same of y; None without.
        family_: The family chosen.
        recipe_: How its closed-form start was fitted, in words.
        candidates_: What was tried, with its mean log density on rows held back.
        history_: Losses of the training, empty without any.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.estimators import FlowDensity
        >>> x = np.random.default_rng(0).normal(size=(300, 2))
        >>> density = FlowDensity("gaussian").fit(x)
        >>> bool(abs(density.score(x) / 300 + np.log(2 * np.pi * np.e)) < 0.2)
        True

        A regression with an interval: the second column given the first.

        >>> y, noise = x[:, :1], x[:, 1:]
        >>> regression = FlowDensity("gaussian").fit(2 * y + 0.1 * noise, y)
        >>> low, high = regression.conditional_interval([[0.5]], coverage=0.9)
        >>> bool(low[0, 0] < 1.0 < high[0, 0]), bool(high[0, 0] - low[0, 0] < 0.5)
        (True, True)
    """

    y_coder_: TableCoder | None
    flows_: dict[Any, Any]
    _given: ByClass | Jointly | None

    def __init__(
        self,
        family: str = "auto",
        *,
        support: Any = None,
        y_support: Any = None,
        n_layers: int | None = None,
        n_components: int | None = None,
        max_epochs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ):
        super().__init__(
            family,
            support=support,
            n_layers=n_layers,
            n_components=n_components,
            max_epochs=max_epochs,
            random_state=random_state,
            verbose=verbose,
        )
        self.y_support = y_support

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a flow of X, or of X given y; see `Gaussianizer.fit`.

        Args:
            X: Rows of shape (n, d): an array, or a data frame.
            y: What they are given, shape (n,) or (n, c), of numbers, truth values, categories or
                text; None for the density of X alone.

        Returns:
            The estimator.

        Raises:
            ValueError: As in `Gaussianizer.fit`, for X and for y; if y has another number of rows;
                or if the family has no conditional flow and y is not of categories alone.
        """
        if y is not None:
            with self._anew():
                self._fit_given(X, y)
            return self
        super().fit(X)
        self.y_coder_, self.flows_, self._given = None, {}, None
        return self

    def _fit_given(self, X: Any, y: Any) -> None:
        self._check_family(FAMILIES)
        table = self._table(X, reset=True)
        given = read_condition(y, table.n_rows)
        self._check_sizes(table.n_rows, len(table.columns) + len(given.columns))
        self._reset()
        self.flows_ = {}
        self.coder_ = TableCoder.fit(table, self.support)
        try:
            y_coder = TableCoder.fit(given, self.y_support, name="y")
        except ValueError as fault:
            if "that vary" not in str(fault):
                raise
            raise ValueError(f"{fault} Fit without y.") from None
        settings = self._settings()
        rows = coded_with_noise(self.coder_, table, settings.seed)
        least = max(rows.shape[1] + 2, self.n_components or 1)
        classes = classes_of(rows, given, y_coder, least=least)
        if classes is None or classes.numbers:
            self._check_family(CONDITIONAL_FAMILIES)
        if classes is not None:
            self._fit_by_class(rows, given, y_coder, classes)
        else:
            self._fit_jointly(rows, coded_with_noise(y_coder, given, settings.seed + 1), y_coder)
        self.y_coder_ = y_coder

    def _fit_by_class(
        self, rows: Array, given: Table, y_coder: TableCoder, classes: Classes
    ) -> None:
        settings = self._settings()
        numbers = y_rows = None
        if classes.numbers:
            numbers = y_coder.only(classes.numbers)
            y_rows = coded_with_noise(numbers, given.only(classes.numbers), settings.seed + 1)
        parts, is_ended = [], False
        for name, own in zip(classes.names, classes.members, strict=True):
            self._tell(f"fitting the rows of {name!r}")
            part = FlowDensity(**self.get_params(deep=False))
            if is_ended:
                part.family = "gaussian"  # all that is left to be had at once
            part.y_coder_, part.flows_, part._given = None, {}, None
            part.coder_ = self.coder_
            part._reset()
            if numbers is not None and y_rows is not None:
                part.y_coder_ = numbers
                part._fit_jointly(rows[own], y_rows[own], numbers)
            else:
                part._fit_coded(rows[own], settings._replace(family=part.family))
            if is_ended:
                part.history_ = dict(interrupts.INTERRUPTED)
            is_ended = interrupts.was_interrupted(part.history_)
            parts.append(part)
        shares = np.array([own.mean() for own in classes.members])
        self._given = ByClass(
            # Which rows were whose is no longer needed, and would be saved with the estimator.
            y_coder,
            classes._replace(members=[]),
            shares,
            [part._given or part for part in parts],
        )
        by_class = dict(zip(classes.names, parts, strict=True))
        self.flow_ = None
        self.flows_ = {name: part.flow_ for name, part in by_class.items()}
        self.family_ = ", ".join(f"{name}: {part.family_}" for name, part in by_class.items())
        self.recipe_ = ", ".join(f"{name}: {part.recipe_}" for name, part in by_class.items())
        self.candidates_ = [
            candidate._replace(name=f"{name}: {candidate.name}")
            for name, part in by_class.items()
            for candidate in part.candidates_
        ]
        self.history_ = {name: part.history_ for name, part in by_class.items()}

    def _fit_jointly(self, rows: Array, y_rows: Array, y_coder: TableCoder) -> None:
        names = [f"{where} of y" for where in y_coder.coded_names] + self.coder_.coded_names
        joint, n_given = np.column_stack([y_rows, rows]), y_rows.shape[1]
        whole = (np.isnan(y_rows) | (y_rows % 1 == 0)).all(0)
        check_coded(joint, names, "X and y", _ADVICE if whole.any() else "")
        units = standardiser(filled(joint))
        joint = standardise(units, joint)
        check_reach(joint, names, "X and y")
        self._keep(
            fit_conditional(joint[:, n_given:], joint[:, :n_given], self._settings(), self._tell)
        )
        self.flow_ = with_standardisers(units, self.flow_, n_given)
        assert self._mixture is not None
        is_flow = self.family_ in ("gaussian", "mixture")
        companion = Companion(units, self._mixture, is_flow)
        self._given = Jointly(self.flow_, self.family_, companion, self.coder_, y_coder)

    def score_samples(self, X: Any, y: Any = None) -> Array:
        """Compute the log density of rows, given y where the fit was.

        Args:
            X: Rows of shape (n, d), NaN (or None) for missing values.
            y: What they are given, shape (n,) or (n, c), missing values likewise; None for the
                density of X alone.

        Returns:
            Nats, shape (n,); see `Gaussianizer.score_samples`.

        Raises:
            ValueError: If y is given and was not in the fit, has another number of rows or is
                outside its support; or if it is needed: where the flow is not a mixture the density
                of X alone, or given an incomplete y, is not known.
        """
        check_is_fitted(self, "flow_")
        if self._given is None:
            self._check_no_y(y)
            return super().score_samples(X)
        # A class sees its own rows alone, and would count only these.
        table = self.coder_.as_learnt(self._table(X, reset=False))
        return self._given.log_density(table, None if y is None else self._read(y, table.n_rows))

    def score(self, X: Any, y: Any = None) -> float:
        """Sum of the log densities of rows, given y where the fit was, in nats."""
        return float(self.score_samples(X, y).sum())

    def sample(self, n_samples: int = 1, random_state: Any = None, y: Any = None) -> Any:
        """Draw rows.

        Args:
            n_samples: How many; given y, how many for each of its rows.
            random_state: Seed, or `numpy.random.RandomState`.
            y: What they are given, shape (m,) or (m, c); one number or text stands for one row.

        Returns:
            Rows in the units and types of X, a data frame where X was one: n_samples of them, or
            those of the first row of y, then those of the second and so on.

        Raises:
            ValueError: If n_samples is not a positive integer, or if y is missing, or is given and
                was not in the fit.
        """
        check_is_fitted(self, "flow_")
        if self._given is None:
            self._check_no_y(y)
            return self._draw(n_samples, random_state)
        check_number(n_samples)
        given = self._read_for_draws(y)
        rng = np.random.default_rng(check_random_state(random_state).randint(_MOST_SEED))
        n_dims = len(self.coder_.kinds)
        z = rng.standard_normal((given.n_rows * n_samples, n_dims))
        points = rng.uniform(size=(len(z), self._given.n_discrete))
        given = given.rows(np.repeat(np.arange(given.n_rows), n_samples))
        return self.coder_.decode(self._given.push(z, given, points, rng))

    def _read(self, y: Any, n_rows: int | None = None) -> Table:
        assert self.y_coder_ is not None
        table = read_condition(y, n_rows)
        check_within(self.y_coder_, table)
        return table

    def _read_for_draws(self, y: Any) -> Table:
        if self.y_coder_ is None:
            raise ValueError("Expected a density fitted with y; got one fitted without.")
        if y is None:
            raise ValueError("Expected y, as the density was fitted given one; got none.")
        return self._read(np.asarray([y]) if np.ndim(y) == 0 else y)

    @staticmethod
    def _check_no_y(y: Any) -> None:
        if y is not None:
            raise ValueError("Expected no y, as the density was fitted without; got one.")
