"""What the estimates do on normal data: the bias to take off and the noise to expect."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import polygamma

from gauss_flows.information.balls import log_ratio_curves, orders_up_to

_MOST_ROWS = 500
_N_REPEATS = 80


class Null(NamedTuple):
    """Bias and noise of a curve of estimates, of which normal data would have none.

    Args:
        bias: Mean error for each number of neighbours, in nats, shape (K,).
        noise: Covariance of the errors beyond that of the mean log-density, shape (K, K).
    """

    bias: Float[np.ndarray, " k"]
    noise: Float[np.ndarray, "k k"]


def log_normal(z: Float[np.ndarray, "n d"]) -> Float[np.ndarray, " n"]:
    """Log-density of the standard normal at every row, in nats.

    Args:
        z: Rows, shape (n, d).

    Returns:
        Log-densities, shape (n,).
    """
    return -0.5 * np.sum(z**2, axis=1) - 0.5 * z.shape[1] * np.log(2 * np.pi)


def null_of(n_rows: int, n_dims: int, most_neighbours: int) -> Null:
    """Bias and noise of the mean log-density that a whitening map and its balls find.

    They are simulated once for every size, with at most 500 rows, and go as one over the number of
    rows. For normal data they do not depend on the covariance.

    Args:
        n_rows: Number of rows.
        n_dims: Number of columns.
        most_neighbours: The most neighbours.

    Returns:
        Bias and noise.
    """
    simulated = min(n_rows, _MOST_ROWS)
    bias, noise = _simulated(simulated, n_dims, most_neighbours)
    share = simulated / n_rows
    return Null(share * bias, share * noise)


@lru_cache(maxsize=256)
def _simulated(n_rows, n_dims, most_neighbours):
    rng = np.random.default_rng([n_rows, n_dims, most_neighbours])
    orders = orders_up_to(most_neighbours)
    errors = np.empty((_N_REPEATS, len(orders)))
    unbiased = np.empty_like(errors)
    for index in range(_N_REPEATS):
        x = rng.normal(size=(n_rows, n_dims))
        unbiased[index] = log_ratio_curves(x, most_neighbours).mean(0)
        truth = log_normal(x).mean()
        centred = x - x.mean(0)
        factor = np.linalg.cholesky(centred.T @ centred / n_rows)
        z = np.linalg.solve(factor, centred.T).T
        errors[index] = log_normal(z).mean() - np.log(np.diagonal(factor)).sum() - truth
        errors[index] += log_ratio_curves(z, most_neighbours).mean(0)
    # Without a map the mean is zero, so that the difference has only the map's part of the noise.
    bias = (errors - unbiased).mean(0)
    return Null(bias, _with_independent_steps(orders, errors.var(axis=0, ddof=1)))


def _with_independent_steps(orders, variances):
    """A covariance whose steps from one order to the next higher do not depend on what follows.

    For a single row the ratio of two neighbours' masses is independent of the larger one. So the
    covariance of two orders is the variance of the larger, which is a smooth multiple of a row's.
    """
    one_row = polygamma(1, orders)
    log_orders = np.log(orders)
    degree = min(2, len(orders) - 1)
    ratio = np.polyval(np.polyfit(log_orders, np.log(variances / one_row), degree), log_orders)
    smooth = np.minimum.accumulate(one_row * np.exp(ratio))
    # Strictly falling, so that the matrix is positive definite.
    smooth = smooth * (1 + 1e-3 * np.arange(len(orders))[::-1])
    return smooth[np.maximum.outer(np.arange(len(orders)), np.arange(len(orders)))]
