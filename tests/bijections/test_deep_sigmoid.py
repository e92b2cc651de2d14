"""The deep sigmoid against exact arithmetic, in both tails and across gaps."""

import jax
import jax.numpy as jnp
import jax.random as jr
import mpmath
import numpy as np
import pytest

from gauss_flows.bijections.deep_sigmoid import (
    DeepSigmoidCoupling,
    deep_sigmoid,
    deep_sigmoid_inverse,
)

EPS = {"float32": 2.0**-23, "float64": 2.0**-52}
forward = jax.jit(deep_sigmoid)
inverse = jax.jit(deep_sigmoid_inverse)


def random_sigmoids(n, n_components=6):
    keys = jr.split(jr.key(1), 4)
    shape = (n, n_components)
    spread = 10.0 ** jr.uniform(keys[0], (n, 1), minval=-1.0, maxval=1.5)
    log_weights = jax.nn.log_softmax(1.5 * jr.normal(keys[1], shape))
    return log_weights, spread * jr.normal(keys[2], shape), 1.5 * jr.normal(keys[3], shape)


def truth(x, log_weights, means, log_scales):
    """z and log dz/dx in 60 digits."""
    with mpmath.workdps(60):
        weights = [mpmath.exp(mpmath.mpf(float(v))) for v in log_weights]
        scales = [mpmath.exp(mpmath.mpf(float(v))) for v in log_scales]
        us = [
            (mpmath.mpf(float(x)) - mpmath.mpf(float(m))) / s
            for m, s in zip(means, scales, strict=True)
        ]
        below, above = ([1 / (1 + mpmath.exp(sign * u)) for u in us] for sign in (-1, 1))
        cdf = sum(w * b for w, b in zip(weights, below, strict=True))
        survival = sum(w * a for w, a in zip(weights, above, strict=True))
        terms = zip(weights, below, above, scales, strict=True)
        density = sum(w * b * a / s for w, b, a, s in terms)
        log_cdf, log_survival = mpmath.log(cdf), mpmath.log(survival)
        return float(log_cdf - log_survival), float(mpmath.log(density) - log_cdf - log_survival)


def test_forward_is_exact_in_both_tails(precision):
    sigmoids = random_sigmoids(120)
    x = 30.0 * jr.normal(jr.key(2), (120,))
    x = x.at[:4].set(jnp.array([-1e6, 1e6, -3e3, 3e3]))
    z, log_det = forward(x, *sigmoids)
    exact = np.array([truth(*row) for row in zip(x, *sigmoids, strict=True)])
    # u = (x − μ)/s is rounded once, and z changes no faster than the steepest sigmoid.
    steepest = np.exp(-np.min(sigmoids[2], axis=-1))
    size = np.maximum(1, np.abs(exact[:, 0])) + steepest * np.abs(sigmoids[1]).max(-1)
    assert np.all(np.abs(z - exact[:, 0]) <= 8 * EPS[precision] * size)
    bound = 32 * EPS[precision] * np.maximum(size, np.abs(exact[:, 1]))
    assert np.all(np.abs(log_det - exact[:, 1]) <= bound)


