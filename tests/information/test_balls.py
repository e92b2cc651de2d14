"""The neighbours' account of normal rows is unbiased, and that of others is right."""

import numpy as np
import pytest
from scipy.integrate import trapezoid
from scipy.stats import multivariate_normal

from gauss_flows.information.balls import log_ball_mass, log_ratio_curves, orders_up_to
from gauss_flows.information.extrapolation import limit_of
from gauss_flows.information.null import log_normal, null_of
from information.laws import is_honest


@pytest.mark.parametrize("n_dims", [1, 2, 7])
def test_the_mass_of_a_ball_is_the_normal_law_s(n_dims):
    rng = np.random.default_rng(0)
    centre = np.full((1, n_dims), 0.7)
    draws = rng.normal(size=(200_000, n_dims))
    inside = np.mean(np.linalg.norm(draws - centre, axis=1) < 1.3)
    assert np.exp(log_ball_mass(centre, np.array([[1.3]])))[0, 0] == pytest.approx(inside, abs=4e-3)


def test_masses_far_out_stay_finite():
    z = np.array([[37.0], [200.0]])
    assert np.all(np.isfinite(log_ball_mass(z, np.full((2, 1), 1e-8))))
    assert np.all(np.isfinite(log_ball_mass(np.repeat(z, 3, axis=1), np.full((2, 1), 1e-8))))


@pytest.mark.parametrize("side", [-1.0, 0.5])
def test_balls_from_afar_are_half_spaces(side):
    """Where their mass is no longer summed up, it goes on as it was."""
    z = np.array([[9_990.0, 0.0], [10_010.0, 0.0]])
    masses = log_ball_mass(z, z[:, :1] + side)
    assert masses[0, 0] == pytest.approx(masses[1, 0], abs=2e-4)


@pytest.mark.parametrize("n_dims", [1, 3, 20])
def test_normal_rows_have_no_bias_at_any_width(n_dims):
    means = []
    for seed in range(20):
        z = np.random.default_rng(seed).normal(size=(300, n_dims))
        means.append(log_ratio_curves(z, 20).mean(0))
    means = np.array(means)
    off = means.mean(0) / (means.std(0, ddof=1) / np.sqrt(len(means)))
    assert np.all(np.abs(off) < 4)


def test_rows_among_others_have_no_bias_however_far_out():
    means = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        means.append(log_ratio_curves(np.full((1, 2), 3.0), 6, rng.normal(size=(500, 2)))[0])
    means = np.array(means)
    off = means.mean(0) / (means.std(0, ddof=1) / np.sqrt(len(means)))
    assert np.all(np.abs(off) < 4)


def test_a_shifted_law_is_found():
    z = np.random.default_rng(0).normal(size=(4000, 2)) * 0.7 + 0.5
    truth = multivariate_normal([0.5, 0.5], 0.49).logpdf(z) - log_normal(z)
    assert log_ratio_curves(z, 6)[:, -1].mean() == pytest.approx(truth.mean(), abs=0.03)


def test_the_simulated_noise_is_that_of_fresh_rows():
    null = null_of(800, 2, 20)
    errors = []
    for seed in range(60):
        x = np.random.default_rng(seed).normal(size=(800, 2))
        errors.append(log_ratio_curves(x, 20).mean(0))
    ratio = np.var(errors, axis=0) / np.diagonal(null.noise)
    assert np.all((ratio > 0.4) & (ratio < 2.5))
    assert np.linalg.eigvalsh(null.noise)[0] > 0


@pytest.mark.parametrize(("has_edges", "power"), [(True, 0.5), (False, 1.0)])
def test_a_bias_that_grows_with_the_balls_is_taken_off(has_edges, power):
    orders = orders_up_to(20)
    noise = null_of(5000, 2, 20).noise
    flat = limit_of(np.full(len(orders), 0.3), noise, orders, 2, has_edges=has_edges)
    assert flat.value == pytest.approx(0.3, abs=1e-9)
    bent = limit_of(0.3 - 0.2 * (orders / 20) ** power, noise, orders, 2, has_edges=has_edges)
    assert bent.value == pytest.approx(0.3, abs=0.03)
    assert bent.variance > flat.variance


def test_honesty_rejects_what_is_not():
    rng = np.random.default_rng(0)
    fair = [(0.1 * rng.normal(), 0.1) for _ in range(20)]
    assert is_honest(fair, 0.0, 0.2)
    assert not is_honest(fair, 0.2, 0.2)
    assert not is_honest([(value, 0.01) for value, _ in fair], 0.0, 0.2)
    assert not is_honest(fair, 0.0, 0.05)


@pytest.mark.parametrize("radius", [1e-12, 1e-6, 1e-4, 9e-4, 1.1e-3])
@pytest.mark.parametrize("centre", [0.0, 0.7, 8.0])
def test_narrow_intervals_have_all_their_digits(centre, radius):
    inside = np.linspace(-1, 1, 2001) * radius
    density = np.exp(-0.5 * (centre + inside) ** 2) / np.sqrt(2 * np.pi)
    expected = np.log(2 * radius * trapezoid(density, dx=1 / 2000))
    found = log_ball_mass(np.array([[centre]]), np.array([[radius]]))[0, 0]
    assert found == pytest.approx(expected, abs=1e-7)


def test_rows_that_rounding_has_joined_have_a_mass():
    z = np.array([[0.3], [0.3], [1.0], [-1.0]])
    assert np.all(np.isfinite(log_ratio_curves(z, 1)))
