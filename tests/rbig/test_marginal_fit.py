"""Marginal fits against closed forms, known mixtures and scikit-learn."""

import warnings

import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.mixture import GaussianMixture

from gauss_flows.rbig.marginal_fit import fit_mixtures
from gaussianization.marginals import Histogram, bin_edges, em


def log_density(x, log_weights, means, log_scales):
    u = (x[:, None] - means) / np.exp(log_scales)
    return logsumexp(log_weights - log_scales - 0.5 * u**2, axis=1) - 0.5 * np.log(2 * np.pi)


def mean_log_density(x, fit):
    return np.array(
        [log_density(x[:, j], *(part[j] for part in fit[:3])).mean() for j in range(x.shape[1])]
    )


def shapes(n, seed=0):
    rng = np.random.default_rng(seed)
    first = rng.random(n) < 0.3
    return {
        "t4": rng.standard_t(4, size=n),
        "gamma": 1e3 * rng.gamma(2.0, size=n),
        "sharp mode": np.where(first, rng.normal(-2, 0.05, n), rng.normal(1, 0.7, n)),
        "gap": np.where(first, rng.normal(-100, 1, n), rng.normal(100, 2, n)),
        "uniform": rng.uniform(-1, 1, n),
        "normal": 1e6 + rng.normal(size=n),
        "lognormal": rng.lognormal(size=n),
        "laplace": 1e-3 * rng.laplace(size=n),
    }


def check_is_a_density(fit):
    assert all(np.isfinite(part).all() for part in fit[:4])
    assert np.allclose(np.exp(fit.log_weights).sum(1), 1, atol=1e-6)
    same = np.abs(np.diff(fit.means, axis=1)) + np.abs(np.diff(fit.log_scales, axis=1))
    assert np.all(same > 0), "components coincide"


def test_one_component_is_the_mean_and_the_standard_deviation(precision):
    x = np.random.default_rng(0).gamma(2.0, size=(5000, 3)) * [1e-3, 1.0, 1e3]
    fit = fit_mixtures(x, 1)
    assert np.allclose(fit.means[:, 0], x.mean(0), rtol=2e-5)
    assert np.allclose(np.exp(fit.log_scales[:, 0]), x.std(0), rtol=2e-5)
    closed = -0.5 * np.log(2 * np.pi * np.e * x.var(0))
    assert np.allclose(fit.log_likelihood, closed, atol=2e-4)


def test_a_known_mixture_is_recovered_in_likelihood(precision):
    rng = np.random.default_rng(1)
    truth = np.log([0.2, 0.5, 0.3]), np.array([-3.0, 0.0, 1.0]), np.log([0.3, 1.0, 0.2])
    n = 20_000

    def draw():
        k = rng.choice(3, n, p=np.exp(truth[0]))
        return (truth[1][k] + np.exp(truth[2][k]) * rng.normal(size=n))[:, None]

    x, fresh = draw(), draw()
    fit = fit_mixtures(x, 3)
    check_is_a_density(fit)
    assert np.allclose(fit.means[0], truth[1], atol=0.05)
    assert np.allclose(np.exp(fit.log_scales[0]), np.exp(truth[2]), rtol=0.05)
    # Wilks: twice n times the gain over the truth is chi-squared with 8 degrees of freedom.
    gain = n * (mean_log_density(x, fit)[0] - log_density(x[:, 0], *truth).mean())
    assert -1.0 < gain < 16.0
    loss = n * (log_density(fresh[:, 0], *truth).mean() - mean_log_density(fresh, fit)[0])
    assert loss < 20.0


def test_normal_data_have_the_likelihood_of_the_normal():
    x = 3.0 + 2.0 * np.random.default_rng(2).normal(size=(20_000, 4))
    fit = fit_mixtures(x, 8)
    gain = len(x) * (fit.log_likelihood + 0.5 * np.log(2 * np.pi * np.e * x.var(0)))
    assert np.all(gain > -2.0)
    assert np.all(gain < 40.0)


@pytest.mark.parametrize("n_components", [3, 8])
def test_no_column_is_fitted_worse_than_by_scikit_learn(precision, n_components):
    x = np.stack(list(shapes(10_000).values()), axis=1)
    fit = fit_mixtures(x, n_components)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = [
            GaussianMixture(n_components, random_state=j).fit(x[:, [j]]).score(x[:, [j]])
            for j in range(x.shape[1])
        ]
    assert np.all(mean_log_density(x, fit) - theirs > -0.001)


def test_the_reported_likelihood_is_that_of_the_rows(precision):
    x = np.stack(list(shapes(10_000).values()), axis=1)
    fit = fit_mixtures(x, 8)
    assert np.allclose(fit.log_likelihood, mean_log_density(x, fit), atol=5e-4)
    few = fit_mixtures(x[:200], 4)
    assert np.allclose(few.log_likelihood, mean_log_density(x[:200], few), atol=1e-4)


