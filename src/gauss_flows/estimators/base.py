"""What the estimators share: fitting a flow to a table, and asking it."""

from __future__ import annotations

import sys
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from gauss_flows.rbig.checks import check_finite_table, check_table
from gauss_flows.selection.assemble import standardise, standardiser, with_standardiser
from gauss_flows.selection.evaluate import draw, log_density
from gauss_flows.selection.families import FAMILIES, NEED_TWO_COLUMNS
from gauss_flows.selection.fitting import Settings, fit_flow

Array = NDArray[np.float64]

_MOST_SEED = 2**31 - 1


class FlowEstimator(BaseEstimator):
    """The parameters, the fit and the density that every estimator here has."""

    n_features_in_: int

    def __init__(
        self,
        family: str = "auto",
        *,
        n_layers: int | None = None,
        n_components: int | None = None,
        max_epochs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ):
        self.family = family
        self.n_layers = n_layers
        self.n_components = n_components
        self.max_epochs = max_epochs
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a flow.

        A `KeyboardInterrupt` during training ends the fit with the best flow so far.

        Args:
            X: Rows of shape (n, d): an array or a data frame of numbers.
            y: Ignored.

        Returns:
            The estimator.

        Raises:
            ValueError: If X holds NaN or infinite values, is constant in a column, repeats one or
                has one that follows from the others (row or column named); if it has too few rows;
                or if a parameter is unknown.
        """
        rows = self._validated(X, reset=True)
        self._check_parameters(rows.shape)
        check_table(X if hasattr(X, "columns") else rows, name="X")
        units = standardiser(rows)
        settings = Settings(
            family=self.family,
            n_layers=self.n_layers,
            n_components=self.n_components,
            max_epochs=self.max_epochs,
            seed=int(check_random_state(self.random_state).randint(_MOST_SEED)),
            show_progress=bool(self.verbose) and sys.stderr.isatty(),
            keep_interrupted=True,
        )
        fitted = fit_flow(standardise(units, rows), settings, self._tell)
        self.flow_ = with_standardiser(units, fitted.flow)
        self.family_ = fitted.family
        self.recipe_ = str(fitted.recipe)
        self.candidates_ = fitted.candidates
        self.history_ = fitted.history
        return self

    def score_samples(self, X: Any) -> Array:
        """Compute the log density of rows.

        Args:
            X: Rows of shape (n, d).

        Returns:
            Nats, shape (n,).
        """
        rows = self._rows(X)
        return log_density(self.flow_, rows)

    def _rows(self, X: Any) -> Array:
        check_is_fitted(self, "flow_")
        return self._validated(X, reset=False)

    def _validated(self, X: Any, *, reset: bool) -> Array:
        rows = validate_data(self, X, dtype="float64", ensure_all_finite=False, reset=reset)
        # Names are those of the data frame, where it is one.
        try:
            check_finite_table(X if hasattr(X, "columns") else rows, name="X")
        except ValueError as fault:
            # scikit-learn's own checks look for its spelling.
            raise ValueError(str(fault).replace("got nan", "got NaN")) from None
        return np.asarray(rows)

    def _draw(self, n_samples: int, random_state: Any) -> Array:
        check_is_fitted(self, "flow_")
        if n_samples < 1:
            raise ValueError(f"Expected n_samples >= 1; got {n_samples}.")
        seed = check_random_state(random_state).randint(_MOST_SEED)
        return draw(self.flow_, n_samples, int(seed))

    def _check_parameters(self, shape: tuple[int, ...]) -> None:
        if self.family not in FAMILIES:
            raise ValueError(f"Expected family to be one of {FAMILIES}; got {self.family!r}.")
        if shape[1] == 1 and self.family in NEED_TWO_COLUMNS:
            raise ValueError(
                f"Expected at least two columns for family={self.family!r}; got one. Use "
                "'auto' or 'diagonal'."
            )
        for name, least in (("n_layers", 1), ("n_components", 1), ("max_epochs", 0)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"Expected {name} >= {least} or None; got {value}.")
        if self.n_components is not None and shape[0] < self.n_components:
            raise ValueError(
                f"Expected at least as many rows as components; got {shape[0]} rows and "
                f"n_components={self.n_components}."
            )
        if shape[0] < shape[1] + 2:
            raise ValueError(
                f"Expected at least {shape[1] + 2} rows to fit {shape[1]} columns; got n_samples = "
                f"{shape[0]}."
            )

    def _tell(self, line: str) -> None:
        if self.verbose:
            print(f"{type(self).__name__}: {line}", file=sys.stderr)
