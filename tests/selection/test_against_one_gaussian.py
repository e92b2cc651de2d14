"""The default is never worse, held out, than the best single Gaussian by a standard error."""

import jax.random as jr
import numpy as np
import pytest
from scipy.stats import multivariate_normal
from sklearn.covariance import LedoitWolf

from gauss_flows.datasets import TwoMoons
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.fitting import Settings, fit_flow


def correlated(rng, n, d):
    return rng.normal(size=(n, d)) @ np.random.default_rng(9).normal(size=(d, d))


def heavy_tails(rng, n):
    return correlated(rng, n, 3) / np.sqrt(rng.chisquare(3, size=(n, 1)) / 3)


def outliers(rng, n):
    x = correlated(rng, n, 3)
    x[:: n // 4] *= 20
    return x


def counts(rng, n):
    return rng.poisson([0.5, 2.0, 8.0], size=(n, 3)) + rng.uniform(size=(n, 3))


def moons(rng, n):
    x = TwoMoons().sample(jr.key(rng.integers(99)), n)
    return np.column_stack([x, rng.normal(size=n)])


# Of three columns where it does not matter, so that they share compiled programs.
TABLES = {
    "few rows of a Gaussian": (lambda rng, n: correlated(rng, n, 5), 40),
    "a Gaussian": (lambda rng, n: correlated(rng, n, 3), 240),
    "heavy tails": (heavy_tails, 240),
    "outliers": (outliers, 240),
    "counts": (counts, 240),
    "one skewed column": (lambda rng, n: rng.exponential(size=(n, 1)), 100),
    "moons": (moons, 240),
}


@pytest.mark.parametrize("name", TABLES)
def test_default(name):
    make, n = TABLES[name]
    rng = np.random.default_rng(5)
    x, fresh = make(rng, n), make(rng, n)
    fresh, x = (fresh - x.mean(0)) / x.std(0), (x - x.mean(0)) / x.std(0)
    fit = fit_flow(x, Settings(), lambda _: None)
    found = log_density(fit.flow, fresh)
    gaussians = [
        multivariate_normal(x.mean(0), covariance).logpdf(fresh)
        for covariance in (np.cov(x.T), LedoitWolf().fit(x).covariance_)
    ]
    loss = Estimate.of_mean(max(gaussians, key=np.mean) - found)
    assert loss.value <= loss.standard_error
