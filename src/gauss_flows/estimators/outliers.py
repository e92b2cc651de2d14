"""Rows of low density as outliers."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from sklearn.base import OutlierMixin

from gauss_flows.estimators.base import FlowEstimator

Array = NDArray[np.float64]


class FlowOutlierDetector(OutlierMixin, FlowEstimator):
    """Call the rows of lowest density outliers.

    Args:
        family: As in `Gaussianizer`; so is what follows.
        contamination: The share of the training rows to call outliers, in (0, 0.5].
        n_layers: Number of blocks, or of couplings.
        n_components: Components of each mixture.
        max_epochs: Most passes of training.
        random_state: Seed, or generator, of the fit.
        verbose: Whether to tell what is tried.

    Attributes:
        offset_: The log density, in nats, below which a row is an outlier.
        flow_: The flow, a flowjax `Transformed` in the units of X.
        family_: The family chosen.
        recipe_: How its closed-form start was fitted, in words.
        candidates_: What was tried, with its mean log density on rows held back.
        history_: Losses of the training, empty without any.

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
        n_layers: int | None = None,
        n_components: int | None = None,
        max_epochs: int | None = None,
        random_state: int | np.random.RandomState | None = 0,
        verbose: bool = False,
    ):
        super().__init__(
            family,
            n_layers=n_layers,
            n_components=n_components,
            max_epochs=max_epochs,
            random_state=random_state,
            verbose=verbose,
        )
        self.contamination = contamination

    def fit(self, X: Any, y: Any = None) -> Self:
        """Fit a flow and the threshold; see `Gaussianizer.fit`."""
        if not 0 < self.contamination <= 0.5:
            raise ValueError(f"Expected contamination in (0, 0.5]; got {self.contamination}.")
        super().fit(X)
        self.offset_ = float(np.quantile(self.score_samples(X), self.contamination))
        return self

    def decision_function(self, X: Any) -> Array:
        """Log density above the threshold, in nats, shape (n,): negative for outliers."""
        return self.score_samples(X) - self.offset_

    def predict(self, X: Any) -> NDArray[np.int64]:
        """1 for inliers and -1 for outliers, shape (n,)."""
        return np.where(self.decision_function(X) < 0, -1, 1)
