"""Rows of low density as outliers."""

from __future__ import annotations

import warnings
from numbers import Real
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin
from sklearn.utils.validation import check_is_fitted

from gauss_flows.columns.tables import Table, missing_in
from gauss_flows.estimators.base import FlowEstimator
from gauss_flows.estimators.coded_rows import coded_with_noise
from gauss_flows.selection import interrupts
from gauss_flows.selection.settings import Settings

Array = NDArray[np.float64]

_FOLDS = 3
# Of more rows than these no one has much say in its own density, and so many tell the others'.
_MOST_CROSS_FITTED, _ROWS_THAT_CHOOSE = 5_000, 3_000
_ROUNDING = 1e-7
# Draws of what a row lacks.
_N_COMPLETIONS = 32


class FlowOutlierDetector(OutlierMixin, FlowEstimator):
    r"""Call the rows of lowest density outliers.

    If the share π of the rows is spread evenly and the others have density p, their common density
    (1 − π) p + π u ranks rows as p does, and no ranking has a larger expected area under the ROC
    curve. A fit to few rows ranks worse, because outliers raise the density around themselves. So
    every row is first scored by a fit that has not seen it, a closed form on two thirds of the
    rows; the share `contamination` of lowest density is left out, a closed form fitted to the rest
    chooses again what to leave out, and the flow is fitted to what is left. Until then no mixture
    may give outliers a narrow shape of their own. Of more than 5000 rows a closed form of 3000
    chooses, a mixture where the family is left open.

    `score_samples` is thus the log density of the rows kept; rows with gaps are scored as if they
    had none. Where too few are kept for a fit, or a column of theirs is constant or follows from
    the others, all rows count.

    Args:
        family: As in `Gaussianizer`; so is what follows.
        contamination: The share of the training rows to call outliers, in (0, 0.5].
        support: As in `Gaussianizer`.
        n_layers: Number of blocks, or of couplings.
        n_components: Components of each mixture.
        max_epochs: Most passes of training.
        random_state: Seed, or `numpy.random.RandomState`, of the fit.
        verbose: Whether to tell what is tried.

    Attributes:
        offset_: The log density, in nats, below which a row is an outlier.
        flow_: The flow, as in `Gaussianizer`; so is `coder_`.
        family_: The family chosen.
        recipe_: How its closed-form start was fitted, in words.
        candidates_: What was tried, with its mean log density on rows held back.
        history_: Losses of the training, empty without any.

    References:
        Neyman and Pearson, *On the Problem of the Most Efficient Tests of Statistical Hypotheses*
        (1933). Rousseeuw and Van Driessen, *A Fast Algorithm for the Minimum Covariance Determinant
        Estimator* (1999).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.estimators import FlowOutlierDetector
        >>> x = np.random.default_rng(0).normal(size=(300, 2))
        >>> detector = FlowOutlierDetector("gaussian", contamination=0.05).fit(x)
        >>> detector.predict([[0.0, 0.0], [9.0, 9.0]])
        array([ 1, -1])
    """

    def __init__(
        self,
        family: str = "auto",
        *,
        contamination: float = 0.1,
        support: Any = None,
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
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a flow to the rows that are likely, and the threshold; see `Gaussianizer.fit`."""
        share = self.contamination
        if not isinstance(share, Real) or not 0 < share <= 0.5:
            raise ValueError(f"Expected contamination in (0, 0.5]; got {share!r}.")
        with self._anew():
            table, settings = self._table_to_fit(X), self._settings()
            # Every fit knows the levels and bounds of all rows: those left out are scored too.
            rows = coded_with_noise(self.coder_, table, settings.seed)
            is_part = self._n_outliers(len(rows)) > 0
            if not is_part or not self._fit_to_likely_rows(table, rows, settings):
                self._fit_coded(rows, settings)
            scores = np.sort(self.score_samples(X))
            self.offset_ = _just_below(scores[self._n_outliers(len(scores))])
        return self

    def score_samples(self, X: Any) -> Array:
        """Compute the log density of rows, of those with gaps as if they had none.

        A marginal density of fewer columns is in other units than that of whole rows, and cannot be
        compared with it. So a row with missing values has the mean log density of 32 whole rows:
        itself, with draws of what is missing given the rest.

        Args:
            X: Rows of shape (n, d), NaN (or None) for missing values.

        Returns:
            Nats, shape (n,); see `Gaussianizer.score_samples`.
        """
        check_is_fitted(self, "flow_")
        return _log_density(self, self._table(X, reset=False))

    def decision_function(self, X: Any) -> Array:
        """Log density above the threshold, in nats, shape (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for inliers and -1 for outliers, shape (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)

    def _fit_to_likely_rows(self, table: Table, rows: Array, settings: Settings) -> bool:
        """Fit without the share of rows that closed forms of other rows find the least likely.

        Returns:
            Whether that could be done, if only in part: an interrupt leaves the best so far.
        """
        some, is_large = rows, len(rows) > _MOST_CROSS_FITTED
        if is_large:
            some = rows[np.random.default_rng(0).permutation(len(rows))[:_ROWS_THAT_CHOOSE]]
        self._tell("looking for the rows to leave out")
        try:
            closed = settings._replace(max_epochs=0, is_contaminated=not is_large)
            # Of many rows outliers take few components, and whatever has most of them ranks well.
            if is_large and settings.family == "auto":
                closed = closed._replace(family="mixture")
            self._fit_coded(some, closed)
            if interrupts.was_interrupted(self.history_):
                return True
            with interrupts.returning():
                last = self._last(table, rows)
        except ValueError as fault:
            self._tell(f"staying with all rows: {fault}")
            return False
        except KeyboardInterrupt:
            if not hasattr(self, "flow_"):
                raise
            self._tell("interrupted: staying with the first closed form")
            self.history_ = {**self.history_, **interrupts.INTERRUPTED}
            return True
        last.candidates_ = [*self.candidates_, *last.candidates_]
        fitted = set(vars(last)) - set(self.get_params(deep=False))
        vars(self).update({name: vars(last)[name] for name in fitted})
        return True

    def _last(self, table: Table, rows: Array) -> FlowEstimator:
        """Fit to the rows that are left, chosen by fits that have not seen them."""
        n_left_out = self._n_outliers(len(rows))
        kept = _likely(self._scores_of_others(table, rows), n_left_out)
        if len(rows) <= _MOST_CROSS_FITTED:
            rough = self._another(rows[kept])
            kept = _likely(_log_density(rough, table), n_left_out)
        self._tell(f"fitting without {n_left_out} of {len(rows)} rows")
        last = self._another(rows[kept], is_last=True)
        _log_density(last, table)
        return last

    def _scores_of_others(self, table: Table, rows: Array) -> Array:
        """Log density of every row by a fit that has not seen it, unless there are very many."""
        n_rows, scores = len(rows), _log_density(self, table)
        if n_rows > _MOST_CROSS_FITTED:
            return scores
        order = np.random.default_rng(0).permutation(n_rows)
        n_held = -(-n_rows // _FOLDS)
        for fold in range(_FOLDS):
            # Folds of one size, which run the same compiled code; a row or two are in two of them.
            held = order[np.arange(fold * n_held, (fold + 1) * n_held) % n_rows]
            part = self._another(rows[np.setdiff1d(order, held)])
            scores[held] = _log_density(part, table)[held]
        return scores

    def _n_outliers(self, n_rows: int) -> int:
        return int(self.contamination * n_rows + _ROUNDING)

    def _another(self, rows: Array, *, is_last: bool = False) -> FlowEstimator:
        """Fit to coded rows only: a closed form of the first one's family, or what is asked for."""
        parameters = self.get_params(deep=False)
        del parameters["contamination"]
        if not is_last:
            parameters |= {"family": self.family_, "max_epochs": 0}
        part = FlowEstimator(**parameters)
        part._check_sizes(*rows.shape)
        part.coder_ = self.coder_
        part._reset()
        with warnings.catch_warnings():
            # What there is to say of the columns the first fit has said, with all their rows.
            warnings.simplefilter("ignore", UserWarning)
            part._fit_coded(rows, part._settings()._replace(is_contaminated=not is_last))
        # The last one has something of its own to keep as soon as it has tried anything.
        if interrupts.was_interrupted(part.history_) and not (is_last and part.candidates_):
            raise KeyboardInterrupt
        return part


def _log_density(fit: FlowEstimator, table: Table) -> Array:
    """Log density of rows, or the mean of it over draws of what they lack, in nats, shape (n,)."""
    has_gaps = np.any([missing_in(column) for column in table.columns], axis=0)
    if not has_gaps.any():
        return fit.log_density_of(table)
    scores = np.empty(table.n_rows)
    if not has_gaps.all():
        scores[~has_gaps] = fit.log_density_of(table.rows(~has_gaps))
    gappy = table.rows(np.repeat(np.flatnonzero(has_gaps), _N_COMPLETIONS))
    drawn = fit.completed(gappy)
    scores[has_gaps] = fit.log_density_of(drawn).reshape(-1, _N_COMPLETIONS).mean(1)
    return scores


def _likely(scores: Array, n_left_out: int) -> NDArray[np.intp]:
    """Numbers of the rows that are left, without so many of the lowest scores, or fewer of ties."""
    return np.flatnonzero(scores >= _just_below(np.sort(scores)[n_left_out]))


def _just_below(score: float) -> float:
    """Less by so much that rows of one density share a side, whatever rounding does to it."""
    return float(score - _ROUNDING * (1 + abs(score)))
