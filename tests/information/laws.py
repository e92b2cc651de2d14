"""Laws whose information measures are known, and what an honest estimate of one is."""

import numpy as np


def related_blocks(seed, width, rho, n):
    """Two blocks whose columns are related in pairs; I = −d/2 log(1 − ρ²)."""
    x, noise = np.random.default_rng(seed).normal(size=(2, n, width))
    return x, rho * x + np.sqrt(1 - rho**2) * noise


def equicorrelated(seed, n, n_dims=3, rho=0.5):
    """Normal rows, every pair of columns as correlated."""
    covariance = np.full((n_dims, n_dims), rho) + (1 - rho) * np.eye(n_dims)
    return np.random.default_rng(seed).multivariate_normal(np.zeros(n_dims), covariance, n)


def is_honest(estimates, truth, widest):
    """Whether the mean error is within three of its own errors, and errors neither small nor wide.

    Args:
        estimates: Pairs of value and standard error, from independent draws.
        truth: The truth.
        widest: The widest a standard error may be.
    """
    values, errors = np.array(estimates).T
    off = values - truth
    return bool(
        abs(off.mean()) < 3 * np.sqrt(np.mean(errors**2) / len(off))
        and np.mean((off / errors) ** 2) < 4
        and np.all(errors > 0)
        and np.all(errors < widest)
    )
