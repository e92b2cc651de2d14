"""The normal's tail functions against fifty digits."""

import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
from mpmath import mp, mpf

from gauss_flows.numerics.normal import (
    CENTRAL_DISTANCE,
    CENTRAL_HALF_WIDTH,
    LOG_SQRT_2PI,
    central_mass,
    central_quantile,
    polynomial,
    quantile_from_log_tail,
    scaled_tail,
    standard_normal_log_density,
)

TOLERANCE = {"float32": 5e-7, "float64": 2e-15}


@pytest.fixture(autouse=True)
def fifty_digits():
    with mp.workdps(50):
        yield


def relative_errors(found, exact):
    return np.array(
        [float(abs(mpf(float(f)) - e) / abs(e)) for f, e in zip(found, exact, strict=True)]
    )


def test_scaled_tail(precision):
    u = jnp.asarray(np.r_[0.0, np.geomspace(1e-8, 1e8, 160), np.linspace(0, 12, 100)], precision)
    found = scaled_tail(u)
    assert found.dtype == u.dtype
    # Φ(−u) exp(u²/2); where both factors leave mpmath's reach of patience, 1/(u√2π) less a bit.
    exact = []
    for value in map(mpf, map(float, u)):
        if value < 1e4:
            exact.append(mpmath.erfc(value / mpmath.sqrt(2)) / 2 * mpmath.exp(value**2 / 2))
        else:
            series = 1 - value**-2 + 3 * value**-4 - 15 * value**-6
            exact.append(series / (value * mpmath.sqrt(2 * mp.pi)))
    assert relative_errors(found, exact).max() <= TOLERANCE[precision]


def test_scaled_tail_stays_finite_and_positive_to_the_last_number():
    largest = jnp.asarray(1e18, "float32")
    assert 0 < scaled_tail(largest) < 1e-17
    gradient = jax.vmap(jax.grad(scaled_tail))(jnp.asarray([0.0, 1.0, 1e6]))
    # S' = uS − φ(0)
    np.testing.assert_allclose(gradient[:2], [-0.39894228, 0.26157899 - 0.39894228], rtol=2e-5)
    assert np.isfinite(gradient[2])


def test_central_mass(precision):
    u = jnp.asarray(np.r_[np.geomspace(1e-30, CENTRAL_DISTANCE, 80), -0.3], precision)
    found = central_mass(u)
    assert found.dtype == u.dtype
    exact = [mpmath.erf(mpf(float(value)) / mpmath.sqrt(2)) / 2 for value in u]
    assert relative_errors(found, exact).max() <= TOLERANCE[precision]


def test_central_quantile(precision):
    edge = CENTRAL_HALF_WIDTH
    q = jnp.asarray(np.r_[np.linspace(-edge, edge, 101), np.geomspace(1e-12, edge, 40)], precision)
    q = q[(q != 0) & (jnp.abs(q) <= edge)]
    # z = √2 erf⁻¹(2q)
    exact = [mpmath.sqrt(2) * mpmath.erfinv(2 * mpf(float(v))) for v in q]
    assert relative_errors(central_quantile(q), exact).max() <= 4 * np.finfo(precision).eps
    assert central_quantile(jnp.zeros((), precision)) == 0


def exact_distance(log_p):
    """z with log Φ(−z) = log p, by bisection in the exponent's own terms."""
    log_p = mpf(float(log_p))

    def log_tail(z):
        if z < 1e4:
            return mpmath.log(mpmath.erfc(z / mpmath.sqrt(2)) / 2)
        series = mpmath.log(1 - z**-2 + 3 * z**-4 - 15 * z**-6)
        return -(z**2) / 2 - mpmath.log(z * mpmath.sqrt(2 * mp.pi)) + series

    z = mpmath.sqrt(-2 * log_p)
    for _ in range(200):
        # d log Φ(−z)/dz is close to −(z + 1/z): a fixed-point iteration that contracts.
        step = (log_tail(z) - log_p) / (z + 1 / z)
        z += step
        if abs(step) < mpf(10) ** -30 * z:
            return z
    raise RuntimeError("the reference did not converge")


def test_quantile_from_log_tail(precision):
    # Both sides of every seam: r = √−log p at 1.6, 5 and 27; and to the far end.
    seams = np.array([1.6099, 1.6101, 4.999, 5.001, 26.99, 27.01]) ** 2
    distances = np.r_[np.geomspace(2.6, 1e9, 120), seams, np.linspace(600, 900, 40)]
    log_p = jnp.asarray(-distances, precision)
    found = quantile_from_log_tail(log_p)
    assert found.dtype == log_p.dtype
    errors = relative_errors(found, [exact_distance(v) for v in log_p])
    assert errors.max() <= TOLERANCE[precision]


def test_quantile_from_log_tail_is_increasing(precision):
    log_p = -jnp.asarray(np.geomspace(2.6, 1e30, 4001), precision)
    z = np.asarray(quantile_from_log_tail(log_p))
    assert np.all(np.isfinite(z))
    assert np.all(np.diff(z) > 0)


def test_log_density(precision):
    z = jnp.asarray([0.0, -1.5, 30.0], precision)
    expected = [-(mpf(float(v)) ** 2) / 2 - mpmath.log(2 * mp.pi) / 2 for v in z]
    found = standard_normal_log_density(z)
    assert relative_errors(found, expected).max() <= 2 * np.finfo(precision).eps
    assert abs(mpmath.log(2 * mp.pi) / 2 - LOG_SQRT_2PI) < 3e-16


def test_polynomial_is_lowest_power_first(precision):
    x = jnp.asarray([-2.0, 0.0, 3.0], precision)
    np.testing.assert_array_equal(polynomial((1.0, 2.0, 5.0), x), 1 + 2 * x + 5 * x**2)
