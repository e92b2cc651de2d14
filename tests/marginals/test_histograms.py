"""Histograms against sums over the rows themselves."""

import numpy as np
import pytest

from gaussianization.marginals.histograms import Histogram, bin_edges, location_and_spread


@pytest.fixture
def x():
    rng = np.random.default_rng(0)
    return np.stack(
        [rng.standard_cauchy(3000), rng.integers(0, 4, 3000), 1e6 + rng.normal(size=3000)], axis=1
    )


def moments_of_bin(column, low, high, weight):
    inside = (column >= low) & (column < high)
    total = weight[inside].sum()
    mean = np.average(column[inside], weights=weight[inside])
    return total, mean, np.average((column[inside] - mean) ** 2, weights=weight[inside])


@pytest.mark.parametrize("weighted", [False, True])
def test_every_bin_holds_the_moments_of_its_rows(x, weighted):
    weight = np.random.default_rng(1).uniform(0.5, 2.0, len(x)) if weighted else np.ones(len(x))
    histogram = Histogram.from_data(x, 64, weight if weighted else None)
    assert np.allclose(histogram.weights.sum(1), weight.sum())
    for j in range(3):
        for i in np.flatnonzero(histogram.weights[j]):
            low, high = histogram.edges[j, i : i + 2]
            got = [part[j, i] for part in histogram[:3]]
            assert np.allclose(
                got, moments_of_bin(x[:, j], low, high, weight), rtol=1e-9, atol=1e-9
            )


def test_edges_increase_and_take_in_every_later_value(x):
    edges = bin_edges(x, 64)
    assert edges.shape == (3, 65)
    assert np.all(np.diff(edges, axis=1) >= 0)
    later = 1e3 * np.random.default_rng(2).standard_cauchy((500, 3))
    assert np.allclose(Histogram.from_data(later, edges=edges).weights.sum(1), 500)


def test_repeated_values_get_bins_of_their_own(x):
    histogram = Histogram.from_data(x, 64)
    filled = histogram.weights[1] > 0
    assert np.array_equal(histogram.means[1, filled], [0, 1, 2, 3])
    assert np.all(histogram.variances[1] == 0)


def test_merged_histograms_are_that_of_all_rows(x):
    edges = bin_edges(x[:500], 64)
    total = Histogram.from_data(x[:100], edges=edges)
    for part in np.split(x[100:], [700, 701, 2000]):
        total = total.merge(Histogram.from_data(part, edges=edges))
    at_once = Histogram.from_data(x, edges=edges)
    filled = at_once.weights > 0
    assert np.array_equal(total.weights, at_once.weights)
    assert np.allclose(total.means[filled], at_once.means[filled], rtol=1e-12)
    assert np.allclose(total.variances[filled], at_once.variances[filled], rtol=1e-9, atol=1e-9)


def test_histograms_of_other_edges_do_not_merge(x):
    with pytest.raises(ValueError, match="Expected two histograms with the same edges"):
        Histogram.from_data(x, 32).merge(Histogram.from_data(x[:99], 32))


def test_few_values_have_a_bin_each(x):
    histogram = Histogram.from_data(x[:100], 128)
    assert np.array_equal(histogram.means[[0, 2], :100], np.sort(x[:100, [0, 2]].T, axis=1))
    assert np.all(histogram.weights[[0, 2], :100] == 1)
    assert np.array_equal(histogram.weights.sum(1), [100, 100, 100])
    assert np.all(histogram.variances == 0)


def test_rows_without_weight_are_not_there(x):
    weight = np.where(np.arange(len(x)) % 3 == 0, 0.0, 2.0)
    without = Histogram.from_data(x[weight > 0], 64)
    weighted = Histogram.from_data(x, 64, weight)
    assert np.array_equal(weighted.edges, without.edges)
    assert np.array_equal(weighted.weights, 2 * without.weights)


def test_the_spread_is_that_of_a_mode_and_not_of_the_gap_or_the_tail():
    rng = np.random.default_rng(0)
    normal = rng.normal(size=10_000)
    gap = np.where(rng.random(10_000) < 0.5, -1e4, 1e4) + normal
    tail = np.append(normal[1:], 1e9)
    _, spread = location_and_spread(Histogram.from_data(np.stack([normal, gap, tail], axis=1)))
    assert np.all(spread / spread[0] < 2.5)
    assert np.all(spread / spread[0] > 0.4)


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (np.zeros(3), {}, "Expected data of shape (n, d) with n >= 1; got (3,)."),
        (np.zeros((0, 2)), {}, "Expected data of shape (n, d) with n >= 1; got (0, 2)."),
        (np.zeros((3, 2)), {"n_bins": 1}, "Expected n_bins >= 2; got 1."),
        (
            np.zeros((3, 2)),
            {"sample_weight": np.ones(2)},
            "Expected sample_weight of shape (3,); got (2,).",
        ),
        (
            np.zeros((3, 2)),
            {"edges": np.zeros((1, 5))},
            "Expected edges of shape (2, n_bins + 1); got (1, 5).",
        ),
    ],
)
def test_faults_are_named(x, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        Histogram.from_data(x, **options)
    assert str(error.value) == message
