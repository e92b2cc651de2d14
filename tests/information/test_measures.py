"""Each measure against closed forms, over several seeds, with the error it states."""

import warnings

import jax.numpy as jnp
import numpy as np
import pandas as pd
import pytest

from gauss_flows.datasets import Rings
from gauss_flows.information import (
    conditional_mutual_information,
    dual_total_correlation,
    entropy,
    kl_divergence,
    measures,
    mutual_information,
    negentropy,
    total_correlation,
)
from information.laws import equicorrelated, is_honest, related_blocks

SEEDS = range(4)


@pytest.mark.parametrize(("width", "rho"), [(1, 0.0), (1, 0.9), (2, 0.6), (10, 0.6)])
def test_mutual_information_of_normal_blocks(width, rho):
    found = [mutual_information(*related_blocks(s, width, rho, 600)) for s in SEEDS]
    assert is_honest(found, -0.5 * width * np.log(1 - rho**2), 0.03 + 0.1 * width**0.5)


def test_independent_skewed_columns_have_none():
    found = [total_correlation(np.random.default_rng(s).exponential(size=(800, 2))) for s in SEEDS]
    assert is_honest(found, 0.0, 0.05)


def test_a_ring_s_dependence_without_correlation():
    ring = Rings(radii=(1.0,), noise=0.05)
    rows = [ring_rows(s, 1000) for s in range(3)]
    found = [total_correlation(x) for x in rows]
    assert is_honest(found, 1.158283, 0.1)
    # The same rows, its columns drawn apart, have none.
    apart = [np.random.default_rng(0).permuted(x, axis=0) for x in rows]
    assert is_honest([total_correlation(x) for x in apart], 0.0, 0.1)
    assert is_honest([entropy(x) for x in rows], ring.entropy(), 0.1)


def ring_rows(seed, n):
    rng = np.random.default_rng(seed)
    angle = rng.uniform(0, 2 * np.pi, n)
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return circle + 0.05 * rng.normal(size=(n, 2))


def test_total_and_dual_of_normal_columns():
    covariance = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    log_det = np.linalg.slogdet(covariance)[1]
    rows = [equicorrelated(s, 800) for s in SEEDS]
    assert is_honest([total_correlation(x) for x in rows], -0.5 * log_det, 0.1)
    dual = 1.5 * np.log(0.75) - log_det
    assert is_honest([dual_total_correlation(x) for x in rows], dual, 0.1)


def test_information_that_a_third_explains():
    def chain(seed):
        a, b, z = np.random.default_rng(seed).normal(size=(3, 800))
        return a + z, b + z, z

    found = [conditional_mutual_information(*chain(s)) for s in SEEDS]
    assert is_honest(found, 0.0, 0.1)
    assert is_honest([mutual_information(*chain(s)[:2]) for s in SEEDS], -0.5 * np.log(0.75), 0.1)


def test_entropy_and_negentropy_of_uniform_and_normal_columns():
    rows = [np.random.default_rng(s).uniform(0, 3, size=(800, 2)) for s in SEEDS]
    assert is_honest([entropy(x) for x in rows], 2 * np.log(3), 0.1)
    assert is_honest([negentropy(x) for x in rows], np.log(np.pi * np.e / 6), 0.1)
    normal = [np.random.default_rng(s).normal(size=(300, 5)) for s in SEEDS]
    assert is_honest([negentropy(x) for x in normal], 0.0, 0.1)


def test_entropy_of_skewed_columns_in_five_dimensions():
    rows = [np.random.default_rng(s).exponential(size=(1000, 5)) for s in range(3)]
    assert is_honest([entropy(x) for x in rows], 5.0, 0.2)


def test_divergence_of_normal_laws():
    def laws(seed):
        x, y = np.random.default_rng(seed).normal(size=(2, 1000, 2))
        return 0.8 * x + 0.5, y

    found = [kl_divergence(*laws(s)) for s in SEEDS]
    assert is_honest(found, 0.5 * (2 * 0.64 + 0.5 - 2) - 2 * np.log(0.8), 0.15)
    same = [kl_divergence(laws(s)[1], laws(s + 100)[1]) for s in SEEDS]
    assert is_honest(same, 0.0, 0.1)


def test_a_divergence_s_error_holds_what_the_rows_of_y_add():
    # With few rows of y most of the scatter is theirs.
    def found(seed):
        x, y = np.random.default_rng(seed).normal(size=300), np.random.default_rng([1, seed])
        return kl_divergence(x + 0.5, y.normal(size=100))

    values, errors = np.array([found(seed) for seed in range(40)]).T
    assert 0.75 < np.sqrt(np.mean(errors**2)) / values.std(ddof=1) < 1.8


@pytest.mark.parametrize("sizes", [(500, 500), (500, 600)])
@pytest.mark.parametrize("n_dims", [1, 2])
def test_divergence_of_rounded_values(n_dims, sizes):
    def rounded(seed):
        rng = np.random.default_rng(seed)
        return [rng.normal(size=(size, n_dims)).round(1) for size in sizes]

    with warnings.catch_warnings():
        # Equal rows that rounding explains are none to be told.
        warnings.simplefilter("error")
        assert is_honest([kl_divergence(*rounded(s)) for s in range(6)], 0.0, 0.1)


