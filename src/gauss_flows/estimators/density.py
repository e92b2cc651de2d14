"""A density estimator with the conventions of scikit-learn's `KernelDensity`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.estimators.base import FlowEstimator

Array = NDArray[np.float64]


class FlowDensity(FlowEstimator):
    """Estimate the density of rows by a flow.

    As with `sklearn.neighbors.KernelDensity`, `score_samples` gives the log density of every row,
    `score` their sum, and `sample` draws rows.

    Args:
        family: As in `Gaussianizer`; so is what follows.
        n_layers: Number of blocks, or of couplings.
        n_components: Components of each mixture.
        max_epochs: Most passes of training.
        random_state: Seed, or generator, of the fit.
        verbose: Whether to tell what is tried.

    Attributes:
        flow_: The flow, a flowjax `Transformed` in the units of X.
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
    """

    def score(self, X: Any, y: Any = None) -> float:
        """Sum of the log densities of rows, in nats."""
        return float(self.score_samples(X).sum())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Array:
        """Draw rows of shape (n_samples, d) in the units of X."""
        return self._draw(n_samples, random_state)
