"""Rational-quadratic splines against the published formula in exact arithmetic."""

import jax
import jax.numpy as jnp
import jax.random as jr
import mpmath
import numpy as np
import pytest

from gauss_flows.numerics import rational_quadratic as rq

INTERVAL = 3.0
EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
ROUND_TRIP = {"float32": 5e-6, "float64": 1e-13}
N_BINS = 8

forward = jax.jit(rq.forward, static_argnums=2)
inverse = jax.jit(rq.inverse, static_argnums=2)


def random_raw(n, scale=1.0, n_bins=N_BINS):
    return scale * jr.normal(jr.key(1), (n, rq.n_raw(n_bins)))


def spread(n):
    """Points inside the box, beyond it and far beyond it."""
    inside = jr.uniform(jr.key(2), (n,), minval=-INTERVAL, maxval=INTERVAL)
    beyond = jnp.array([-1e6, -40.0, -3.5, 3.5, 40.0, 1e6])
    return inside.at[: beyond.size].set(beyond)


def spline_truth(x, x_knots, z_knots, log_derivatives):
    """z and log dz/dx by the formula of Durkan et al. (2019), 40 digits."""
    with mpmath.workdps(40):
        x = mpmath.mpf(float(x))
        xs, zs, ds = (
            [mpmath.mpf(float(v)) for v in values] for values in (x_knots, z_knots, log_derivatives)
        )
        if x < xs[0] or x >= xs[-1]:
            edge, log_derivative = (xs[0], ds[0]) if x < xs[0] else (xs[-1], ds[-1])
            return float(edge + mpmath.exp(log_derivative) * (x - edge)), float(log_derivative)
        k = max(i for i in range(len(xs) - 1) if xs[i] <= x)
        width, height = xs[k + 1] - xs[k], zs[k + 1] - zs[k]
        s, left, right = height / width, mpmath.exp(ds[k]), mpmath.exp(ds[k + 1])
        xi = (x - xs[k]) / width
        both = xi * (1 - xi)
        denominator = s + (right + left - 2 * s) * both
        z = zs[k] + height * (s * xi**2 + left * both) / denominator
        top = s**2 * (right * xi**2 + 2 * s * both + left * (1 - xi) ** 2)
        return float(z), float(mpmath.log(top / denominator**2))


def test_forward_is_the_published_formula(precision):
    raw, x = random_raw(200), spread(200)
    z, log_det = forward(x, raw, INTERVAL)
    knots = rq.unpack(raw, INTERVAL)
    truth = np.array([spline_truth(*row) for row in zip(x, *knots, strict=True)])
    # Knots carry an error of one rounding of the interval, which the slope turns into one of z.
    slope = np.exp(truth[:, 1])
    tolerance = 16 * EPS[precision]
    np.testing.assert_array_less(
        np.abs(z - truth[:, 0]), tolerance * (np.abs(truth[:, 0]) + slope + 1)
    )
    # 1 / 0.007: the narrowest bin, in which a rounding of x is that much of ξ.
    np.testing.assert_array_less(np.abs(log_det - truth[:, 1]), 500 * 16 * EPS[precision])


def test_zero_is_the_identity(precision):
    x = spread(1000)
    raw = jnp.zeros(rq.n_raw(N_BINS))
    for function in (forward, inverse):
        z, log_det = function(x, raw, INTERVAL)
        np.testing.assert_allclose(z, x, rtol=4 * EPS[precision], atol=4 * EPS[precision])
        np.testing.assert_allclose(log_det, 0, atol=8 * EPS[precision])


def test_round_trips(precision):
    raw, x = random_raw(2000), spread(2000)
    tolerance = ROUND_TRIP[precision]
    z, log_det = forward(x, raw, INTERVAL)
    back, log_det_back = inverse(z, raw, INTERVAL)
    again, _ = forward(back, raw, INTERVAL)
    slope = np.exp(log_det)
    last_place = 4 * EPS[precision] * np.maximum(np.abs(x), 1)
    bound = np.maximum(tolerance * np.maximum(1, np.abs(z)), last_place * slope)
    assert np.all(np.abs(again - z) <= bound)
    last_place = 4 * EPS[precision] * np.maximum(np.abs(z), 1)
    bound = np.maximum(tolerance * np.maximum(1, np.abs(x)), last_place / slope)
    assert np.all(np.abs(back - x) <= bound)
    bend = jax.vmap(jax.grad(lambda z, raw: rq.inverse(z, raw, INTERVAL)[1]))(z, raw)
    bound = 64 * EPS[precision] + np.abs(bend) * last_place
    assert np.all(np.abs(log_det + log_det_back) <= bound)


