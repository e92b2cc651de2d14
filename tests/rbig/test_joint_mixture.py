"""The joint mixture's fit against what it should climb to."""

from typing import Any

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import multivariate_normal
from sklearn.mixture import GaussianMixture

from gauss_flows.rbig import joint_mixture
from gauss_flows.rbig.joint_mixture import (
    JointMixture,
    _step_for,
    fit_joint_mixture,
    with_far_rows,
)


def two_clusters(n, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.multivariate_normal([-3, 0], [[1.0, 0.7], [0.7, 1.0]], size=n // 4)
    second = rng.multivariate_normal([3, 1], [[0.5, -0.2], [-0.2, 1.5]], size=n - n // 4)
    return np.concatenate([first, second])


def penalised(mixture, x, prior, strength):
    """The logarithm of the posterior, up to a constant, written from the formula alone."""
    terms = [
        w + multivariate_normal(m, c).logpdf(x)
        for w, m, c in zip(mixture.log_weights, mixture.means, mixture.covariances, strict=True)
    ]
    penalty = sum(
        strength * np.linalg.slogdet(c)[1] + np.trace(np.linalg.solve(c, prior))
        for c in mixture.covariances
    )
    return np.logaddexp.reduce(terms).sum() - 0.5 * penalty


def test_one_component_in_closed_form():
    x = two_clusters(200)
    pooled = np.array([[2.0, 0.3], [0.3, 1.0]])
    mixture = fit_joint_mixture(x, 1, pooled, strength=30.0)
    scatter = (x - x.mean(0)).T @ (x - x.mean(0))
    np.testing.assert_allclose(mixture.means[0], x.mean(0), rtol=1e-12)
    np.testing.assert_allclose(mixture.covariances[0], (scatter + 30 * pooled) / 230, rtol=1e-12)


def test_finds_the_clusters():
    mixture = fit_joint_mixture(two_clusters(8000), 2, np.eye(2), tolerance=1e-9)
    order = np.argsort(mixture.means[:, 0])
    np.testing.assert_allclose(np.exp(mixture.log_weights[order]), [0.25, 0.75], atol=0.01)
    np.testing.assert_allclose(mixture.means[order], [[-3, 0], [3, 1]], atol=0.1)
    expected = [[[1.0, 0.7], [0.7, 1.0]], [[0.5, -0.2], [-0.2, 1.5]]]
    np.testing.assert_allclose(mixture.covariances[order], expected, atol=0.1)


def test_is_a_maximum_of_the_posterior():
    x, strength = two_clusters(300), 5.0
    pooled = np.cov(x.T)
    prior = strength * 3 ** (-2 / 2) * pooled
    best = fit_joint_mixture(x, 3, pooled, strength=strength, tolerance=1e-12, max_iterations=5000)
    reached = penalised(best, x, prior, strength)
    rng = np.random.default_rng(1)
    for _ in range(20):
        twist = np.eye(2) + 0.01 * rng.normal(size=(3, 2, 2))
        other = JointMixture(
            best.log_weights,
            best.means + 0.01 * rng.normal(size=(3, 2)),
            twist @ best.covariances @ twist.transpose(0, 2, 1),
        )
        assert penalised(other, x, prior, strength) < reached


def test_stays_at_its_own_update_with_the_components_in_common():
    """One step of the documented formula, written out with matrix square roots, changes nothing."""
    x, n_components = two_clusters(400), 2
    pooled = np.cov(x.T)
    mixture = fit_joint_mixture(
        x,
        n_components,
        pooled,
        strength=0.5,
        own_strength=40.0,
        diagonal_share=0.3,
        tolerance=1e-13,
        max_iterations=5000,
    )
    weights, covariances = np.exp(mixture.log_weights), mixture.covariances
    arithmetic = np.einsum("k,kij->ij", weights, covariances)
    harmonic = np.linalg.inv(np.einsum("k,kij->ij", weights, np.linalg.inv(covariances)))
    root = np.real(sqrtm(arithmetic))
    inverse = np.linalg.inv(root)
    common = root @ np.real(sqrtm(inverse @ harmonic @ inverse)) @ root
    common = 0.7 * common + 0.3 * np.diag(np.diag(common))
    densities = np.column_stack(
        [
            weight * multivariate_normal(mean, covariance).pdf(x)
            for weight, mean, covariance in zip(weights, mixture.means, covariances, strict=True)
        ]
    )
    shares = densities / densities.sum(1, keepdims=True)
    for k, share in enumerate(shares.T):
        left = x - mixture.means[k]
        scatter = (share[:, None] * left).T @ left + 0.5 * pooled / 2 + 40 * common
        np.testing.assert_allclose(scatter / (share.sum() + 40.5), covariances[k], rtol=1e-5)


def test_components_lend_each_other_a_shape_that_the_whole_does_not_have():
    """Six clusters, flat in one direction: 40 rows of each tell all what 40 rows alone cannot."""
    rng = np.random.default_rng(0)
    shape: Any = np.array([1.0, 1.0, 1.0, 0.02])
    centres = 10 * rng.normal(size=(6, 4))

    def draw(n):
        return centres[rng.integers(6, size=n)] + rng.normal(size=(n, 4)) * shape

    x, new = draw(240), draw(5000)
    truth = np.logaddexp.reduce(
        [multivariate_normal.logpdf(new, c, shape**2) for c in centres]
    ).mean() - np.log(6)
    scale = x.std(0)
    x, new, truth = x / scale, new / scale, truth + np.log(scale).sum()
    pooled = np.cov(x.T)
    alone = fit_joint_mixture(x, 6, pooled, strength=1.0)
    own = fit_joint_mixture(x, 6, pooled, strength=1e-4, own_strength=100.0)
    assert truth - alone.log_density(new).mean() > 0.3
    assert truth - own.log_density(new).mean() < 0.15


def test_density_is_scikit_learns():
    x = two_clusters(300)
    mixture = fit_joint_mixture(x, 2, np.cov(x.T))
    same = GaussianMixture(2)
    same.weights_, same.means_ = np.exp(mixture.log_weights), mixture.means
    same.covariances_ = mixture.covariances
    same.precisions_cholesky_ = np.linalg.cholesky(np.linalg.inv(mixture.covariances))
    np.testing.assert_allclose(mixture.log_density(x), same.score_samples(x), rtol=1e-10)


def test_no_component_falls_onto_a_point():
    x = np.concatenate([np.zeros((50, 2)), two_clusters(100)])
    mixture = fit_joint_mixture(x, 10, np.cov(x.T))
    assert np.linalg.eigvalsh(mixture.covariances).min() > 1e-4


@pytest.mark.parametrize("n_rows", [20, 2000])
def test_far_rows_have_the_share_of_one_row_more(n_rows):
    x = two_clusters(n_rows)
    mixture = fit_joint_mixture(x, 2, np.cov(x.T))
    wide = with_far_rows(mixture, x.mean(0), np.cov(x.T), n_rows)
    assert np.exp(wide.log_weights).sum() == pytest.approx(1)
    assert np.exp(wide.log_weights[2:]).sum() == pytest.approx(1 / (n_rows + 1))
    lost = mixture.log_density(x) - wide.log_density(x)
    assert lost.max() <= np.log1p(1 / n_rows) + 1e-12
    far = np.array([[40.0, -40.0]])
    assert wide.log_density(far) > mixture.log_density(far) + 100


@pytest.mark.parametrize("far", [0.0, 1e5])
def test_a_step_is_what_the_formulas_say(far):
    """Both ways of taking it: by products of all rows, and component by component."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 3))
    x[0, 1] += far
    prior, strength = 0.3 * np.eye(3), 2.0
    covariances = np.stack([np.cov(rng.normal(size=(3, 9))) for _ in range(4)])
    mixture = JointMixture(np.log([0.1, 0.2, 0.3, 0.4]), rng.normal(size=(4, 3)), covariances)
    terms = np.stack(
        [lw + multivariate_normal(m, c).logpdf(x) for lw, m, c in zip(*mixture, strict=True)]
    )
    total = np.logaddexp.reduce(terms, axis=0)
    log_density, better = _step_for(x)(mixture, prior, strength)
    np.testing.assert_allclose(log_density, total, rtol=1e-9)
    shares = np.exp(terms - total)
    for k, share in enumerate(shares):
        mean = share @ x / share.sum()
        left = x - mean
        scatter = np.einsum("n,ni,nj->ij", share, left, left)
        np.testing.assert_allclose(better.means[k], mean, rtol=1e-9, atol=1e-12)
        expected = (scatter + prior) / (share.sum() + strength)
        np.testing.assert_allclose(better.covariances[k], expected, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(np.exp(better.log_weights), shares.mean(1), rtol=1e-9)


def test_columns_that_all_but_follow_from_each_other_are_fitted():
    """Their variance across the line is lost among squares."""
    rng = np.random.default_rng(0)
    x = rng.standard_t(3, size=(2000, 2))
    x[:, 1] = x[:, 0] + 1e-6 * rng.normal(size=2000)
    pooled = np.cov(x.T)
    mixture = fit_joint_mixture(x, 100, pooled, max_iterations=20)
    assert np.linalg.eigvalsh(mixture.covariances).min() > 0
    truth = 11.2  # log density of the differences, -log(1e-6 √(2πe)), less the entropy of t₃
    assert mixture.log_density(x).mean() > truth - 1.5


def test_many_rows_are_scored_in_parts(monkeypatch):
    x = two_clusters(500)
    mixture = fit_joint_mixture(x, 3, np.cov(x.T))
    whole = mixture.log_density(x)
    monkeypatch.setattr(joint_mixture, "_MOST_TERMS", 100)
    np.testing.assert_array_equal(mixture.log_density(x), whole)
