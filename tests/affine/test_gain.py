"""The estimated gain against the true one, and its error against its scatter."""

from functools import partial

import numpy as np
import pytest
from paramax import non_trainable, unwrap

from affine.laws import (
    BEST,
    BEST_DEGREES,
    BEST_GAIN,
    FIVE_GAIN,
    five_passive,
    likelihood_gain,
    mixture_rows,
    rms,
    rows,
)
from gauss_flows.affine import (
    affine_gain,
    affine_gain_gaussian,
    affine_loss_split,
    conditional_moments,
    exact_affine_bound,
    optimal_affine_subspace,
    rotation_matrix,
)
from gauss_flows.bijections import FixedRotation, OrthogonalRotation
from gauss_flows.datasets import TwoGaussians, UniformSquare, W


def errors(n, method, seeds):
    return [
        affine_gain(mixture_rows(n, seed), 1, BEST, method=method).value - BEST_GAIN
        for seed in seeds
    ]


def oracle_errors(n, seeds):
    """Of the likelihood gain at the true moments, the efficient estimate of Δ."""
    result = []
    for seed in seeds:
        y = mixture_rows(n, seed) @ BEST.T
        mean, variance = TwoGaussians().conditional_moments(y[:, 0], np.deg2rad(BEST_DEGREES))
        result.append(likelihood_gain(y[:, 1], mean, np.log(variance)) - BEST_GAIN)
    return result


def test_few_rows_are_enough():
    """The efficient estimate itself, which knows the moments, has an error of 0.050 at 256."""
    seeds = range(60)
    own, known = errors(256, "auto", seeds), oracle_errors(256, seeds)
    assert rms(own) < 1.1 * rms(known)
    assert rms(own) < 0.058
    bins = errors(256, "equal_width", range(20))
    assert rms(bins) > 0.13
    assert rms(errors(300, "auto", seeds)) < 0.4 * rms(errors(300, "equal_width", range(20)))


@pytest.mark.parametrize("method", ["local_linear", "fourier"])
def test_other_methods_are_close(method):
    assert rms(errors(256, method, range(20))) < 0.065


def test_five_passive_coordinates():
    own = []
    for seed in range(6):
        x, _, _ = five_passive(seed, 2048)
        own.append(affine_gain(x, 1).value - FIVE_GAIN)
    assert max(np.abs(own)) <= 0.06


def test_trees_fall_short_by_what_their_layer_misses():
    """A cross-fitted gain is that of the layer found: Δ less its own divergence from the best."""
    x, _, _ = five_passive(1, 2048)
    value, standard_error = affine_gain(x, 1, method="boosting")
    moments = conditional_moments(x[:, :5], x[:, 5:], method="boosting")
    fresh, mean, log_variance = five_passive(101, 20_000)
    off = mean - np.asarray(moments.mean(fresh[:, :5]))[:, 0]
    found = np.asarray(moments.log_variance(fresh[:, :5]))[:, 0]
    ratio = (np.exp(log_variance) + off**2) / np.exp(found)
    missed = 0.5 * np.mean(ratio - 1 - log_variance + found)
    assert missed > 0.05
    assert abs(value + missed - FIVE_GAIN) < 2 * standard_error < 0.1


def test_intervals_cover():
    """Errors that are a fifth too small, or too large, have not the scatter of both laws."""
    ratios = []
    for density, degrees, n in ((W(), 0.0, 2000), (TwoGaussians(), BEST_DEGREES, 500)):
        truth = exact_affine_bound(density, np.deg2rad(degrees)).gain
        turn = rotation_matrix(np.deg2rad(degrees))
        found = [affine_gain(rows(density, n, seed), 1, turn) for seed in range(100)]
        missed = np.array([estimate.value for estimate in found]) - truth
        claimed = np.array([estimate.standard_error for estimate in found])
        assert 0.88 <= np.mean(np.abs(missed) < 1.96 * claimed) <= 0.99
        ratios.append(rms(claimed) / rms(missed))
    assert 0.9 < np.mean(ratios) < 1.15


@pytest.mark.parametrize(
    ("method", "law", "truth", "n", "n_seeds"),
    [
        ("local_linear", lambda seed: mixture_rows(1200, seed) @ BEST.T, BEST_GAIN, 1200, 40),
        ("fourier", lambda seed: five_passive(seed, 1024)[0], FIVE_GAIN, 1024, 10),
    ],
)
def test_standard_errors_of_other_methods_are_their_scatter(method, law, truth, n, n_seeds):
    """Neither a few rows of large leverage nor a bias of the estimate is hidden in them."""
    found = [affine_gain(law(seed), 1, method=method) for seed in range(n_seeds)]
    values = np.array([estimate.value for estimate in found])
    claimed = rms([estimate.standard_error for estimate in found])
    assert 0.5 < claimed / rms(values - truth) < 1.8


def test_no_gain_is_none():
    values = [
        affine_gain(mixture_rows(1000, seed), 1, rotation_matrix(np.pi / 2)) for seed in range(20)
    ]
    scatter = np.mean([value.standard_error for value in values])
    assert abs(np.mean([value.value for value in values])) < 2 * scatter


def test_rotations_and_their_sides():
    """The last coordinates are the active ones."""
    x = rows(W(), 4000)
    swap = np.array([[0.0, 1.0], [1.0, 0.0]])
    as_is, swapped = affine_gain(x, 1), affine_gain(x, 1, swap)
    assert abs(as_is.value - 0.632) < 0.05
    assert swapped.value < as_is.value - 0.2
    assert affine_gain(x @ swap.T, 1, swap) == as_is


