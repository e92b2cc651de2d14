"""Gaussian mixtures of rows with missing values, against the formulas of their blocks."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gauss_flows.rbig import incomplete
from gauss_flows.rbig.blocks import Recipe, next_block, pull, push
from gauss_flows.rbig.joint_mixture import JointMixture, fit_joint_mixture, pooled_moments

RNG = np.random.default_rng(0)
ROOTS = RNG.normal(size=(3, 4, 4))
MIXTURE = JointMixture(
    np.log([0.2, 0.5, 0.3]),
    3 * RNG.normal(size=(3, 4)),
    ROOTS @ np.swapaxes(ROOTS, 1, 2) + 0.2 * np.eye(4),
)
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])


def blocks(row):
    """Weights, means and covariances of the missing values given the others."""
    there = ~np.isnan(row)
    log_terms, means, covariances = [], [], []
    for log_weight, mean, covariance in zip(*MIXTURE, strict=True):
        own = covariance[np.ix_(there, there)]
        across = covariance[np.ix_(~there, there)]
        left = row[there] - mean[there]
        log_terms.append(log_weight + multivariate_normal(np.zeros(there.sum()), own).logpdf(left))
        means.append(mean[~there] + across @ np.linalg.solve(own, left))
        covariances.append(
            covariance[np.ix_(~there, ~there)] - across @ np.linalg.solve(own, across.T)
        )
    return np.array(log_terms), np.array(means), np.array(covariances)


def test_the_density_of_what_is_there():
    x = 2 * np.random.default_rng(1).normal(size=(5, 4))
    x[0, 1] = x[1, 0] = x[1, 3] = np.nan
    x[3, :3] = np.nan
    x[4] = np.nan
    found = MIXTURE.log_density(x)
    truth = [np.logaddexp.reduce(blocks(row)[0]) for row in x[:4]]
    np.testing.assert_allclose(found, [*truth, 0.0], rtol=1e-10, atol=1e-10)


def test_draws_of_what_is_not_there():
    row = np.array([np.nan, 0.5, -1.0, np.nan])
    log_terms, means, covariances = blocks(row)
    shares = np.exp(log_terms - np.logaddexp.reduce(log_terms))
    mean = shares @ means
    left = means - mean
    covariance = np.einsum("k,kij->ij", shares, covariances + left[:, :, None] * left[:, None])
    n = 40_000
    drawn = incomplete.complete(*MIXTURE, np.tile(row, (n, 1)), np.random.default_rng(2))
    np.testing.assert_array_equal(drawn[:, 1:3], np.tile(row[1:3], (n, 1)))
    scale = np.sqrt(np.diag(covariance))
    assert np.abs(drawn[:, [0, 3]].mean(0) - mean).max() < 4 * scale.max() / np.sqrt(n)
    np.testing.assert_allclose(
        np.cov(drawn[:, [0, 3]].T) / np.outer(scale, scale),
        covariance / np.outer(scale, scale),
        atol=0.05,
    )


def test_rows_in_parts_are_rows_at_once(monkeypatch):
    x = np.random.default_rng(3).normal(size=(50, 4))
    x[np.random.default_rng(4).random(x.shape) < 0.4] = np.nan
    whole = incomplete.moments(*MIXTURE, x)
    monkeypatch.setattr(incomplete, "_AT_ONCE", 7 * 3 * 16)
    for one, other in zip(whole, incomplete.moments(*MIXTURE, x), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def test_more_columns_than_bits():
    x = np.random.default_rng(5).normal(size=(6, 40))
    x[1, 2] = x[2, 35] = x[3, 2] = x[3, 35] = np.nan
    gaussian = JointMixture(np.zeros(1), np.zeros((1, 40)), np.eye(40)[None])
    truth = np.nansum(-0.5 * x**2 - 0.5 * np.log(2 * np.pi) * ~np.isnan(x), axis=1)
    np.testing.assert_allclose(gaussian.log_density(x), truth)


def test_em_climbs_and_finds_what_complete_rows_find():
    rng = np.random.default_rng(6)
    centres = np.array([[-3.0, 0.0], [3.0, 2.0]])
    x = centres[rng.integers(2, size=2000)] + rng.multivariate_normal([0, 0], COVARIANCE, 2000)
    # The second column is there where the first is small: missing at random, not completely so.
    gone = x.copy()
    gone[x[:, 0] > 3.0, 1] = np.nan
    found = fit_joint_mixture(gone, 2, pooled_moments(gone)[1])
    order = np.argsort(found.means[:, 0])
    np.testing.assert_allclose(found.means[order], centres, atol=0.2)
    np.testing.assert_allclose(found.covariances[order], [COVARIANCE] * 2, atol=0.25)
    # The rows that are left, as if they were all: wrong, so that the test can tell.
    kept = x[~np.isnan(gone).any(1)]
    naive = fit_joint_mixture(kept, 2, pooled_moments(kept)[1])
    assert np.abs(naive.means[np.argsort(naive.means[:, 0])] - centres).max() > 0.3


def test_the_covariance_of_columns_missing_at_random():
    rng = np.random.default_rng(7)
    x = rng.multivariate_normal([0, 0], COVARIANCE, 4000)
    x[x[:, 0] > 0, 1] = np.nan
    mean, covariance = pooled_moments(x)
    np.testing.assert_allclose(mean, 0, atol=0.08)
    np.testing.assert_allclose(covariance, COVARIANCE, atol=0.08)
    assert abs(np.nanmean(x[:, 1])) > 0.5


@pytest.mark.parametrize("n_components", [None, 2])
def test_marginals_learn_from_what_is_there(n_components):
    rng = np.random.default_rng(8)
    x = np.exp(rng.normal(size=(500, 2)))
    gone = x.copy()
    gone[::3, 1] = np.nan
    block = next_block(gone, 0, Recipe(True, n_components))
    z, log_det = push(block, gone)
    np.testing.assert_array_equal(np.isnan(z), np.isnan(gone))
    whole, both = push(block, x)
    np.testing.assert_allclose(z[:, 0], whole[:, 0])
    assert np.abs(log_det - both)[1::3].max() == 0 < np.abs(log_det - both)[::3].min()
    np.testing.assert_allclose(pull(block, whole), x, rtol=1e-8)
    assert abs(np.nanstd(z[:, 1]) - 1) < 0.1
