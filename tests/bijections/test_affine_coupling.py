"""The affine coupling against its closed form."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from coupling_checks import randomise
from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.conditioners import with_constant_output


def with_shift_and_log_scale(shift, log_scale, **settings):
    layer = AffineCoupling(jr.key(0), n_dims=2, **settings)
    conditioner = with_constant_output(layer._coupling.conditioner, [[shift, log_scale]])
    return eqx.tree_at(lambda tree: tree._coupling.conditioner, layer, conditioner)


def test_closed_form(precision):
    layer = with_shift_and_log_scale(0.7, 3.0, max_log_scale=4.0)
    log_scale = 4.0 * np.tanh(3.0 / 4.0)
    x = jnp.array([1.5, -2.0])
    z, log_det = layer.transform_and_log_det(x)
    np.testing.assert_allclose(z, [1.5, (-2.0 - 0.7) * np.exp(-log_scale)], rtol=1e-6)
    np.testing.assert_allclose(log_det, -log_scale, rtol=1e-6)
    back, log_det_back = layer.inverse_and_log_det(z)
    np.testing.assert_allclose(back, x, rtol=1e-6)
    np.testing.assert_allclose(log_det_back, log_scale, rtol=1e-6)


def test_zero_head_is_exactly_the_identity(precision):
    layer = AffineCoupling(jr.key(0), n_dims=3)
    x = jnp.array([0.3, -1e6, 17.1])
    for z, log_det in (layer.transform_and_log_det(x), layer.inverse_and_log_det(x)):
        np.testing.assert_array_equal(z, x)
        assert log_det == 0


@pytest.mark.parametrize("extreme", [-1e30, 1e30])
def test_log_scale_is_bounded(extreme, precision):
    layer = with_shift_and_log_scale(0.0, extreme, max_log_scale=2.5)
    for direction in (layer.transform_and_log_det, layer.inverse_and_log_det):
        value, log_det = direction(jnp.ones(2))
        assert np.all(np.isfinite(value))
        np.testing.assert_allclose(abs(log_det), 2.5, rtol=1e-6)
        gradient = jax.grad(lambda x, f=direction: jnp.sum(f(x)[0]))(jnp.ones(2))
        assert np.all(np.isfinite(gradient))


def test_far_passive_outlier_moves_others_by_a_bounded_amount():
    layer = randomise(AffineCoupling(jr.key(0), n_dims=2), jr.key(1))
    farther, farthest = (layer.transform(jnp.array([far, 1.0]))[1] for far in (1e6, 1e30))
    np.testing.assert_allclose(farther, farthest, rtol=1e-6)


@pytest.mark.parametrize("bound", [0.0, -1.0, float("inf"), float("nan")])
def test_faulty_bound_is_refused(bound):
    with pytest.raises(ValueError, match=f"positive, finite max_log_scale; got {bound}"):
        AffineCoupling(jr.key(0), n_dims=2, max_log_scale=bound)