def test_one_sigmoid_is_affine(precision):
    one = jnp.zeros(1), jnp.array([0.5]), jnp.array([-1.0])
    x = jnp.array([-1e6, -3.0, 0.5, 2.0, 1e6])
    z, log_det = forward(x, *one)
    np.testing.assert_allclose(z, (x - 0.5) * np.e, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(log_det, 1.0, rtol=1e-6)
    np.testing.assert_allclose(inverse(z, *one), x, rtol=1e-6)


def test_inverse_finds_the_root(precision):
    sigmoids = random_sigmoids(3000)
    z = 3.0 * jr.normal(jr.key(3), (3000,))
    z = z.at[:200].multiply(100.0).at[:2].set(jnp.array([-1e6, 1e6]))
    x = inverse(z, *sigmoids)
    again, log_det = forward(x, *sigmoids)
    # One unit in the last place of x, and of the means it is measured from, through the slope.
    last_place = 2 * EPS[precision] * np.abs(x) * np.exp(np.asarray(log_det, np.float64))
    tolerance = {"float32": 5e-6, "float64": 1e-13}[precision]
    assert np.all(np.abs(again - z) <= np.maximum(tolerance * np.maximum(1, np.abs(z)), last_place))


def test_empty_gap_between_two_modes(precision):
    sigmoids = jnp.log(jnp.array([0.5, 0.5])), jnp.array([-1e3, 1e3]), jnp.array([-2.0, -2.0])
    x = jnp.array([-1e3, -999.0, 0.0, 999.0, 1e3])
    z, log_det = forward(x, *sigmoids)
    assert np.all(np.isfinite(log_det))
    assert np.all(np.diff(z) >= 0)
    z = jnp.array([-3.0, -1e-3, 0.0, 1e-3, 3.0])
    x = inverse(z, *sigmoids)
    assert np.all(np.isfinite(x))
    np.testing.assert_allclose(forward(x, *sigmoids)[0], z, atol=5e-4)
    gradient = jax.grad(lambda z: jnp.sum(deep_sigmoid_inverse(z, *sigmoids)))(z)
    assert np.all(np.isfinite(gradient))


def test_gradients_of_the_inverse_are_those_of_the_implicit_function(x64):
    sigmoids = random_sigmoids(20)
    z = 3.0 * jr.normal(jr.key(3), (20,))
    tangents = jax.tree.map(
        lambda leaf, key: jr.normal(key, leaf.shape), (z, *sigmoids), tuple(jr.split(jr.key(9), 4))
    )
    step = 1e-6
    _, exact = jax.jvp(deep_sigmoid_inverse, (z, *sigmoids), tangents)
    ahead, behind = (
        inverse(*(p + sign * step * t for p, t in zip((z, *sigmoids), tangents, strict=True)))
        for sign in (1, -1)
    )
    np.testing.assert_allclose((ahead - behind) / (2 * step), exact, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("n_components", [1, 2, 8])
def test_starts_near_the_identity_with_tails_of_unit_slope(n_components, precision):
    layer = DeepSigmoidCoupling(jr.key(0), n_dims=2, n_components=n_components)
    x = jnp.linspace(-3.0, 3.0, 25)
    z, log_det = jax.vmap(lambda x: layer.transform_and_log_det(jnp.array([0.0, x])))(x)
    np.testing.assert_allclose(z[:, 1], x, atol=0.5)
    for far in (-1e4, 1e4):
        z, log_det = layer.transform_and_log_det(jnp.array([0.0, far]))
        np.testing.assert_allclose(z[1], far, rtol=1e-3)
        np.testing.assert_allclose(log_det, 0, atol=1e-5)


def test_components_can_separate_from_the_start(x64):
    # Equal components would receive equal gradients, and the sum would stay one sigmoid for ever.
    layer = DeepSigmoidCoupling(jr.key(0), n_dims=2, n_components=8)
    head = layer._coupling.conditioner.layers[-1].bias

    def loss(bias):
        conditioner = lambda inputs: bias  # noqa: E731
        frozen = DeepSigmoidCoupling(jr.key(0), n_dims=2, n_components=8, conditioner=conditioner)
        z, log_det = frozen.transform_and_log_det(jnp.array([0.0, 0.7]))
        return 0.5 * jnp.sum(z**2) - log_det

    gradient = jax.grad(loss)(head).reshape(3, 8)
    for row in gradient:
        assert np.unique(np.round(row, 12)).size == 8


def test_failed_search_is_no_number():
    sigmoids = random_sigmoids(2)
    assert np.all(np.isnan(inverse(jnp.full(2, jnp.nan), *sigmoids)))


def test_faulty_number_of_components_is_refused():
    with pytest.raises(ValueError, match="n_components >= 1; got 0"):
        DeepSigmoidCoupling(jr.key(0), n_dims=2, n_components=0)