def test_several_active_coordinates_add_up():
    rng = np.random.default_rng(0)
    p, noise = rng.normal(size=(4000, 1)), rng.normal(size=(4000, 2))
    a = np.hstack([np.sin(p), np.cos(2 * p)]) + np.exp(0.3 * p) * noise
    both = affine_gain(np.hstack([p, a]), 2).value
    each = [affine_gain(np.hstack([p, a[:, i : i + 1]]), 1).value for i in range(2)]
    assert abs(both - sum(each)) < 1e-9


@pytest.mark.parametrize(("n_rows", "n_active"), [(200, 5), (500, 5), (500, 2)])
def test_white_data_of_many_columns_gain_nothing(n_rows, n_active):
    """What Fourier features find by chance is taken off, and the error knows of it."""
    tables = [np.random.default_rng(seed).normal(size=(n_rows, 10)) for seed in range(6)]
    gains = [affine_gain(x, n_active) for x in tables]
    values = np.array([gain.value for gain in gains])
    errors = np.array([gain.standard_error for gain in gains])
    assert np.abs(values / errors).max() < 2.5
    assert abs(values.mean()) < 0.06
    assert errors.max() < 0.25


@pytest.mark.parametrize(
    ("correlation", "n", "method"),
    [
        (0.99, 100, "auto"),
        (0.999, 300, "auto"),
        (0.99, 300, "fourier"),
        (0.99, 300, "local_linear"),
    ],
)
def test_strong_correlation_is_no_hard_case(correlation, n, method):
    """What is linear goes on beyond the extreme quantiles, where fitted moments are constant."""
    cov = np.array([[1.0, correlation], [correlation, 1.0]])
    root, truth = np.linalg.cholesky(cov), affine_gain_gaussian(cov, 1)
    tables = [np.random.default_rng(seed).normal(size=(n, 2)) @ root.T for seed in range(10)]
    gains = [affine_gain(x, 1, method=method) for x in tables]
    values = np.array([gain.value for gain in gains]) - truth
    errors = np.array([gain.standard_error for gain in gains])
    assert abs(values.mean()) < 0.6 * errors.mean()
    assert (np.abs(values) < 2 * errors).mean() >= 0.8
    assert 0.6 < errors.mean() / np.sqrt(0.5 / n * 2) < 1.7


def test_the_square_s_gain():
    x = rows(UniformSquare(3**0.5), 4000)
    value, standard_error = affine_gain(x, 1, rotation_matrix(np.pi / 4))
    assert abs(value - 0.1534264097) < 4 * standard_error < 0.05


LEAST = {"equal_width": 3, "local_linear": 12, "spline": 12, "fourier": 24, "boosting": 200}
FIFTY = np.random.default_rng(0).normal(size=(50, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((FIFTY, 2), "n_active from 1 to 1"),
        ((FIFTY, 0), "n_active from 1 to 1"),
        ((FIFTY, True), "n_active from 1 to 1"),
        ((FIFTY, 1, [[1.0, 0.1], [0.0, 1.0]]), "orthogonal"),
        ((FIFTY, 1, np.diag([1.0, np.nan])), "finite numbers; got nan in row 1, column 1"),
        ((FIFTY, 1, np.eye(3)), r"shape \(2, 2\)"),
        ((FIFTY, 1, "pca"), "rotation of shape .* got 'pca'"),
        ((FIFTY, 1, 1j * np.eye(2)), "rotation of shape .* real numbers"),
        ((FIFTY, "a"), "n_active from 1 to 1 .* got 'a'"),
        ((FIFTY[:, :1], 1), "two columns"),
        ((FIFTY[:5], 1), "at least 12 rows"),
        ((np.full((50, 2), np.nan), 1), "row 0"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        affine_gain(*arguments)


@pytest.mark.parametrize("method", [None, "kernel", ["spline", "fourier"], np.zeros((0, 2))])
def test_unknown_methods_are_refused(method):
    for measure in (affine_gain, affine_loss_split, optimal_affine_subspace):
        with pytest.raises(ValueError, match="Expected method to be one of"):
            measure(mixture_rows(200), 1, method=method)


@pytest.mark.parametrize(
    ("measure", "method", "needed"),
    [
        *((affine_gain, method, n) for method, n in LEAST.items()),
        *((optimal_affine_subspace, method, n) for method, n in LEAST.items()),
        (partial(affine_loss_split, max_components=1, n_folds=2), "spline", 100),
        (partial(affine_loss_split, max_components=1, n_folds=2), "boosting", 400),
    ],
)
def test_the_least_number_of_rows_said_is_enough(measure, method, needed):
    with pytest.raises(ValueError, match=f"at least {needed} rows .*; got {needed - 1}"):
        measure(mixture_rows(needed - 1), 1, method=method)
    measure(mixture_rows(needed), 1, method=method)


def test_a_rotation_layer_stands_for_its_matrix():
    x = mixture_rows(200)
    cov = np.cov(x.T)
    for layer in (FixedRotation(BEST), OrthogonalRotation.from_matrix(BEST)):
        matrix = np.asarray(unwrap(layer.matrix))
        assert affine_gain(x, 1, layer) == affine_gain(x, 1, matrix)
        assert affine_gain(x, 1, non_trainable(layer)) == affine_gain(x, 1, matrix)
        assert affine_gain_gaussian(cov, 1, layer) == affine_gain_gaussian(cov, 1, matrix)


def test_data_without_a_density_are_named():
    p = np.random.default_rng(0).normal(size=(100, 1))
    for table in (np.zeros((100, 2)), np.hstack([p, p]), np.hstack([p, np.ones_like(p)])):
        for measure in (affine_gain, affine_loss_split, optimal_affine_subspace):
            with pytest.raises(ValueError, match="column"):
                measure(table, 1)
