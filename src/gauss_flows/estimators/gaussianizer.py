"""A transformer to a standard normal and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils.validation import check_array, check_is_fitted

from gauss_flows.estimators.base import FlowEstimator
from gauss_flows.selection.evaluate import to_data, to_latent

Array = NDArray[np.float64]


class Gaussianizer(ClassNamePrefixFeaturesOutMixin, TransformerMixin, FlowEstimator):
    r"""Turn rows into draws of a standard normal, and back.

    $$z = T(x) \sim N(0, I), \qquad \log p(x) = \log \varphi(T(x)) + \log|\det \partial T(x)|$$

    The default chooses for itself on rows that it holds back: Gaussians, joint mixtures of them and
    rotation-based Gaussianization in closed form first, training only where it helps.

    Columns may be bounded, whole numbers or categories, and values may be missing. Bounded columns
    are stretched to the line first; discrete values are spread over intervals, at random points in
    `fit` and `transform`. A table's constant and repeated columns have no latent.

    Args:
        family: `"auto"`, `"gaussian"`, `"mixture"`, `"rbig"`, `"diagonal"`, `"mixture-coupling"`,
            `"spline-coupling"` or `"affine-coupling"`.
        support: What values columns can have: `"real"`, `"positive"`, a pair `(low, high)` of
            bounds, `"integer"` or `"category"`, for all columns, in a list with one for each, or in
            a mapping from columns' names or numbers. Where nothing is said a data frame's whole
            numbers are integers and its truth values, categories and texts are categories;
            everything else is real.
        n_layers: Number of blocks, or of couplings; chosen when None.
        n_components: Components of each mixture; chosen when None.
        max_epochs: Most passes of training; 0 for none, None for the default.
        random_state: Seed, or `numpy.random.RandomState`, of the fit.
        verbose: Whether to tell on standard error what is tried.

    Attributes:
        flow_: The flow, a flowjax `Transformed` in the units of X where all columns are real.
        coder_: The map of columns that are not real to the flow's coordinates, and back.
        family_: The family chosen.
        recipe_: How its closed-form start was fitted, in words.
        candidates_: What was tried, with its mean log density on rows held back.
        history_: Losses of the training, empty without any.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011). Meng, Song, Song and Ermon, *Gaussianization Flows* (2020).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.estimators import Gaussianizer
        >>> x = np.exp(np.random.default_rng(0).normal(size=(200, 2)))
        >>> gaussianizer = Gaussianizer("mixture").fit(x)
        >>> z = gaussianizer.transform(x)
        >>> bool(abs(z.std() - 1) < 0.1), bool(np.allclose(gaussianizer.inverse_transform(z), x))
        (True, True)
    """

    def transform(self, X: Any) -> Array:
        """Push rows forward.

        Args:
            X: Rows of shape (n, d). Missing values are drawn given the rest of their row, from the
                joint mixture that `score_samples` marginalises with.

        Returns:
            z, one column for each that is neither constant nor repeated.

        Raises:
            ValueError: If a value is outside its column's support.
        """
        check_is_fitted(self, "flow_")
        table = self._table(X, reset=False)
        points = np.random.default_rng([0, 7]).uniform(size=(table.n_rows, self.coder_.n_discrete))
        outside = self.coder_.first_outside(table)
        if outside is not None:
            row, place = outside
            raise ValueError(
                f"Expected X within its support, {self.coder_.described(place)}; got "
                f"{table.columns[place][row]} in row {row}, which has no latent. `score_samples` "
                "gives such rows -inf."
            )
        rows = self.coder_.encode(table, points).rows
        if np.isnan(rows).any():
            rows = self._completed(rows)
        return to_latent(self.flow_, rows)

    def inverse_transform(self, X: Any) -> Any:
        """Bring z of shape (n, n_latents) back to rows of the table's own kind."""
        check_is_fitted(self, "flow_")
        z = np.asarray(check_array(X, dtype="float64"))
        if z.shape[1] != self._n_features_out:
            raise ValueError(f"Expected {self._n_features_out} columns of z; got {z.shape[1]}.")
        return self.coder_.decode(to_data(self.flow_, z))

    def score(self, X: Any, y: Any = None) -> float:
        """Mean log density of rows, in nats."""
        return float(self.score_samples(X).mean())

    def sample(self, n_samples: int = 1, random_state: Any = None) -> Any:
        """Draw n_samples rows in the units and types of X: a data frame where X was one."""
        return self._draw(n_samples, random_state)

    @property
    def _n_features_out(self) -> int:
        return len(self.coder_.kinds)
