"""From raw parameters to mixtures and back, and what zero stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import logsumexp

from gauss_flows.bijections.mixture_parameters import pack, unpack
from gauss_flows.numerics import gaussian_mixture

SIZES = [1, 2, 3, 8, 13, 32]


@pytest.mark.parametrize("n_components", SIZES)
def test_zero_is_near_the_identity_with_an_outer_slope_of_one(n_components):
    mixture = unpack(jnp.zeros((3, n_components)))
    x = jnp.linspace(-4, 4, 201)
    run = jax.jit(jax.vmap(gaussian_mixture.gaussianize, (0, None, None, None)))
    z, log_det = run(x, *mixture)
    assert np.max(np.abs(z - x)[np.abs(x) < 2]) < 0.25
    assert np.max(np.abs(z - x)) < 0.5
    assert np.max(np.abs(log_det)) < 0.5
    far = jnp.asarray([-1e6, -1e3, 1e3, 1e6])
    z, log_det = run(far, *mixture)
    np.testing.assert_allclose(z, far, rtol=2e-3)
    np.testing.assert_allclose(log_det, 0, atol=2e-3)


def test_one_component_is_the_identity():
    z, log_det = gaussian_mixture.gaussianize(jnp.asarray(1.25), *unpack(jnp.zeros((3, 1))))
    np.testing.assert_allclose((z, log_det), (1.25, 0), atol=1e-6)


@pytest.mark.parametrize("n_components", [2, 3, 8])
def test_components_receive_different_gradients(x64, n_components):
    # Equal ones would never separate, however long the training.
    x = jnp.linspace(-2, 3, 50)

    def loss(raw):
        z, log_det = jax.vmap(gaussian_mixture.gaussianize, (0, None, None, None))(x, *unpack(raw))
        return jnp.mean(0.5 * z**2 - log_det)

    gradient = np.asarray(jax.jit(jax.grad(loss))(jnp.zeros((3, n_components))))
    for row in gradient:
        distances = np.abs(row[:, None] - row)[~np.eye(n_components, dtype=bool)]
        assert distances.min() > 1e-8 * np.abs(row).max()
    assert np.any(gradient != 0)


@pytest.mark.parametrize("n_components", SIZES)
def test_pack_inverts_unpack(precision, n_components):
    rng = np.random.default_rng(n_components)
    logits, means, log_scales = rng.normal(size=(3, 4, 2, n_components)) * [
        [[[1]]],
        [[[50]]],
        [[[5]]],
    ]
    wanted = [
        jax.nn.log_softmax(jnp.asarray(logits, precision)),
        jnp.asarray(means, precision),
        jnp.asarray(log_scales, precision),
    ]
    raw = pack(*wanted)
    assert raw.shape == (4, 2, 3, n_components)
    mixture = unpack(raw)
    eps = np.finfo(precision).eps
    for found, value in zip(mixture, wanted, strict=True):
        assert found.dtype == value.dtype == raw.dtype
        np.testing.assert_allclose(found, value, rtol=8 * eps, atol=16 * eps)
    np.testing.assert_allclose(logsumexp(mixture.log_weights, axis=-1), 0, atol=8 * eps)


def test_raw_parameters_of_any_size_give_a_mixture():
    raw = 30 * jax.random.normal(jax.random.key(0), (5, 3, 4))
    log_weights, means, log_scales = unpack(raw)
    assert np.all(np.isfinite([log_weights, means, log_scales]))
    np.testing.assert_allclose(logsumexp(log_weights, axis=-1), 0, atol=1e-4)
