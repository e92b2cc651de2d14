"""Conditional moments by gradient-boosted trees, cross-fitted."""

from typing import Any

import numpy as np
from jax.core import Tracer
from jaxtyping import ArrayLike
from sklearn.ensemble import HistGradientBoostingRegressor

from gauss_flows.affine.moment_functions import ConditionalMoments, RowMoments, check_width
from gauss_flows.affine.penalized import VARIANCE_FLOOR
from gauss_flows.affine.spline_moments import ends

N_FOLDS = 5
_TREES: dict[str, Any] = {"early_stopping": False, "learning_rate": 0.06, "min_samples_leaf": 30}
_MEAN_TREES: dict[str, Any] = {"max_iter": 150, "max_leaf_nodes": 15}
# Squares are noisy: their trees are few and small.
_VARIANCE_TREES: dict[str, Any] = {"max_iter": 80, "max_leaf_nodes": 6}


class BoostedMoments(ConditionalMoments):
    """The mean over the folds of what trees say; NumPy only, and piecewise constant.

    Args:
        models: A pair of models (mean, variance) for each fold and active coordinate.
        low: Where p is clipped, shape (d_passive,).
        high: See there.
        offsets: Of the active coordinates, shape (d_active,).
        scales: Of the active coordinates, shape (d_active,).
        least: Share of a column's variance that every predictive one has at least.
    """

    models: list
    low: np.ndarray
    high: np.ndarray
    offsets: np.ndarray
    scales: np.ndarray
    least: float

    @property
    def differentiable(self) -> bool:
        """Trees are not."""
        return False

    @property
    def n_passive(self) -> int:
        """Number of passive coordinates."""
        return len(self.low)

    @property
    def n_active(self) -> int:
        """Number of active coordinates."""
        return len(self.offsets)

    # NumPy arrays, where the base promises JAX's: `differentiable` says so.
    def mean(self, p: ArrayLike) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """E[a | p]."""
        return self.offsets + self.scales * self._predict(p)[0]

    def log_variance(self, p: ArrayLike) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Log Var[a | p]."""
        return self._predict(p)[1] + 2.0 * np.log(self.scales)

    def variance(self, p: ArrayLike) -> np.ndarray:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Predictive variance: the trees were fitted to errors on rows that they had not seen."""
        return np.exp(self.log_variance(p)) + self.scales**2 * self.least

    def _predict(self, p: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
        if isinstance(p, Tracer):
            raise ValueError(
                "Expected arrays with values; got a traced one: trees run outside JAX. Use another "
                "method than 'boosting' inside jit, grad or vmap."
            )
        table = np.asarray(check_width(p, self.n_passive), np.float64)
        rows = np.clip(table, self.low, self.high).reshape(-1, self.n_passive)
        # Trees have a side for what is missing, without having seen any.
        unknown = np.isnan(rows).any(1)
        means = np.mean([[m.predict(rows) for m, _ in fold] for fold in self.models], axis=0)
        logs = np.mean([[_log(v.predict(rows)) for _, v in fold] for fold in self.models], axis=0)
        means[:, unknown] = logs[:, unknown] = np.nan
        shape = (*table.shape[:-1], self.n_active)
        return means.T.reshape(shape), logs.T.reshape(shape)


def boosting_moments(
    p: np.ndarray, a: np.ndarray, random_state: int
) -> tuple[BoostedMoments, RowMoments]:
    """Trees for the mean, and trees with a gamma likelihood for the squares of what it leaves.

    Args:
        p: Passive coordinates, shape (n, d_passive).
        a: Active coordinates, shape (n, d_active).
        random_state: Seed of the folds.

    Returns:
        The moments as functions, and at the rows, each by the models that have not seen it.

    References:
        Chernozhukov et al., *Double/Debiased Machine Learning for Treatment and Structural
        Parameters* (2018), for the cross-fitting.
    """
    n_rows = len(p)
    low, high = np.array([ends(column) for column in p.T]).T
    inside = np.clip(p, low, high)
    offsets, scales = a.mean(0), a.std(0)
    scales = np.where(scales > 0, scales, 1.0)
    y = (a - offsets) / scales
    order = np.random.default_rng(random_state).permutation(n_rows)
    folds = np.array_split(order, N_FOLDS)
    mean = np.empty_like(y)
    fitted_means = []
    for held in folds:
        seen = np.setdiff1d(order, held)
        fitted_means.append([_trees("squared_error", inside[seen], c[seen]) for c in y.T])
        mean[held] = np.stack([model.predict(inside[held]) for model in fitted_means[-1]], axis=1)
    squares = np.maximum((y - mean) ** 2, VARIANCE_FLOOR)
    log_variance = np.empty_like(y)
    models = []
    for held, means in zip(folds, fitted_means, strict=True):
        seen = np.setdiff1d(order, held)
        variances = [_trees("gamma", inside[seen], c[seen]) for c in squares.T]
        log_variance[held] = np.stack([_log(m.predict(inside[held])) for m in variances], axis=1)
        models.append(list(zip(means, variances, strict=True)))
    moments = BoostedMoments(models, low, high, offsets, scales, 1.0 / n_rows)
    log_variance = log_variance + 2.0 * np.log(scales)
    rows = RowMoments.of(a, offsets + scales * mean, log_variance, is_cross_fitted=True)
    return moments, rows


def _trees(loss: str, x: np.ndarray, y: np.ndarray) -> HistGradientBoostingRegressor:
    size = _VARIANCE_TREES if loss == "gamma" else _MEAN_TREES
    return HistGradientBoostingRegressor(loss=loss, **_TREES, **size).fit(x, y)


def _log(variance: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(variance, VARIANCE_FLOOR))