@pytest.mark.parametrize("n", [100, 1000])
def test_weights_count_as_repetitions(x64, n):
    rng = np.random.default_rng(3)
    x, weight = rng.laplace(size=(n, 2)), rng.integers(0, 4, n)
    repeated = fit_mixtures(np.repeat(x, weight, axis=0), 4)
    weighted = fit_mixtures(x, 4, sample_weight=weight)
    scaled = fit_mixtures(x, 4, sample_weight=7.5 * weight)
    for fit in (weighted, scaled):
        assert np.allclose(fit.means, repeated.means, atol=1e-6)
        assert np.allclose(fit.log_likelihood, repeated.log_likelihood, atol=1e-9)


def test_a_histogram_in_parts_gives_the_fit_of_the_whole(x64):
    x = np.random.default_rng(4).gamma(2.0, size=(5000, 2))
    edges = bin_edges(x, 256)
    parts = [Histogram.from_data(part, edges=edges) for part in np.split(x, [1000, 1100])]
    merged = fit_mixtures(parts[0].merge(parts[1]).merge(parts[2]), 5)
    at_once = fit_mixtures(x, 5)
    assert np.allclose(merged.means, at_once.means, atol=1e-6)
    assert np.allclose(merged.log_likelihood, at_once.log_likelihood, atol=1e-9)


@pytest.mark.parametrize(("scale", "offset"), [(1e-3, 0.0), (1e3, 1e6), (1e-3, -1e3)])
def test_units_do_not_matter(precision, scale, offset):
    x = np.random.default_rng(5).standard_t(4, size=(3000, 1))
    here, there = fit_mixtures(x, 5), fit_mixtures(offset + scale * x, 5)
    tolerance = 1e-4 if precision == "float64" else 5e-3
    assert np.allclose(there.means, offset + scale * here.means, atol=5 * tolerance * scale)
    assert np.allclose(there.log_scales, here.log_scales + np.log(scale), atol=10 * tolerance)
    assert np.allclose(there.log_likelihood, here.log_likelihood - np.log(scale), atol=tolerance)


def test_repeated_values_do_not_collapse_a_component(precision):
    rng = np.random.default_rng(6)
    n = 2000
    columns = {
        "counts": rng.poisson(3.0, n),
        "two values": rng.integers(0, 2, n),
        "half zero": np.where(rng.random(n) < 0.6, 0.0, rng.gamma(2.0, size=n)),
        "one value": np.full(n, 5.0),
    }
    for part in (slice(None), slice(0, 60)):
        fit = fit_mixtures(np.stack(list(columns.values()), axis=1)[part], 8)
        check_is_a_density(fit)
        scales = np.exp(fit.log_scales)
        assert np.all(scales[:2] >= 0.25 * 0.999)  # a quarter of the distance between values
        assert np.all(scales >= 1e-5)


@pytest.mark.parametrize("n", [1, 2, 3, 5])
def test_fewer_rows_than_components_still_give_a_density(precision, n):
    fit = fit_mixtures(np.random.default_rng(7).normal(size=(n, 2)), 8)
    assert fit.means.shape == (2, 8)
    check_is_a_density(fit)


def test_one_far_outlier_leaves_the_fit_of_the_others_alone(precision):
    x = np.random.default_rng(8).normal(size=(5000, 1))
    x[17] = 1e8
    fit = fit_mixtures(x, 4)
    check_is_a_density(fit)
    others = np.delete(x, 17, axis=0)
    assert mean_log_density(others, fit)[0] > -0.5 * np.log(2 * np.pi * np.e) - 0.05


class TestVarianceFloor:
    """Two atoms, one component on each: without a floor their likelihood is infinite."""

    bins = em.Bins(*np.array([[[0.5, 0.5]], [[-1.0, 1.0]], [[0.0, 0.0]]]))
    start = em.Mixture(*np.array([[[-0.7, -0.7]], [[-1.0, 1.0]], [[-9.0, -9.0]]]))
    floor = np.array([1e-3])

    def test_a_step_goes_down_to_it_and_no_further(self):
        updated, _ = em.em_step(em.Columns(*self.bins, self.floor), self.start)
        assert np.allclose(np.exp(updated.log_variances), self.floor, rtol=1e-5)

    def test_a_leap_is_brought_back_to_it(self):
        below = self.start._replace(log_variances=np.array([[-50.0, 0.0]]))
        log_variances = em.normalise(below, self.floor).log_variances
        assert np.allclose(np.exp(log_variances), [[1e-3, 1.0]], rtol=1e-5)

    def test_the_fit_ends_on_it(self):
        mixture, value, _ = em.fit_bins(self.bins, self.start, self.floor, 1e-6, 60, 2)
        assert np.allclose(np.exp(mixture.log_variances), self.floor, rtol=1e-5)
        highest = np.log(0.5) - 0.5 * np.log(2 * np.pi * 1e-3)
        assert np.allclose(value, highest, atol=1e-4)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_components": 0}, "Expected n_components >= 1; got 0."),
        ({"n_bins": 100}, "Expected n_bins to be a power of two; got 100."),
    ],
)
def test_faulty_options_are_named(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fit_mixtures(np.zeros((5, 1)), **options)
    assert str(error.value) == message


def test_a_histogram_has_weights_of_its_own():
    histogram = Histogram.from_data(np.random.default_rng(0).normal(size=(300, 1)), 64)
    with pytest.raises(ValueError, match="Expected no sample_weight with a histogram"):
        fit_mixtures(histogram, 2, sample_weight=np.ones(300))
