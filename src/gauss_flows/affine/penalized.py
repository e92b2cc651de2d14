r"""Penalised fits of a mean and a log-variance, smoothed as much as the data ask for.

Both are $B c$ with a basis B and a penalty $\lambda\, c^\top P c$. One simultaneous
diagonalisation of $B^\top W B$ and P gives the restricted likelihood for every λ at once.
"""

from typing import Any, NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve, cholesky, eigh, solve_triangular

# Strengths of the penalty that are tried, relative to where it weighs as much as the data.
_STRENGTHS = np.geomspace(1e-9, 1e6, 91)
_RIDGE = 1e-10
_SCORING_STEPS = 25
_LONGEST_STEP = 1.5
_MOST_RATIO = 1e6
_MEAN_LOG_CHI2 = 1.2703628454614782  # −E log χ²₁
# What is charged for clusters that no row has shown, and the spread from which on in full. With
# less, flows of 20 to 300 rows come out worse than none; with more, or at many degrees of freedom,
# deep flows of thousands of rows keep from the normal.
_ROWS_OF_THE_COLUMN, _FEW = 3.0, 0.05
# More rows than these show all clusters but those of about 1/n of the law, and pay in proportion.
_ROWS_THAT_MISS_CLUSTERS = 300
# Means further from the column's, squared and in its own deviations, are taken for no further.
_FAR = 2.0
# Variances below this share of the column's own are not believed.
VARIANCE_FLOOR = 1e-8
_MOST_LEVERAGE = 0.95
# How far an influence follows what leaving its row out would do: a few rows of large leverage
# would make up the whole standard error otherwise.
_MOST_LEVERAGE_OF_INFLUENCE, _MOST_DROP_OF_INFLUENCE = 0.5, 0.5


class Smooth(NamedTuple):
    """A penalised least-squares fit.

    Args:
        coefficients: Of the basis, shape (K,).
        covariance: (BᵀWB + λP)⁻¹, shape (K, K): the coefficients' covariance up to the noise.
    """

    coefficients: np.ndarray
    covariance: np.ndarray


class _Diagonal(NamedTuple):
    """BᵀWB and P in the basis in which the one is the identity and the other diagonal."""

    basis: np.ndarray  # columns: coefficients of the new basis functions
    roughness: np.ndarray


def _diagonalized(gram: np.ndarray, penalty: np.ndarray) -> _Diagonal:
    size = np.trace(gram) / len(gram)
    lower = cholesky(gram + _RIDGE * size * np.eye(len(gram)), lower=True)
    inner = solve_triangular(lower, solve_triangular(lower, penalty, lower=True).T, lower=True)
    roughness, turn = eigh(0.5 * (inner + inner.T))
    basis = solve_triangular(lower, turn, lower=True, trans=1)
    return _Diagonal(basis, np.maximum(roughness, 0.0))


def _smooth(diagonal: _Diagonal, right: np.ndarray, square: float, n_rows: int) -> Smooth:
    """The fit of largest restricted likelihood; ``right`` is BᵀWy and ``square`` yᵀWy."""
    rough = diagonal.roughness
    penalized = rough > 1e-9 * max(rough.max(), 1e-300)
    n_free = len(rough) - int(penalized.sum())
    projected = (diagonal.basis.T @ right) ** 2
    scale = 1.0 / np.median(rough[penalized]) if penalized.any() else 1.0
    strengths = scale * _STRENGTHS
    shrink = 1.0 + strengths[:, None] * rough
    residual = np.maximum(square - (projected / shrink).sum(1), 1e-12 * square + 1e-300)
    criterion = (n_rows - n_free) * np.log(residual) + np.log(shrink).sum(1)
    criterion -= np.log(strengths[:, None] * rough[penalized]).sum(1)
    best = strengths[np.argmin(criterion)]
    weights = 1.0 / (1.0 + best * rough)
    covariance = (diagonal.basis * weights) @ diagonal.basis.T
    return Smooth(covariance @ right, covariance)