def test_meets_the_knots_and_is_smooth_there(precision):
    raw = random_raw(1)[0]
    x_knots, z_knots, log_derivatives = rq.unpack(raw, INTERVAL)
    z, _ = forward(x_knots, raw, INTERVAL)
    x, _ = inverse(z_knots, raw, INTERVAL)
    slope, last_place = np.exp(log_derivatives), 8 * EPS[precision]
    assert np.all(np.abs(z - z_knots) <= last_place * (1 + slope))
    assert np.all(np.abs(x - x_knots) <= last_place * (1 + 1 / slope))
    # On either side of each knot, the ends included, to the order of the step.
    for direction in (-np.inf, np.inf):
        beside = jnp.nextafter(x_knots, jnp.full_like(x_knots, direction))
        _, log_det = forward(beside, raw, INTERVAL)
        np.testing.assert_allclose(log_det, log_derivatives, atol=1e5 * EPS[precision])


def test_log_det_is_the_derivative(precision):
    raw, x = random_raw(500, scale=0.5), spread(500)
    for function in (forward, inverse):
        slope = jax.vmap(jax.grad(lambda x, raw, f=function: f(x, raw, INTERVAL)[0]))(x, raw)
        _, log_det = function(x, raw, INTERVAL)
        np.testing.assert_allclose(np.log(slope), log_det, atol=1e3 * EPS[precision])


def test_gradients_of_both_directions_are_the_same_curve(x64):
    raw, x = random_raw(100, scale=0.5), spread(100)
    z, log_det = forward(x, raw, INTERVAL)
    by_raw = jax.vmap(jax.grad(lambda raw, x: rq.forward(x, raw, INTERVAL)[0]))(raw, x)
    back_by_raw = jax.vmap(jax.grad(lambda raw, z: rq.inverse(z, raw, INTERVAL)[0]))(raw, z)
    expected = -by_raw / np.exp(log_det)[:, None]
    np.testing.assert_allclose(back_by_raw, expected, rtol=1e-8, atol=1e-8)
    step = 1e-6
    direction = jr.normal(jr.key(5), raw.shape)
    for part in (0, 1):
        exact = jax.jvp(
            lambda raw, part=part: rq.forward(x, raw, INTERVAL)[part], (raw,), (direction,)
        )[1]
        ahead = forward(x, raw + step * direction, INTERVAL)[part]
        behind = forward(x, raw - step * direction, INTERVAL)[part]
        np.testing.assert_allclose((ahead - behind) / (2 * step), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scale", [0.0, 1.0, 1e6])
def test_values_and_gradients_stay_finite(scale, precision):
    raw = random_raw(60, scale=scale)
    edges = jnp.array([-INTERVAL, INTERVAL, 0.0, 1e6, -1e6, 1e30])
    x = jnp.tile(edges, 10)

    def total(x, raw, function):
        value, log_det = function(x, raw, INTERVAL)
        return jnp.sum(jnp.tanh(value) + log_det)

    for function in (rq.forward, rq.inverse):
        values = function(x, raw, INTERVAL)
        gradients = jax.grad(total, argnums=(0, 1))(x, raw, function)
        assert all(np.all(np.isfinite(a)) for a in (*values, *gradients))


def test_slopes_are_bounded_by_construction(precision):
    raw = random_raw(100, scale=1e6)
    x_knots, z_knots, log_derivatives = rq.unpack(raw, INTERVAL)
    floor = rq.MIN_RELATIVE_BIN * 2 * INTERVAL / (N_BINS + 1)
    for knots in (x_knots, z_knots):
        assert np.all(np.diff(knots, axis=-1) >= floor - 1e-5)
        np.testing.assert_array_equal(knots[:, 0], -INTERVAL)
        np.testing.assert_array_equal(knots[:, -1], INTERVAL)
    assert np.all(np.abs(log_derivatives) <= rq.MAX_LOG_DERIVATIVE)


def test_pack_undoes_unpack(precision):
    knots = rq.unpack(random_raw(20), INTERVAL)
    again = rq.unpack(rq.pack(*knots, INTERVAL), INTERVAL)
    for before, after in zip(knots, again, strict=True):
        np.testing.assert_allclose(after, before, atol=100 * EPS[precision])


def test_raw_parameters_broadcast():
    x = jnp.linspace(-4.0, 4.0, 12).reshape(3, 4)
    raw = random_raw(4)
    z, log_det = forward(x, raw, INTERVAL)
    assert z.shape == log_det.shape == (3, 4)
    one_by_one = [
        [float(forward(x[i, j], raw[j], INTERVAL)[0]) for j in range(4)] for i in range(3)
    ]
    np.testing.assert_allclose(z, one_by_one, rtol=1e-5, atol=1e-6)


def test_faulty_widths_are_refused():
    with pytest.raises(ValueError, match="3 n_bins \\+ 4 raw parameters a spline; got 27"):
        rq.forward(jnp.zeros(()), jnp.zeros(27), INTERVAL)
    with pytest.raises(ValueError, match="as many knots in each argument"):
        rq.pack(jnp.zeros(3), jnp.zeros(4), jnp.zeros(4), INTERVAL)