@pytest.mark.filterwarnings("ignore:Whole numbers")
def test_divergence_of_counts():
    rngs = [np.random.default_rng(s) for s in range(6)]
    found = [kl_divergence(rng.poisson(3, 500), rng.poisson(5, 500)) for rng in rngs]
    assert is_honest(found, 3 * np.log(3 / 5) + 2, 0.2)


def test_dependence_is_the_same_after_monotone_maps():
    x = equicorrelated(0, 800, 2)
    first, second = (
        total_correlation(x),
        total_correlation(np.stack([np.exp(3 * x[:, 0]), x[:, 1]], 1)),
    )
    error = np.hypot(first.standard_error, second.standard_error)
    assert abs(first.value - second.value) < 3 * error


def test_entropy_moves_with_units():
    x = equicorrelated(0, 500, 2)
    scaled = x @ np.diag([1e6, 1e-6]) + [1e8, 0.0]
    assert entropy(scaled).value == pytest.approx(entropy(x).value, abs=1e-3)


@pytest.mark.parametrize("unit", [1e200, 1e-200, 4e307])
def test_units_of_any_size(unit):
    x, y = equicorrelated(0, 300, 2), equicorrelated(1, 300, 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        value, error = entropy(unit * x)
        assert value == pytest.approx(entropy(x).value + 2 * np.log(unit), abs=1e-8)
        assert error == pytest.approx(entropy(x).standard_error)
        assert measures(unit * x).entropy == (value, error)
        for measure in (total_correlation, negentropy):
            assert measure(unit * x) == pytest.approx(measure(x), abs=1e-8)
        for measure in (mutual_information, kl_divergence):
            assert measure(unit * x[:, 0], unit * y[:, 0]) == pytest.approx(
                measure(x[:, 0], y[:, 0]), abs=1e-8
            )


def test_every_kind_of_table_gives_the_same():
    x = equicorrelated(0, 300, 2)
    value = total_correlation(x)
    assert total_correlation(pd.DataFrame(x, columns=["a", "b"])) == value
    single = np.asarray(x, np.float32)
    assert total_correlation(jnp.asarray(single)) == total_correlation(single)
    assert total_correlation(x.tolist()) == value


def test_a_single_column():
    x = np.random.default_rng(0).normal(size=(500, 1))
    assert total_correlation(x) == (0.0, 0.0)
    assert dual_total_correlation(x) == (0.0, 0.0)
    value, error = entropy(x)
    assert abs(value - 0.5 * np.log(2 * np.pi * np.e)) < 3 * error


def test_whole_numbers_are_spread_over_their_unit():
    rng = np.random.default_rng(0)
    x = np.floor(rng.uniform(0, 64, size=(2000, 1)))
    with pytest.warns(UserWarning, match="Whole numbers"):
        value, error = entropy(x)
    assert abs(value - np.log(64)) < 4 * error


def test_the_summary_is_each_measure():
    x = equicorrelated(0, 400, 2)
    found = measures(x)
    assert found.entropy == entropy(x)
    assert found.negentropy == negentropy(x)
    assert found.total_correlation == total_correlation(x)
    assert found.dual_total_correlation == dual_total_correlation(x)


def test_a_seed_repeats_and_another_moves():
    x, y = related_blocks(0, 1, 0.5, 300)
    assert mutual_information(x, y) == mutual_information(x, y)
    with pytest.raises(ValueError, match="random_state"):
        mutual_information(x, y, random_state=-1)


def ring(rng, n):
    angle = rng.uniform(0, 2 * np.pi, n)
    return np.column_stack([np.cos(angle), np.sin(angle)]) + 0.05 * rng.normal(size=(n, 2))


@pytest.mark.parametrize("n", [200, 400])
def test_few_rows_of_a_narrow_shape_share_nothing_with_an_independent_column(n):
    scores = []
    for seed in range(4):
        rng = np.random.default_rng(100 + seed)
        gamma = rng.gamma(2, size=n)
        value, error = mutual_information(ring(rng, n), gamma)
        scores.append(value / error)
    assert np.abs(scores).max() < 3
    assert np.square(scores).mean() < 2.5


def test_few_rows_of_a_narrow_shape_are_not_taken_for_edges():
    errors = [total_correlation(ring(np.random.default_rng(s), 400)).value - 1.1583 for s in (1, 2)]
    assert np.abs(errors).max() < 0.15


def test_a_narrow_shape_tells_nothing_more_of_an_independent_column_once_half_is_known():
    scores = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        x, y = ring(rng, 200), rng.normal(size=200)
        value, error = conditional_mutual_information(x[:, 0], y, x[:, 1])
        assert conditional_mutual_information(y, x[:, 0], x[:, 1]).value == pytest.approx(value)
        scores.append(value / error)
    assert np.abs(scores).max() < 3


def test_measures_do_not_depend_on_where_zero_is():
    rows = np.random.default_rng(0).normal(size=(600, 2)) @ [[1.0, 0.5], [0.0, 1.0]]
    there = rows + np.array([1e12, -1e12])
    assert entropy(there[:, 0]).value == pytest.approx(entropy(rows[:, 0]).value, abs=1e-3)
    shared = mutual_information(*rows.T).value
    assert mutual_information(*there.T).value == pytest.approx(shared, abs=1e-3)


def test_an_entropy_of_values_nearly_equal_is_a_number():
    rows = np.random.default_rng(0).normal(size=998)
    value = entropy(np.append(rows, [1e-18, 2e-18])).value
    assert value == pytest.approx(entropy(rows).value, abs=0.05)