class MomentFit(NamedTuple):
    """Mean and log-variance of one column over a basis.

    Args:
        mean: Coefficients of the mean, shape (K,).
        mean_covariance: Their covariance, shape (K, K).
        log_variance: Coefficients of the log-variance, shape (K,).
        shape: (BᵀB + λP)⁻¹ of the log-variance's fit: half the covariance of its coefficients.
        offset: Of the column, and its scale: both moments are of (a − offset) / scale.
        scale: See there.
        level: Mean of the variances, of (a − offset) / scale.
        lowest: Least of (a − offset) / scale, below which no mean lies.
        highest: Greatest of it.
        n_rows: Number of rows that were fitted.
        hidden: Whether predictive variances allow for clusters that no row has shown.
    """

    mean: np.ndarray
    mean_covariance: np.ndarray
    log_variance: np.ndarray
    shape: np.ndarray
    offset: float
    scale: float
    level: float
    lowest: float
    highest: float
    n_rows: int
    hidden: bool

    def at(self, basis: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Mean, log-variance without its bias, and log predictive variance at rows of a basis."""
        spread = leverage(basis, self.shape)
        plain = self._plain(basis)
        # The logarithm of an estimated variance is too small by half the variance of that
        # logarithm, which is twice the leverage.
        log_variance = plain + np.minimum(spread, 1.0)
        mean = np.clip(basis @ self.mean, self.lowest, self.highest)
        error = leverage(basis, self.mean_covariance)
        predictive = self._predictive(mean, plain, spread, error)
        shift = 2.0 * np.log(self.scale)
        return (
            self.offset + self.scale * mean,
            log_variance + shift,
            predictive + shift,
        )

    def _plain(self, basis):
        most = most_variance(self.lowest, self.highest)
        return np.clip(basis @ self.log_variance, np.log(VARIANCE_FLOOR), np.log(most))

    def _predictive(self, mean, log_variance, spread, error):
        variance = np.exp(log_variance)
        spread = np.minimum(spread, 1.0)
        # With k = 1 / spread degrees of freedom the best divisor is about (1 + 2/k) times the
        # estimate. The excess is charged at the average variance where that is larger: where few
        # rows lie close together by chance, the next one will not.
        charge = 2.0 * np.maximum(variance, self.level)
        if self.hidden:
            # The next one may be of another cluster, of which so few rows have shown none: it is
            # then any row of the column, of variance 1 about 0.
            distance = 1.0 + np.minimum(mean**2, _FAR)
            unseen = min(1.0, _ROWS_THAT_MISS_CLUSTERS / self.n_rows)
            any_row = unseen * _ROWS_OF_THE_COLUMN * np.minimum(1.0, spread / _FEW) * distance
            charge = np.maximum(charge, any_row)
        excess = spread * charge
        # Where the data say nothing, the mean is as uncertain as the column and no more.
        return np.log(variance + excess + np.minimum(error, 1.0) + 1.0 / self.n_rows)

    def at_own_rows(self, basis: Any, a: np.ndarray) -> tuple[np.ndarray, ...]:
        """What `RowMoments` holds, at the rows that were fitted.

        What a row's own fit would have been without it follows from its leverages.
        """
        mean, log_variance, _ = self.at(basis)
        plain = self._plain(basis)
        error = leverage(basis, self.mean_covariance)
        taken = np.minimum(np.exp(-plain) * error, _MOST_LEVERAGE)
        spread = np.minimum(leverage(basis, self.shape), 0.5)
        residual = (a - mean) / self.scale / (1.0 - taken)
        ratio = np.minimum(residual**2 * np.exp(-plain), _MOST_RATIO)
        left_out = plain - spread / (1.0 - spread) * (ratio - 1.0)
        left_out = np.maximum(left_out, plain - 1.0)
        mild = residual * (1.0 - taken) / (1.0 - np.minimum(taken, _MOST_LEVERAGE_OF_INFLUENCE))
        squares = mild**2 * np.exp(-np.maximum(left_out, plain - _MOST_DROP_OF_INFLUENCE))
        shift = 2.0 * np.log(self.scale)
        influence = 0.5 * (1.0 - left_out - shift - squares)
        left_out_mean = a - self.scale * residual
        place = (left_out_mean - self.offset) / self.scale
        predictive = self._predictive(place, left_out, spread, error) + shift
        return mean, log_variance, influence, left_out_mean, predictive


def most_variance(lowest: Any, highest: Any) -> Any:
    """The largest variance of anything between two bounds, (highest − lowest)² / 4, or the floor.

    Args:
        lowest: The lower bound, a number or an array of NumPy or JAX.
        highest: The upper one.

    Returns:
        The bound.

    References:
        Popoviciu, *Sur les équations algébriques ayant toutes leurs racines réelles* (1935).
    """
    return 0.25 * (highest - lowest) ** 2 + VARIANCE_FLOOR


def leverage(basis: Any, covariance: np.ndarray) -> np.ndarray:
    """Diagonal of B C Bᵀ for every row of a dense or sparse basis."""
    product = basis @ covariance
    if hasattr(basis, "multiply"):
        return np.asarray(basis.multiply(product).sum(axis=1)).ravel()
    return np.einsum("ij,ij->i", product, basis)


def fit_moments(
    basis: Any, penalty: np.ndarray, a: np.ndarray, *, n_rounds: int = 3, hidden: bool = False
) -> MomentFit:
    r"""Alternate between the mean, weighted by the variances, and the variance of what it leaves.

    The log-variance maximises the normal likelihood of the residuals,
    $-\tfrac12 \sum_i \eta_i + r_i^2 e^{-\eta_i}$, by Fisher scoring: least squares of
    $\eta_i + r_i^2 e^{-\eta_i} - 1$ with equal weights. Residuals are freed of the mean's
    leverage first.

    Args:
        basis: B, shape (n, K), dense or sparse.
        penalty: P, shape (K, K).
        a: Values, shape (n,).
        n_rounds: How often to alternate.
        hidden: See `MomentFit`.

    Returns:
        The fit.
    """
    offset, scale = float(a.mean()), float(a.std())
    scale = scale if scale > 0 else 1.0
    y = (a - offset) / scale
    n_rows = len(y)
    floor = np.log(VARIANCE_FLOOR)
    gram = _dense(basis.T @ basis)
    even = _diagonalized(gram, penalty)
    ones = _constant(basis, gram)
    eta = np.zeros(n_rows)
    smooth = spread = None
    for _ in range(n_rounds):
        weights = np.exp(-eta)
        weighted = (
            basis.multiply(weights[:, None]).tocsr()
            if hasattr(basis, "multiply")
            else (basis * weights[:, None])
        )
        diagonal = _diagonalized(_dense(basis.T @ weighted), penalty)
        smooth = _smooth(diagonal, weighted.T @ y, float(y @ (weights * y)), n_rows)
        taken = np.minimum(weights * leverage(basis, smooth.covariance), _MOST_LEVERAGE)
        squares = (y - basis @ smooth.coefficients) ** 2 / (1.0 - taken)
        eta, spread = _log_variance(basis, even, ones, squares, floor)
    assert smooth is not None
    assert spread is not None
    return MomentFit(
        smooth.coefficients,
        smooth.covariance,
        spread.coefficients,
        spread.covariance,
        offset,
        scale,
        float(np.exp(eta).mean()),
        float(y.min()),
        float(y.max()),
        n_rows,
        hidden,
    )


def overstated_gain(
    fit: MomentFit, basis: Any, penalty: np.ndarray, rng: np.random.Generator
) -> float:
    """By how much −½ E log σ² of a fit exceeds that of the law which its values are drawn from.

    The law is the fit's own. What it takes for structure by chance, the smoothing's choice
    included, no formula of a fixed smoother shows.

    Args:
        fit: The fit.
        basis: The basis, shape (n, K).
        penalty: Its penalty, shape (K, K).
        rng: Source of the draw.

    Returns:
        The excess in nats.
    """
    mean, log_variance, _ = fit.at(basis)
    drawn = mean + np.exp(0.5 * log_variance) * rng.normal(size=len(mean))
    again = fit_moments(basis, penalty, drawn, hidden=fit.hidden)
    return 0.5 * float(np.mean(log_variance - again.at(basis)[1]))


def _log_variance(
    basis, even: _Diagonal, ones: np.ndarray, squares: np.ndarray, floor: float
) -> tuple[np.ndarray, Smooth]:
    """Its values at the rows, and its fit."""
    n_rows = len(squares)
    least = np.exp(floor)
    level = np.log(max(squares.mean(), least))

    def smoothed(working):
        right, square = basis.T @ (working - level), float(((working - level) ** 2).sum())
        fit = _smooth(even, right, square, n_rows)
        return np.maximum(level + basis @ fit.coefficients, floor), fit

    # A start that no single row can spoil: logarithms, freed of their mean for normal residuals.
    eta, fit = smoothed(np.log(np.maximum(squares, least * 1e-3)) + _MEAN_LOG_CHI2)
    for _ in range(_SCORING_STEPS):
        ratio = np.minimum(squares * np.exp(-eta), _MOST_RATIO)
        target, fit = smoothed(eta + ratio - 1.0)
        change = np.clip(target - eta, -_LONGEST_STEP, _LONGEST_STEP)
        eta = np.maximum(eta + change, floor)
        if np.abs(change).max() < 1e-3:
            break
    return eta, Smooth(fit.coefficients + level * ones, fit.covariance)


def _constant(basis, gram: np.ndarray) -> np.ndarray:
    """Coefficients of the function 1."""
    gram = gram + _RIDGE * np.trace(gram) / len(gram) * np.eye(len(gram))
    total = np.asarray(basis.sum(axis=0)).ravel()
    return cho_solve(cho_factor(gram), total)


def _dense(matrix) -> np.ndarray:
    return np.asarray(matrix.todense()) if hasattr(matrix, "todense") else matrix
