"""Conditional moments: truths, the edges of the data, and data that are hard."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affine.laws import five_passive, rows
from gauss_flows.affine import closed_form_coupling, conditional_moments
from gauss_flows.affine.exact import passive_rule
from gauss_flows.datasets import WU, W

ONE = ("equal_width", "local_linear", "spline")
METHODS = (*ONE, "fourier", "boosting")
LEAST = {"equal_width": 2, "local_linear": 12, "spline": 12, "fourier": 24, "boosting": 200}


def smooth_law(n, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.uniform(-2, 2, size=(n, 1))
    a = np.sin(2 * p) + np.exp(0.4 * p - 0.5) * rng.normal(size=(n, 1))
    return p, a


def gap_to_the_bound(density, n, seed):
    """How much more KL a layer of estimated moments leaves than the best layer."""
    x = rows(density, n, seed)
    moments = conditional_moments(x[:, :1], x[:, 1:])
    p, mass = passive_rule(density)
    mean, variance = density.conditional_moments(p)
    m = np.asarray(moments.mean(p[:, None]), float)[:, 0]
    v = np.asarray(moments.variance(p[:, None]), float)[:, 0]
    return float(mass @ (0.5 * ((variance + (mean - m) ** 2) / v - 1 - np.log(variance / v))))


@pytest.mark.parametrize("density", [W(), WU()])
@pytest.mark.parametrize(("n", "most"), [(4096, 0.008), (65_536, 0.001)])
def test_a_layer_without_training_comes_close_to_the_bound(density, n, most):
    gaps = [gap_to_the_bound(density, n, seed) for seed in range(3)]
    assert 0 < max(gaps) <= most


@pytest.mark.parametrize("method", METHODS)
def test_moments_of_a_smooth_law(method):
    p, a = smooth_law(8000)
    moments = conditional_moments(p, a, method=method)
    grid = np.linspace(-1.7, 1.7, 60)[:, None]
    loose, lines = method in ("equal_width", "boosting"), method == "local_linear"
    mean_error = np.asarray(moments.mean(grid)) - np.sin(2 * grid)
    log_error = np.asarray(moments.log_variance(grid)) - (0.8 * grid - 1.0)
    assert np.sqrt(np.mean(mean_error**2)) < (0.12 if loose else 0.1 if lines else 0.05)
    assert np.sqrt(np.mean(log_error**2)) < (0.35 if loose or lines else 0.15)


@pytest.mark.parametrize("method", METHODS)
def test_the_log_variance_has_no_bias(method):
    """The logarithm of an average of squares is too small on average; this one is not."""
    errors = []
    for seed in range(20):
        p, a = smooth_law(400, seed)
        moments = conditional_moments(p, a, method=method)
        errors.append(np.mean(np.asarray(moments.log_variance(p)) - (0.8 * p - 1.0)))
    bias = np.mean(errors)
    if method == "equal_width":
        assert bias < -0.05  # as the paper has it
    elif method == "boosting":
        assert abs(bias) < 0.35
    else:
        assert abs(bias) < 0.05


@pytest.mark.parametrize("method", ["local_linear", "spline", "fourier"])
def test_the_variance_is_that_of_fresh_rows_about_the_fit(method):
    """With plain variances the mean of r²/v on fresh rows exceeds 1."""
    ratios = []
    for seed in range(20):
        p, a = smooth_law(100, seed)
        moments = conditional_moments(p, a, method=method)
        fresh_p, fresh_a = smooth_law(2000, 1000 + seed)
        residual = fresh_a - np.asarray(moments.mean(fresh_p))
        ratios.append(np.mean(residual**2 / np.asarray(moments.variance(fresh_p))))
    assert 0.7 < np.mean(ratios) < 1.15, np.mean(ratios)


@pytest.mark.parametrize("method", METHODS)
def test_both_are_constant_beyond_the_data(method):
    p, a = smooth_law(500)
    moments = conditional_moments(p, a, method=method)
    for edge, beyond in ((p.max(), 1e6), (p.min(), -1e6)):
        for function in (moments.mean, moments.variance, moments.log_variance):
            far, there = np.asarray(function([[beyond]])), np.asarray(function([[edge]]))
            np.testing.assert_allclose(far, there, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("case", ["heavy", "outlier", "ties", "constant a", "constant p", "few"])
def test_hard_data_give_finite_moments(method, case):
    rng = np.random.default_rng(3)
    n = LEAST[method] if case == "few" else 600
    p, a = rng.normal(size=(n, 1)), rng.normal(size=(n, 2))
    if case == "heavy":
        p, a = rng.standard_t(2, size=(n, 1)), rng.standard_t(2, size=(n, 2))
    elif case == "outlier":
        p[7], a[11] = 1e6, -1e6
    elif case == "ties":
        p = rng.integers(0, 3, size=(n, 1)).astype(float)
    elif case == "constant a":
        a = np.full((n, 2), 3.0)
    elif case == "constant p":
        p = np.full((n, 1), -2.0)
    moments = conditional_moments(p, a, method=method)
    places = np.concatenate([p, [[-1e9], [0.0], [1e9]]])
    mean, variance = np.asarray(moments.mean(places)), np.asarray(moments.variance(places))
    assert mean.shape == variance.shape == (n + 3, 2)
    assert np.isfinite(mean).all()
    assert np.isfinite(variance).all()
    assert (variance > 0).all()
    if case == "constant a":
        np.testing.assert_allclose(mean, 3.0, atol=1e-3)
    if case == "ties" and method != "equal_width":
        groups = np.array([a[p[:, 0] == k].mean(0) for k in range(3)])
        np.testing.assert_allclose(mean[:n][p[:, 0] == 1][:1], groups[1:2], atol=0.25)


def hard_data(case, n, d_passive, rng):
    p, a = rng.normal(size=(n, d_passive)), rng.normal(size=(n, 2))
    if case == "heavy":
        p, a = rng.standard_t(2, size=p.shape), rng.standard_t(2, size=a.shape)
    elif case == "outlier":
        a[1] = 1e6
    elif case == "outlying p":
        p[1] = 1e6
        a += 0.5 * p[:, :1]
    elif case == "duplicated":
        p, a = np.repeat(p[: n // 2], 2, axis=0), np.repeat(a[: n // 2], 2, axis=0)
    elif case == "ties":
        p = rng.integers(0, 3, size=p.shape).astype(float)
    elif case == "rare":
        p = (rng.random(p.shape) < 0.01).astype(float)
    elif case == "spike":
        p = np.where(rng.random(p.shape) < 0.9, 0.0, p)
    elif case == "skewed":
        p = np.exp(3 * p)
        a += np.log(p[:, :1])
    elif case == "no noise":
        a = np.hstack([np.sin(p[:, :1]), 2 * p[:, :1]])
    elif case == "noise on one side":
        a = a * (p[:, :1] > 0)
    return p, a


CASES = (
    *("plain", "heavy", "outlier", "outlying p", "duplicated", "ties", "rare", "spike"),
    *("skewed", "no noise", "noise on one side"),
)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("method", "d_passive"), [*((method, 1) for method in ONE), ("fourier", 1), ("fourier", 4)]
)
def test_hard_data_give_moments_within_what_the_data_allow(case, method, d_passive):
    """Between rows and beyond them no mean leaves the range of a, and no variance its square.

    A basis function that no row determines has no bound on its error: without ceilings variances
    reach 1e18 times the column's here.
    """
    for n in (LEAST[method], 50, 600):
        rng = np.random.default_rng(n)
        p, a = hard_data(case, n, d_passive, rng)
        near = p.mean(0) + 2 * p.std(0) * rng.normal(size=(400, d_passive))
        places = np.concatenate([p, near, [[1e9] * d_passive, [-1e9] * d_passive]])
        moments = conditional_moments(p, a, method=method)
        mean, variance, log_variance = (
            np.asarray(function(places), np.float64)
            for function in (moments.mean, moments.variance, moments.log_variance)
        )
        total, width = a.var(0), np.ptp(a, axis=0)
        if method != "equal_width":
            assert (mean >= a.min(0) - 0.1 * width).all()
            assert (mean <= a.max(0) + 0.1 * width).all()
        assert (variance <= 3 * width**2 + 1e-7).all()
        assert (variance >= 0.99 * total / n).all()
        assert (np.log(variance) >= log_variance - 1e-3).all()


@pytest.mark.parametrize("method", METHODS)
def test_scales_and_shifts_of_the_data_go_through(method):
    p, a = smooth_law(600)
    grid = np.linspace(-1.5, 1.5, 9)[:, None]
    plain = conditional_moments(p, a, method=method)
    moved = conditional_moments(40.0 + 8.0 * p, 1e3 * a - 7.0, method=method)
    np.testing.assert_allclose(
        np.asarray(moved.mean(40.0 + 8.0 * grid)),
        1e3 * np.asarray(plain.mean(grid)) - 7.0,
        rtol=2e-2,
        atol=2.0,
    )
    np.testing.assert_allclose(
        np.asarray(moved.variance(40.0 + 8.0 * grid)),
        1e6 * np.asarray(plain.variance(grid)),
        rtol=2e-2,
    )


@pytest.mark.parametrize("method", ["equal_width", "local_linear", "spline", "fourier"])
def test_the_functions_are_jax_s(method, precision):
    p, a = smooth_law(500)
    moments = conditional_moments(p, np.hstack([a, -a]), method=method)
    row = jnp.asarray([0.3])
    assert moments.mean(row).shape == (2,)
    assert moments.variance(row).dtype == jnp.dtype(precision)
    jitted = jax.jit(jax.vmap(moments.variance))(jnp.asarray(p))
    np.testing.assert_allclose(jitted, moments.variance(p), rtol=1e-4)
    slope = jax.grad(lambda q: moments.mean(q)[0])(row)
    if method != "equal_width":
        near = [moments.mean(row + h)[0] for h in (-1e-2, 1e-2)]
        np.testing.assert_allclose(slope[0], (near[1] - near[0]) / 2e-2, rtol=0.05, atol=0.02)
    np.testing.assert_allclose(moments.mean(row)[1], -moments.mean(row)[0], atol=1e-4)


def test_trees_say_that_they_are_not():
    p, a = smooth_law(300)
    moments = conditional_moments(p, a, method="boosting")
    assert not moments.differentiable
    with pytest.raises(ValueError, match="outside JAX"):
        jax.jit(lambda q: moments.mean(q))(jnp.asarray(p))
    with pytest.raises(ValueError, match="boosting"):
        closed_form_coupling(moments)


def test_several_passive_coordinates():
    x, mean, log_variance = five_passive(0, 4000)
    moments = conditional_moments(x[:, :5], x[:, 5:])
    assert np.mean((np.asarray(moments.mean(x[:, :5]))[:, 0] - mean) ** 2) < 0.05
    assert np.mean((np.asarray(moments.log_variance(x[:, :5]))[:, 0] - log_variance) ** 2) < 0.3


def test_the_same_seed_gives_the_same_features():
    x, _, _ = five_passive(0, 300)
    at = [
        np.asarray(conditional_moments(x[:, :5], x[:, 5:], random_state=seed).mean(x[:9, :5]))
        for seed in (0, 0, 1)
    ]
    np.testing.assert_array_equal(at[0], at[1])
    assert np.abs(at[0] - at[2]).max() > 1e-6


@pytest.mark.parametrize("method", METHODS)
def test_too_few_rows_are_refused_with_the_number(method):
    p, a = smooth_law(LEAST[method] - 1)
    with pytest.raises(ValueError, match=f"at least {LEAST[method]} rows"):
        conditional_moments(p, a, method=method)


@pytest.mark.parametrize("method", ONE)
def test_methods_for_one_coordinate_say_so(method):
    x, _, _ = five_passive(0, 300)
    with pytest.raises(ValueError, match='"fourier" or "boosting"'):
        conditional_moments(x[:, :5], x[:, 5:], method=method)


def test_bad_data_are_named():
    p, a = smooth_law(50)
    a[3] = np.nan
    with pytest.raises(ValueError, match="in a; got nan in row 3|row 3"):
        conditional_moments(p, a)
    with pytest.raises(ValueError, match="same number of rows"):
        conditional_moments(p[:-1], np.nan_to_num(a))
    with pytest.raises(ValueError, match="method"):
        conditional_moments(p, np.nan_to_num(a), method="kernel")


def test_points_of_another_width_are_refused():
    p, a = smooth_law(300)
    for method in METHODS:
        moments = conditional_moments(p, a, method=method)
        for wrong in (np.zeros((3, 2)), 0.3, "a", ["a"]):
            with pytest.raises(ValueError, match=r"\(\.\.\., 1\)"):
                moments.mean(wrong)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_unknown_stays_so(method):
    moments = conditional_moments(*smooth_law(300), method=method)
    for part in (moments.mean, moments.variance):
        at = np.asarray(part(np.array([[0.3], [np.nan]])))
        assert np.isfinite(at[0]).all()
        assert np.isnan(at[1]).all()


def test_many_passive_coordinates_need_rows():
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="at least 124 rows"):
        conditional_moments(rng.normal(size=(123, 30)), rng.normal(size=(123, 1)))
