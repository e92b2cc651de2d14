"""Kernel densities of few Gaussians beside kernels on every row."""

import warnings

import numpy as np
import pytest
from scipy.stats import gaussian_kde

from gauss_flows.rbig import clusters
from gauss_flows.rbig.joint_mixture import of_clusters
from gauss_flows.rbig.kernel_mixture import smoothed


def square(n, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, size=(n, 2)) @ [[1.0, 0.5], [0.0, 1.0]]


@pytest.mark.parametrize("n_components", [50, 200])
def test_a_summary_keeps_the_moments_of_all_rows(n_components):
    x = square(1000)
    log_weights, means, covariances = of_clusters(x, n_components)
    weights = np.exp(log_weights)
    assert weights.sum() == pytest.approx(1)
    np.testing.assert_allclose(weights @ means, x.mean(0), atol=1e-12)
    second = np.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None])
    np.testing.assert_allclose(second, x.T @ x / len(x), rtol=1e-10)


def test_with_a_cluster_for_every_row_it_is_the_kernel_density():
    x, fresh = square(200), square(50, 1)
    bandwidth, pooled = 0.3, np.cov(x.T)
    mixture = smoothed(of_clusters(x, len(x)), bandwidth, pooled)
    expected = gaussian_kde(x.T, bw_method=bandwidth).logpdf(fresh.T)
    np.testing.assert_allclose(mixture.log_density(fresh), expected, rtol=1e-9)


def test_a_tenth_of_the_rows_is_as_good():
    x, fresh = square(3000), square(2000, 1)
    bandwidth, pooled = 0.1, np.cov(x.T)
    mixture = smoothed(of_clusters(x, 300), bandwidth, pooled)
    expected = gaussian_kde(x.T, bw_method=bandwidth).logpdf(fresh.T)
    assert abs(np.mean(mixture.log_density(fresh) - expected)) < 0.005


def test_fewer_distinct_rows_than_clusters():
    x = np.repeat(square(20), 10, axis=0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        summary = of_clusters(x, 50)
    assert len(summary.means) == 20
    assert all(np.isfinite(part).all() for part in summary)


def test_clusters_are_learnt_from_a_part_of_very_many_rows(monkeypatch):
    x = square(3000)
    whole = of_clusters(x, 50)
    monkeypatch.setattr(clusters, "_MOST_CLUSTERED", 500)
    part = of_clusters(x, 50)
    assert not np.array_equal(part.means, whole.means)
    np.testing.assert_allclose(np.exp(part.log_weights) @ part.means, x.mean(0), atol=1e-12)
