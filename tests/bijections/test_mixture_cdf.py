"""The diagonal mixture layers: each coordinate through its own mixture, and no other's."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from gauss_flows import MixtureGaussianCDF, MixtureLogisticCDF
from gauss_flows.numerics import gaussian_mixture, logistic_mixture
from numerics import mixture_reference as reference

LAYERS = {
    "gaussian": (MixtureGaussianCDF, gaussian_mixture),
    "logistic": (MixtureLogisticCDF, logistic_mixture),
}


@pytest.fixture(params=LAYERS)
def family(request):
    return request.param


def mixtures(n_dims=3, n_components=4):
    logits, means, log_scales = jr.normal(jr.key(0), (3, n_dims, n_components))
    return jax.nn.log_softmax(logits), 2 * means, 0.5 * log_scales


def test_from_mixture_holds_the_mixture(family, precision):
    given = [jnp.asarray(p, precision) for p in mixtures()]
    layer = LAYERS[family][0].from_mixture(*given)
    assert layer.shape == (3,)
    assert layer.raw.shape == (3, 3, 4)
    eps = np.finfo(precision).eps
    for found, value in zip(layer.mixture, given, strict=True):
        assert found.dtype == value.dtype
        np.testing.assert_allclose(found, value, rtol=0, atol=32 * eps)


def test_z_and_log_det_are_the_mixtures(family, x64):
    layer = LAYERS[family][0].from_mixture(*mixtures())
    x = jnp.asarray([0.4, -7.0, 30.0])
    z, log_det = layer.transform_and_log_det(x)
    exact = [
        reference.evaluate(family, x[i], *(p[i] for p in layer.mixture)) for i in range(len(x))
    ]
    np.testing.assert_allclose(z, [float(e["z"]) for e in exact], rtol=1e-12)
    total = float(sum(e["log_det"] for e in exact))
    np.testing.assert_allclose(log_det, total, rtol=1e-12, atol=1e-12 * np.max(z**2))
    assert log_det.shape == ()
    x_back, log_det_back = layer.inverse_and_log_det(z)
    np.testing.assert_allclose(x_back, x, rtol=1e-12)
    np.testing.assert_allclose(log_det_back, -total, atol=1e-12 * np.max(z**2))


def test_coordinates_do_not_meet(family):
    layer = LAYERS[family][0].from_mixture(*mixtures())
    jacobian = np.asarray(jax.jacfwd(layer.transform)(jnp.asarray([0.4, -1.0, 2.0])))
    assert np.all(jacobian[~np.eye(3, dtype=bool)] == 0)
    assert np.all(np.diagonal(jacobian) > 0)


def test_starts_near_the_identity(family):
    layer = LAYERS[family][0](n_dims=2)
    assert layer.raw.shape == (2, 3, 8)
    assert not np.any(layer.raw)
    x = jnp.linspace(-2, 2, 41)[:, None] * jnp.ones(2)
    z = jax.vmap(layer.transform)(x)
    assert np.max(np.abs(z - x)) < (0.2 if family == "gaussian" else 0.35)


def test_one_dimension(family):
    layer = LAYERS[family][0](n_dims=1, n_components=1)
    x = jnp.asarray([1.3])
    np.testing.assert_allclose(layer.inverse(layer.transform(x)), x, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_dims": 0}, "Expected n_dims >= 1; got 0."),
        ({"n_dims": 2, "n_components": 0}, "Expected n_components >= 1; got 0."),
    ],
)
def test_sizes_below_one_are_refused(family, arguments, message):
    with pytest.raises(ValueError, match=message):
        LAYERS[family][0](**arguments)


def test_arrays_of_other_shapes_are_refused(family):
    layer = LAYERS[family][0]
    with pytest.raises(ValueError, match="Expected three arrays of one shape"):
        layer.from_mixture(jnp.zeros((2, 3)), jnp.zeros((2, 3)), jnp.zeros((2, 4)))
    with pytest.raises(ValueError, match="Expected three arrays of one shape"):
        layer.from_mixture(jnp.zeros(3), jnp.zeros(3), jnp.zeros(3))
