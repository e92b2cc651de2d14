"""Every kind of column: codes and back, Jacobians against quadrature, masses that add up to one."""

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm

from gauss_flows.columns.kinds import Category, Integer, Interval, Real

INTERVALS = [Interval(0.0, np.inf), Interval(-np.inf, 2.0), Interval(-1.0, 3.0)]
NUMBERS = [Real(), *INTERVALS]
COLOURS = Category.from_values(np.array(["red"] * 2 + ["blue"] * 5 + ["green"], object))
POINTS = (np.arange(4000) + 0.5) / 4000


def density(kind, value):
    """The column's density at a value when its code has the density N(0.3, 0.8²)."""
    code, log_det = kind.encode(np.array([value]), np.array([0.5]))
    return np.exp(norm(0.3, 0.8).logpdf(code[0]) + log_det[0])


def mass(kind, value):
    codes, log_dets = kind.encode(np.full(4000, value, object), POINTS)
    return np.mean(np.exp(norm(0.3, 0.8).logpdf(codes) + log_dets))


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_densities_of_numbers_integrate_to_one(kind):
    low, high = (kind.low, kind.high) if isinstance(kind, Interval) else (-np.inf, np.inf)
    assert quad(lambda value: density(kind, value), low, high)[0] == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("kind", NUMBERS, ids=str)
def test_numbers_come_back(kind):
    codes = np.linspace(-5, 5, 41)
    values = kind.decode(codes)
    assert kind.holds(values).all()
    np.testing.assert_allclose(kind.encode(values, np.full(41, 0.5))[0], codes, atol=1e-6)


def test_digits_beside_both_bounds_survive():
    kind = Interval(0.0, 1.0)
    tiny = np.array([1e-300, 1e-12])
    np.testing.assert_allclose(kind.decode(kind.encode(tiny, tiny)[0]), tiny, rtol=1e-10)
    far = kind.encode(np.array([1 - 1e-12]), tiny[:1])[0]
    np.testing.assert_allclose(far, -norm.ppf(1e-12), rtol=1e-4)
    assert kind.holds(kind.decode(np.array([-60.0, 60.0]))).all()


def test_a_uniform_column_becomes_normal():
    codes = Interval(-1.0, 3.0).encode(-1 + 4 * POINTS, POINTS)[0]
    np.testing.assert_allclose(codes, norm.ppf(POINTS), atol=1e-9)


def test_masses_add_up_to_one():
    assert sum(mass(Integer(), k) for k in range(-8, 9)) == pytest.approx(1, abs=1e-6)
    assert mass(Integer(), 1) == pytest.approx(np.diff(norm(0.3, 0.8).cdf([0.5, 1.5]))[0], abs=1e-6)
    assert sum(mass(COLOURS, level) for level in COLOURS.levels) == pytest.approx(1, abs=1e-4)
    edges = norm.ppf([0, 5 / 8, 6 / 8, 1])
    for level, low, high in zip(("blue", "green", "red"), edges, edges[1:], strict=False):
        truth = np.diff(norm(0.3, 0.8).cdf([low, high]))[0]
        assert mass(COLOURS, level) == pytest.approx(truth, abs=1e-4)


def test_categories_fitted_are_a_standard_normal():
    values = np.repeat(np.array(["blue", "green", "red"], object), [2500, 500, 1000])
    u = np.concatenate([(np.arange(n) + 0.5) / n for n in (2500, 500, 1000)])
    kind = Category.from_values(values)
    codes, log_det = kind.encode(values, u)
    np.testing.assert_allclose(np.sort(codes), norm.ppf(POINTS), atol=1e-6)
    np.testing.assert_array_equal(kind.decode(codes), values)
    # Under the standard normal a level's mass is its share.
    shares = np.exp(norm.logpdf(codes) + log_det)
    np.testing.assert_allclose(shares, np.repeat([2.5, 0.5, 1.0], [2500, 500, 1000]) / 4)


def test_discrete_values_come_back_from_anywhere_in_their_interval():
    k = np.arange(-5.0, 6.0)
    for u in (1e-9, 0.5, 1 - 1e-9):
        np.testing.assert_array_equal(Integer().decode(Integer().encode(k, np.full(11, u))[0]), k)
        codes = COLOURS.encode(np.array(COLOURS.levels, object), np.full(3, u))[0]
        assert np.isfinite(codes).all()
        np.testing.assert_array_equal(COLOURS.decode(codes), np.array(COLOURS.levels, object))


def test_what_columns_can_hold():
    np.testing.assert_array_equal(Interval(0, 1).holds(np.array([0.0, 0.5, 1.0])), [0, 1, 0])
    np.testing.assert_array_equal(Integer().holds(np.array([1.0, 1.5])), [1, 0])
    np.testing.assert_array_equal(COLOURS.holds(np.array(["red", "pink"], object)), [1, 0])


def test_levels_of_several_types_have_an_order():
    kind = Category.from_values(np.array(["a", 1, "b", 1], object))
    assert kind.levels == (1, "a", "b")
