"""A mean and its standard error."""

import numpy as np

from gauss_flows.numerics.estimate import Estimate


def test_the_error_is_that_of_a_mean():
    values = np.random.default_rng(0).gamma(2.0, size=(50, 3))
    estimate = Estimate.of_mean(values)
    assert np.allclose(estimate.value, values.mean(0))
    assert np.allclose(estimate.standard_error, values.std(0, ddof=1) / np.sqrt(50))


def test_scaling_the_weights_changes_nothing_and_equal_ones_neither():
    values = np.random.default_rng(0).normal(size=20)
    weight = np.random.default_rng(1).uniform(size=20)
    one, other = (Estimate.of_mean(values, factor * weight) for factor in (1.0, 7.0))
    assert np.allclose(one, other)
    assert np.allclose(Estimate.of_mean(values, np.full(20, 3.0)), Estimate.of_mean(values))


def test_the_error_covers_the_spread_of_weighted_means():
    rng = np.random.default_rng(2)
    weight = rng.uniform(0.1, 2.0, 300)
    estimates = [Estimate.of_mean(rng.normal(size=300), weight) for _ in range(400)]
    means, errors = np.transpose(estimates)
    assert 0.9 < means.std() / errors.mean() < 1.1


def test_one_row_has_no_error():
    estimate = Estimate.of_mean(np.array([3.0]))
    assert estimate.value == 3.0
    assert np.isnan(estimate.standard_error)
