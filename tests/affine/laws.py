"""Laws whose gain is known, shared by the tests of the affine room."""

import jax.random as jr
import numpy as np

from gauss_flows.affine import rotation_matrix
from gauss_flows.datasets import TwoGaussians

BEST_DEGREES = 46.409679
BEST_GAIN = 0.8794488863
BEST = rotation_matrix(np.deg2rad(BEST_DEGREES))
FIVE_GAIN = 0.5408297791


def rows(density, n, seed=0):
    return np.asarray(density.sample(jr.key(seed), n), np.float64)


def mixture_rows(n, seed=0):
    return rows(TwoGaussians(), n, seed)


def five_passive(seed, n):
    """Rows (p, a) with five passive coordinates, and the moments of a."""
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(n, 5))
    mean = 0.8 * np.sin(1.5 * p[:, 0]) + 0.3 * p[:, 1] * p[:, 2]
    log_deviation = -0.7 + 0.5 * np.cos(2 * p[:, 0]) + 0.4 * np.tanh(p[:, 3] + p[:, 4])
    a = mean + np.exp(log_deviation) * rng.normal(size=n)
    return np.column_stack([p, a]), mean, 2 * log_deviation


def likelihood_gain(a, mean, log_variance):
    """What the true moments gain on these rows: no estimator can do better for large n."""
    ratio = (a - mean) ** 2 / np.exp(log_variance)
    return float(np.mean(0.5 * (a**2 - log_variance - ratio)))


def rms(errors):
    return float(np.sqrt(np.mean(np.square(errors))))
