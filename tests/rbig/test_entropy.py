"""Entropies with their errors, against closed forms over several seeds."""

import numpy as np
import pytest
from scipy import stats

from gauss_flows.rbig.entropy import marginal_entropy, negentropy

SEEDS = range(8)
LAWS = [stats.norm(3.0, 2.0), stats.laplace(0.0, 1e-3), stats.gamma(4.0), stats.logistic(1e4, 50.0)]
TRUTH = np.array([law.entropy() for law in LAWS])
NORMAL = 0.5 * np.log(2 * np.pi * np.e * np.array([law.var() for law in LAWS]))


def draw(seed, n):
    return np.stack(
        [law.rvs(n, random_state=np.random.default_rng([seed, j])) for j, law in enumerate(LAWS)],
        axis=1,
    )


@pytest.mark.parametrize("n", [500, 5000])
@pytest.mark.parametrize(
    ("estimate", "truth"), [(marginal_entropy, TRUTH), (negentropy, NORMAL - TRUTH)]
)
def test_estimates_are_unbiased_within_their_errors(precision, estimate, truth, n):
    estimates = [estimate(draw(seed, n), random_state=seed) for seed in SEEDS]
    errors = np.array([(e.value - truth) / e.standard_error for e in estimates])
    assert np.all(np.abs(errors) < 5.0)
    assert np.all(np.abs(errors.mean(0)) < 4.0 / np.sqrt(len(SEEDS)))


def test_normal_data_have_no_negentropy():
    rng = np.random.default_rng(0)
    estimate = negentropy(rng.normal(size=(2000, 24)))
    deviation = estimate.value / estimate.standard_error
    assert np.all(np.abs(deviation) < 4.5)
    assert abs(deviation.mean()) < 1.0
    # The plain average over the rows that were fitted would be off by several errors.
    assert np.all(estimate.standard_error < 0.01)


def test_weights_count_as_repetitions(x64):
    rng = np.random.default_rng(1)
    x, weight = rng.laplace(size=(4000, 1)), rng.integers(1, 3, 4000).astype(float)
    weighted = marginal_entropy(x, sample_weight=weight)
    repeated = marginal_entropy(np.repeat(x, weight.astype(int), axis=0))
    assert abs(weighted.value[0] - repeated.value[0]) < 0.01


def test_one_row_is_too_few():
    with pytest.raises(ValueError, match=r"at least 2 rows; got \(1, 2\)"):
        negentropy(np.zeros((1, 2)))


@pytest.mark.parametrize("estimate", [marginal_entropy, negentropy])
def test_the_split_is_repeatable(estimate):
    with pytest.raises(ValueError, match="random_state to be an integer of at least 0; got None"):
        estimate(np.zeros((9, 2)), random_state=None)
