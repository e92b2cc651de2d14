"""Henze and Zirkler's statistic, its moments, its p-values and published figures."""

import numpy as np
import pytest
from scipy.stats import kstest
from sklearn.datasets import load_iris

from gauss_flows.diagnostics import draw_henze_zirkler, henze_zirkler


def test_statistic_is_the_distance_of_characteristic_functions():
    """By quadrature over t in one dimension."""
    z = np.random.default_rng(0).normal(size=(30, 1)) ** 3
    test = henze_zirkler(z, n_null=1)
    beta = test.bandwidth
    assert beta == pytest.approx((3 * 30 / 4) ** 0.2 / np.sqrt(2))
    t = np.linspace(-10 * beta, 10 * beta, 20_001)
    gap = np.abs(np.exp(1j * np.outer(t, z[:, 0])).mean(1) - np.exp(-(t**2) / 2)) ** 2
    weight = np.exp(-(t**2) / (2 * beta**2)) / np.sqrt(2 * np.pi * beta**2)
    assert test.statistic == pytest.approx(30 * np.trapezoid(gap * weight, t), rel=1e-6)


@pytest.mark.parametrize(
    ("columns", "statistic", "p_value"),
    [((0, 1, 2, 3), 0.9488453, 0.04995356), ((0, 1), 0.286, 0.915)],
)
def test_published_figures_of_the_iris_data(columns, statistic, p_value):
    """The R package MVN's documentation, on the species setosa."""
    x = load_iris().data[:50][:, columns]
    test = henze_zirkler(x, parameters="estimated", method="lognormal")
    assert test.statistic == pytest.approx(statistic, abs=5e-4)
    assert test.p_value == pytest.approx(p_value, abs=5e-4)
    if len(columns) == 4:
        assert (test.statistic, test.p_value) == (
            pytest.approx(statistic, abs=5e-8),
            pytest.approx(p_value, abs=5e-9),
        )


def test_classical_form_is_invariant():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(80, 3))
    moved = x @ rng.normal(size=(3, 3)) + [5.0, -1.0, 100.0]
    first, second = (henze_zirkler(rows, parameters="estimated", n_null=99) for rows in (x, moved))
    assert first.statistic == pytest.approx(second.statistic, rel=1e-9)
    assert henze_zirkler(moved, n_null=99).statistic > 10 * first.statistic


@pytest.mark.parametrize(("n", "d"), [(20, 1), (100, 2), (60, 5)])
def test_moments_of_the_simple_hypothesis_are_exact(n, d):
    rng = np.random.default_rng(n)
    tests = [henze_zirkler(rng.normal(size=(n, d)), method="lognormal") for _ in range(3000)]
    values = np.array([test.statistic for test in tests])
    assert abs(values.mean() - tests[0].mean) < 3.5 * values.std() / np.sqrt(len(values))
    spread = (values - values.mean()) ** 2
    assert abs(values.var() - tests[0].variance) < 3.5 * spread.std() / np.sqrt(len(values))


def test_moments_of_the_classical_form_are_its_limits():
    rng = np.random.default_rng(0)
    tests = [
        henze_zirkler(rng.normal(size=(400, 2)), parameters="estimated", method="lognormal")
        for _ in range(500)
    ]
    values = np.array([test.statistic for test in tests])
    assert values.mean() == pytest.approx(tests[0].mean, abs=0.03)
    assert values.var() == pytest.approx(tests[0].variance, rel=0.25)


@pytest.mark.parametrize("parameters", ["standard", "estimated"])
@pytest.mark.parametrize(("n", "d"), [(60, 2), (500, 3)])
def test_p_values_are_uniform(parameters, n, d):
    """At 500 rows the null is simulated with 300 and brought to 500."""
    rng = np.random.default_rng(5)
    repeats = 300 if n < 100 else 120
    p_values = [
        henze_zirkler(rng.normal(size=(n, d)), parameters=parameters, n_null=1999).p_value
        for _ in range(repeats)
    ]
    assert kstest(p_values, "uniform").pvalue > 1e-3


def test_lognormal_p_values_are_nearly_uniform():
    rng = np.random.default_rng(6)
    p_values = [
        henze_zirkler(rng.normal(size=(60, 2)), method="lognormal").p_value for _ in range(400)
    ]
    assert kstest(p_values, "uniform").statistic < 0.1


@pytest.mark.parametrize(
    ("change", "power_of_both"),
    [
        (lambda z: z + np.array([0.3, 0.0]), (0.9, 0.0)),
        (lambda z: z * [1.4, 1.0], (0.9, 0.0)),
        (lambda z: np.stack([z[:, 0], (z[:, 1] + z[:, 0] ** 2) / np.sqrt(3)], 1), (0.9, 0.9)),
    ],
    ids=["shift", "scale", "bend"],
)
def test_power(change, power_of_both):
    rng = np.random.default_rng(7)
    for parameters, least in zip(("standard", "estimated"), power_of_both, strict=True):
        p_values = [
            henze_zirkler(change(rng.normal(size=(300, 2))), parameters=parameters).p_value
            for _ in range(40)
        ]
        power = np.mean(np.array(p_values) < 0.05)
        assert power >= least
        if not least:  # what is no matter of shape is not seen
            assert power < 0.2


def test_many_rows_are_drawn_from():
    z = np.random.default_rng(0).normal(size=(500, 2))
    test = henze_zirkler(z, max_rows=100, n_null=99)
    assert test.n_rows == 100
    assert test.statistic == henze_zirkler(z, max_rows=100, n_null=99).statistic


@pytest.mark.filterwarnings("error")
def test_values_that_are_very_far_count_as_far():
    z = np.random.default_rng(0).normal(size=(50, 2))
    z[3] = 1e200
    assert np.isfinite(henze_zirkler(z, n_null=99).statistic)


def test_a_column_with_a_row_far_out_is_no_relation():
    z = np.random.default_rng(0).normal(size=(40, 2))
    z[3, 0] = 1e12
    assert henze_zirkler(z, parameters="estimated").p_value < 0.01
    units = henze_zirkler(z[4:] * [1e-9, 1e9], parameters="estimated")
    assert units.statistic == pytest.approx(henze_zirkler(z[4:], parameters="estimated").statistic)


def test_bad_input_is_named():
    z = np.random.default_rng(0).normal(size=(20, 2))
    with pytest.raises(ValueError, match="'standard' or 'estimated'; got 'robust'"):
        henze_zirkler(z, parameters="robust")
    with pytest.raises(ValueError, match="'simulation' or 'lognormal'; got 'exact'"):
        henze_zirkler(z, method="exact")
    with pytest.raises(ValueError, match="more rows in z than its 6 columns; got 5"):
        henze_zirkler(np.eye(6)[:5], parameters="estimated")
    with pytest.raises(ValueError, match="none of which follows from the others"):
        henze_zirkler(z[:, [0, 0]], parameters="estimated")
    with pytest.raises(ValueError, match="Expected at least 4 rows"):
        henze_zirkler(z[:3])


@pytest.mark.parametrize("method", ["simulation", "lognormal"])
def test_picture_has_the_statistic(method):
    from matplotlib.figure import Figure

    test = henze_zirkler(np.random.default_rng(0).normal(size=(50, 2)), method=method, n_null=99)
    axes = draw_henze_zirkler(test, Figure().subplots())
    assert axes.lines[-1].get_xdata()[0] == test.statistic
