"""What the estimators share: reading a table, fitting a flow to it, and asking it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import Table, is_frame, missing_in, read_array, read_frame
from gauss_flows.estimators.coded_rows import (
    check_coded,
    check_reach,
    coded_with_noise,
    filled,
    mean_over_points,
)
from gauss_flows.rbig.checks import without_mask
from gauss_flows.rbig.options import check_count
from gauss_flows.selection.assemble import standardise, standardiser, with_standardiser
from gauss_flows.selection.evaluate import draw, log_density
from gauss_flows.selection.families import FAMILIES, NEED_TWO_COLUMNS
from gauss_flows.selection.fitting import Fitted, Settings, fit_flow
from gauss_flows.selection.incomplete import Companion, fit_incomplete, marginal_log_density

Array = NDArray[np.float64]

_MOST_SEED = 2**31 - 1
# A regularised Gaussian has to do with fewer rows than columns; each fold holds one of these back.
_FEWEST_ROWS = 5
_FAMILIES_OF_FEW_ROWS = ("auto", "gaussian", "mixture")


class FlowEstimator(BaseEstimator):
    """The parameters, the fit and the density that every estimator here has."""

    n_features_in_: int
    coder_: TableCoder
    flow_: Any

    def __init__(
        self,
        family: str = "auto",
        *,
        support: Any = None,
        n_layers: int | None = None,
        n_components: int | None = None,
        max_epochs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ):
        self.family = family
        self.support = support
        self.n_layers = n_layers
        self.n_components = n_components
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a flow.

        Missing values are NaN (or None); they are taken for missing at random. Mixtures are fitted
        to what is there, by EM, and `"auto"` keeps to them where values are missing; for any other
        family the missing values are drawn once from the best joint mixture given the rest of
        their row. A `KeyboardInterrupt` ends the fit with the best flow so far.

        Args:
            X: Rows of shape (n, d): an array, or a data frame of numbers, truth values, categories
                and text; what an array masks is missing.
            y: Ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: If X holds infinite values or values outside their column's support, or has
                a column without values or one that follows from the others (row or column named);
                if it has too few rows; or if a parameter is unknown.

        Warns:
            UserWarning: If columns are constant or repeat others: these are left out of the
                density, and come back in samples. If real columns hold whole numbers.
        """
        with self._anew():
            table = self._table_to_fit(X)
            settings = self._settings()
            self._fit_coded(coded_with_noise(self.coder_, table, settings.seed), settings)
        return self

    @contextlib.contextmanager
    def _anew(self) -> Iterator[None]:
        """Forget what was fitted, but have all of it back where a new fit comes to nothing."""
        before = vars(self).copy()
        for name in before:
            # What scikit-learn keeps of its own, as for `set_output`, begins with an underscore.
            if name.endswith("_") and not name.startswith("_"):
                delattr(self, name)
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise

    def _table_to_fit(self, X: Any) -> Table:
        """Read and check the rows, and learn how to code them."""
        self._check_family(FAMILIES)
        table = self._table(X, reset=True)
        self._check_sizes(table.n_rows, len(table.columns))
        self._reset()
        self.coder_ = TableCoder.fit(table, self.support)
        if self.family in NEED_TWO_COLUMNS and len(self.coder_.kinds) == 1:
            raise ValueError(
                f"Expected at least two columns for family={self.family!r}; got one. Use "
                "'auto', 'mixture' or 'diagonal'."
            )
        return table

    def _fit_coded(self, rows: Array, settings: Settings) -> None:
        check_coded(rows, self.coder_.coded_names, "X")
        units = standardiser(filled(rows))
        check_reach(standardise(units, rows), self.coder_.coded_names, "X")
        fit = fit_incomplete if np.isnan(rows).any() else fit_flow
        self._keep(fit(standardise(units, rows), settings, self._tell))
        self.flow_ = with_standardiser(units, self.flow_)
        if self._mixture is not None and rows.shape[1] > 1:
            is_flow = self.family_ in ("gaussian", "mixture")
            self._companion = Companion(units, self._mixture, is_flow)

    def score_samples(self, X: Any) -> Array:
        """Compute the log density of rows.

        The mass of whole numbers and categories is their density's mean over 64 points of their
        intervals. Missing values are marginalised: exactly where the flow is a mixture, otherwise
        by importance sampling with one as the proposal.

        Args:
            X: Rows of shape (n, d), NaN (or None) for missing values.

        Returns:
            Nats, shape (n,): with respect to length for numbers and to counting for whole numbers
            and categories; −inf outside the support.
        """
        check_is_fitted(self, "flow_")
        return self.log_density_of(self._table(X, reset=False))

    def log_density_of(self, table: Table) -> Array:
        """Log density of rows that have been read, in nats, shape (n,)."""

        def at(u: Array) -> Array:
            rows, log_det = self.coder_.encode(table, np.tile(u, (table.n_rows, 1)))
            return self._coded_log_density(rows) + log_det

        return mean_over_points(at, self.coder_.n_discrete)

    def _coded_log_density(self, rows: Array) -> Array:
        missing = np.isnan(rows)
        incomplete = missing.any(1)
        if not incomplete.any():
            return log_density(self.flow_, rows)
        found = np.zeros(len(rows))
        if not incomplete.all():
            found[~incomplete] = log_density(self.flow_, rows[~incomplete])
        some = incomplete & ~missing.all(1)  # nothing at all has probability one
        if some.any():
            found[some] = marginal_log_density(self.flow_, self._the_companion(), rows[some])
        return found

    def completed(self, table: Table) -> Table:
        """Draw the missing values of rows that have been read, given the rest of their row."""
        decoded = self.coder_.decode(self._completed(coded_with_noise(self.coder_, table, 0)))
        drawn = read_frame(decoded, "X") if is_frame(decoded) else read_array(decoded, "X")
        columns = [
            np.where(missing_in(column), new, column)
            for column, new in zip(table.columns, drawn.columns, strict=True)
        ]
        return table._replace(columns=columns)

    def _completed(self, rows: Array) -> Array:
        """Draw missing values given the rest of their row."""
        rng = np.random.default_rng([0, 8])
        if rows.shape[1] == 1:
            return np.where(np.isnan(rows), draw(self.flow_, len(rows), 8), rows)
        return self._the_companion().complete(rows, rng)

    def _the_companion(self) -> Companion:
        """The joint mixture beside the flow; learnt from the flow when first asked for."""
        if self._companion is None:
            self._companion = Companion.of(self.flow_)
        return self._companion

    def _table(self, X: Any, *, reset: bool) -> Table:
        """Read rows, with scikit-learn's own checks of their number and names."""
        if is_frame(X) and hasattr(X, "columns"):
            if len(set(X.columns)) < len(X.columns):
                twice = [name for name in X.columns if list(X.columns).count(name) > 1]
                raise ValueError(
                    f"Expected columns of X with names of their own; got {twice[0]!r} more than "
                    "once. Rename them."
                )
            if not len(X):
                raise ValueError("Expected rows in X; got 0 sample(s).")
            validate_data(self, X, skip_check_array=True, reset=reset)
            return read_frame(X, "X")
        X = without_mask(X)
        # Text in an array is for those who say what it is.
        as_text = self.support is not None and np.asarray(X).dtype.kind in "OUS"
        try:
            rows = validate_data(
                self,
                X,
                dtype=None if as_text else "float64",
                ensure_all_finite=False,
                reset=reset,
            )
        except ValueError as fault:
            if "could not convert string" not in str(fault):
                raise
            raise ValueError(
                f"Expected numbers in X; {fault}. Text is for columns whose support is 'category', "
                "and for data frames."
            ) from None
        rows = np.asarray(rows)
        dtype = getattr(X, "dtype", None)
        if dtype is None and np.asarray(X).dtype.kind == "b":
            dtype = np.dtype(bool)
        return read_array(rows.astype(object) if as_text else rows, "X", dtype)

    def _draw(self, n_samples: int, random_state: Any) -> Any:
        check_is_fitted(self, "flow_")
        check_number(n_samples)
        seed = check_random_state(random_state).randint(_MOST_SEED)
        return self.coder_.decode(draw(self.flow_, n_samples, int(seed)))

    def _settings(self) -> Settings:
        return Settings(
            family=self.family,
            n_layers=self.n_layers,
            n_components=self.n_components,
            max_epochs=self.max_epochs,
            seed=int(check_random_state(self.random_state).randint(_MOST_SEED)),
            show_progress=bool(self.verbose) and sys.stderr.isatty(),
            keep_interrupted=True,
        )

    def _reset(self) -> None:
        self._companion: Companion | None = None

    def _keep(self, fitted: Fitted) -> None:
        self.flow_ = fitted.flow
        self.family_ = fitted.family
        self.recipe_ = str(fitted.recipe)
        self.candidates_ = fitted.candidates
        self.history_ = fitted.history
        self._mixture = fitted.mixture

    def _check_family(self, families: tuple[str, ...]) -> None:
        if self.family not in families:
            raise ValueError(f"Expected family to be one of {families}; got {self.family!r}.")

    def _check_sizes(self, n_rows: int, n_columns: int) -> None:
        for name, least in (("n_layers", 1), ("n_components", 1), ("max_epochs", 0)):
            value = getattr(self, name)
            is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
            if value is not None and not (is_whole and value >= least):
                raise ValueError(
                    f"Expected {name} to be an integer of at least {least}, or None; got {value!r}."
                )
        if self.n_components is not None and n_rows < self.n_components:
            raise ValueError(
                f"Expected at least as many rows as components; got {n_rows} rows and "
                f"n_components={self.n_components}."
            )
        least = n_columns + 2
        if n_rows >= least:
            return
        fewest, advice = min(least, _FEWEST_ROWS), ""
        if self.family in _FAMILIES_OF_FEW_ROWS and self.n_layers is None:
            least = fewest
        elif n_rows >= fewest:
            advice = " Use family='auto', 'gaussian' or 'mixture', and no n_layers, for fewer."
        if n_rows < least:
            raise ValueError(
                f"Expected at least {least} rows to fit {n_columns} columns; got "
                f"n_samples = {n_rows}.{advice}"
            )

    def _tell(self, line: str) -> None:
        if self.verbose:
            print(f"{type(self).__name__}: {line}", file=sys.stderr)

    def __sklearn_tags__(self) -> Any:
        """Say that missing values are welcome."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags


def check_number(n_samples: int) -> None:
    """Check a number of samples.

    Args:
        n_samples: The number.

    Raises:
        ValueError: If it is not a positive integer.
    """
    if np.ndim(n_samples):
        raise ValueError(
            f"Expected n_samples to be a positive integer; got an array of shape "
            f"{np.shape(n_samples)}. Give y by its name, as in sample(1, y=y)."
        )
    check_count("n_samples", n_samples)
