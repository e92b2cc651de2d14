"""What a flow must beat: one Gaussian, and a Gaussian mixture chosen by BIC."""

from __future__ import annotations

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gauss_flows.selection.words import counted

MAX_COMPONENTS = 10
# Past the best BIC by so many components, more have never been seen to help.
_PATIENCE = 3


class Baseline(NamedTuple):
    """A fitted comparison.

    Attributes:
        name: What it is, in words.
        log_density: Its log density at the held-out rows, in nats, shape (n,).
        n_components: The number of its components.
    """

    name: str
    log_density: NDArray[np.float64]
    n_components: int


def fit_baselines(
    train: NDArray[np.float64], test: NDArray[np.float64], seed: int
) -> list[Baseline]:
    """Fit both baselines to one set of rows and score another.

    Args:
        train: Rows to fit, shape (n, d), in units near 1: scikit-learn's mixture adds 1e-6 to
            every variance.
        test: Rows to score, shape (m, d), in the same units.
        seed: Seed of the mixture's start.

    Returns:
        The Gaussian, and the mixture where one can be fitted.
    """
    mixture = _fit_mixture(train, test, seed)
    return [_fit_gaussian(train, test), *([] if mixture is None else [mixture])]


def _fit_gaussian(train: NDArray[np.float64], test: NDArray[np.float64]) -> Baseline:
    from scipy.linalg import solve_triangular

    # The covariance's factor from the rows: the covariance itself would square their range.
    factor = np.linalg.qr(train - train.mean(0), mode="r") / np.sqrt(len(train))
    white = solve_triangular(factor, (test - train.mean(0)).T, trans=1)
    log_norm = 0.5 * len(factor) * np.log(2 * np.pi) + np.log(np.abs(np.diag(factor))).sum()
    return Baseline("Gaussian, full covariance", -0.5 * np.sum(white**2, axis=0) - log_norm, 1)


def _fit_mixture(
    train: NDArray[np.float64], test: NDArray[np.float64], seed: int
) -> Baseline | None:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    best, best_bic = None, np.inf
    # BIC is no guide where a component has hardly more rows than it takes to span the columns.
    most = min(MAX_COMPONENTS, max(1, len(train) // (2 * train.shape[1] + 2)))
    for k in range(1, most + 1):
        mixture = GaussianMixture(k, n_init=3 if len(train) < 5000 else 1, random_state=seed)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            try:
                bic = mixture.fit(train).bic(train)
            except ValueError:  # a component fell onto too few rows for a covariance
                if best is None:  # or onto rows too far apart, which more can part
                    continue
                break
        if bic < best_bic:
            best, best_bic = mixture, bic
        elif best is not None and k >= best.n_components + _PATIENCE:
            break
    if best is None:
        return None
    name = f"Gaussian mixture, {counted(best.n_components, 'component')} by BIC"
    return Baseline(name, best.score_samples(test), best.n_components)
