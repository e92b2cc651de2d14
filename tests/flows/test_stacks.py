"""Deep stacks far from the data: no clip makes an outlier look likely."""

import functools

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import gauss_flows as gf

RADII = (5.0, 8.0, 20.0)
N_ANGLES = 24
LOG_DET = {"float32": 2e-5, "float64": 1e-10}


@functools.cache
def fitted(name, precision):
    """Four blocks fitted to N(0, I₂)."""
    x = jr.normal(jr.key(0), (3000, 2), precision)
    if name == "fit_rbig":
        return gf.fit_rbig(x, n_layers=4, n_components=8, random_state=0)
    return gf.fit_rbig_coupling(x, jr.key(1), n_layers=4, n_components=8, random_state=0)


def circles(precision):
    angles = np.linspace(0, 2 * np.pi, N_ANGLES, endpoint=False) + 0.1
    unit = np.stack([np.cos(angles), np.sin(angles)], axis=-1)
    return jnp.asarray([radius * unit for radius in RADII], precision)


@eqx.filter_jit
def probe(flow, x):
    def at(point):
        def pushed(point):
            z, log_det = flow.bijection.inverse_and_log_det(point)
            return z, (z, log_det)

        jacobian, (z, log_det) = jax.jacfwd(pushed, has_aux=True)(point)
        log_prob, gradient = jax.value_and_grad(flow.log_prob)(point)
        return z, log_det, jacobian, log_prob, gradient, flow.bijection.transform(z)

    return jax.vmap(jax.vmap(at))(x)


def check_far_from_the_data(flow, x):
    """log_det is the Jacobian's; log_prob is finite and falls outwards."""
    precision = x.dtype.name
    z, log_det, jacobian, log_prob, gradient, x_back = (
        np.asarray(v, float) for v in probe(flow, x)
    )
    for values in (z, log_det, log_prob, gradient, x_back):
        assert np.all(np.isfinite(values))
    _, expected = np.linalg.slogdet(jacobian)
    assert np.all(np.isfinite(expected))
    assert np.all(
        np.abs(log_det - expected) <= LOG_DET[precision] * np.maximum(1, np.abs(expected))
    )
    assert np.all(np.diff(log_prob, axis=0) < 0)
    outwards = np.sum(gradient * np.asarray(x, float), axis=-1)
    assert np.all(outwards < 0)
    sizes = np.asarray(RADII)[:, None, None]
    assert np.all(np.abs(x_back - x) <= (1e-4 if precision == "float32" else 1e-11) * sizes)
    return log_prob


def test_circles(precision):
    x = circles(precision)
    log_prob = check_far_from_the_data(fitted("fit_rbig", precision), x)
    # No outlier is made likely: beside the truth, never above it by more than a fit's error.
    truth = -0.5 * np.asarray(RADII) ** 2 - np.log(2 * np.pi)
    assert np.all(log_prob < truth[:, None] + 5)


def test_circles_of_couplings(precision):
    check_far_from_the_data(fitted("fit_rbig_coupling", precision), circles(precision))


@pytest.mark.parametrize("far", [1e3, 1e6])
def test_one_outlier_does_not_poison_a_batch(far):
    flow = fitted("fit_rbig", "float32")
    rows = jr.normal(jr.key(3), (20, 2))

    @eqx.filter_jit
    def value_and_gradient(flow, x, weights):
        @eqx.filter_value_and_grad
        def loss(flow):
            return -jnp.sum(weights * jax.vmap(flow.log_prob)(x))

        return loss(flow)

    x, ones = jnp.concatenate([rows, jnp.asarray([[far, -far]])]), jnp.ones(21)
    value, gradient = value_and_gradient(flow, x, ones)
    assert np.isfinite(value)
    assert all(np.all(np.isfinite(leaf)) for leaf in jax.tree.leaves(gradient))
    # Weighing nothing it changes nothing: any infinity in it would show as NaN.
    weightless = value_and_gradient(flow, x, ones.at[-1].set(0))
    without = value_and_gradient(flow, x.at[-1].set(0), ones.at[-1].set(0))
    for found, expected in zip(*map(jax.tree.leaves, (weightless, without)), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


class Clipped(gf.MixtureGaussianCDF):
    """The public layers' fault: z is kept where Φ can still be told from 1."""

    def transform_and_log_det(self, x, condition=None):
        z, log_det = super().transform_and_log_det(x)
        return jnp.clip(z, -5.2, 5.2), log_det


def test_a_clip_is_rejected():
    blocks = [[gf.HouseholderRotation(2, key=key), Clipped(2, 3)] for key in jr.split(jr.key(0), 4)]
    with pytest.raises(AssertionError):
        check_far_from_the_data(gf.flow_from_blocks(blocks), circles("float32"))


def test_a_float32_chain_stays_so_where_64_bits_are_on():
    """In 64-bit mode flowjax sums a block's log-determinants in float64."""
    with jax.enable_x64(False):
        flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=2)
        x = jr.normal(jr.key(1), (5, 2))
        expected = jax.vmap(flow.bijection.inverse_and_log_det)(x)
    with jax.enable_x64(True):
        z, log_det = jax.vmap(flow.bijection.inverse_and_log_det)(x)
        back = jax.vmap(flow.bijection.transform)(z)
    assert z.dtype == log_det.dtype == back.dtype == jnp.float32
    np.testing.assert_allclose(z, expected[0], rtol=1e-6)
    np.testing.assert_allclose(log_det, expected[1], rtol=1e-5, atol=1e-6)
