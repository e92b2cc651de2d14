"""Densities integrate to one, samples have that density, and one layer is its mixture."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import AbstractBijection

import gauss_flows as gf
from bijections.registry import randomised
from numerics import mixture_reference as reference

SMALL_NETWORK = {"nn_width": 6, "nn_depth": 1}
FACTORIES = {
    "gaussianization_flow": {"n_components": 3},
    "coupling_gaussianization_flow": {"n_bins": 4, **SMALL_NETWORK},
    "mixture_coupling_flow": {"n_components": 3, **SMALL_NETWORK},
    "affine_coupling_flow": SMALL_NETWORK,
}
TOLERANCE = {"float32": 5e-6, "float64": 1e-12}


@eqx.filter_jit
def integral_and_moments(flow, condition, half_width=16.0, n=401):
    """∫p, ∫xp and ∫xxᵀp over the plane by the trapezoidal rule."""
    axis = jnp.linspace(-half_width, half_width, n)
    grid = jnp.stack(jnp.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    p = jnp.exp(jax.vmap(flow.log_prob, (0, None))(grid, condition)) * (axis[1] - axis[0]) ** 2
    return jnp.sum(p), p @ grid, (grid.T * p) @ grid


def check_density(flow, condition=None):
    """It integrates to one, and samples have its mean and covariance to within their error."""
    total, mean, second = integral_and_moments(flow, condition)
    np.testing.assert_allclose(total, 1, atol=2e-4)
    n_samples = 5000
    samples = np.asarray(eqx.filter_jit(flow.sample)(jr.key(5), (n_samples,), condition))
    for exact, values in (
        (mean, samples),
        (second, samples[:, :, None] * samples[:, None, :]),
    ):
        error = values.std(axis=0) / np.sqrt(n_samples)
        assert np.all(np.abs(values.mean(axis=0) - exact) <= 5 * error)


@pytest.mark.parametrize("name", FACTORIES)
def test_density(x64, name):
    flow = getattr(gf, name)(jr.key(0), n_dims=2, n_layers=2, **FACTORIES[name])
    check_density(randomised(flow, 3, 0.04))


@pytest.mark.parametrize("name", ["gaussianization_flow", "affine_coupling_flow"])
def test_conditional_density(x64, name):
    options = {**FACTORIES[name], **SMALL_NETWORK, "cond_dim": 2}
    flow = getattr(gf, name)(jr.key(0), n_dims=2, n_layers=2, **options)
    check_density(randomised(flow, 3, 0.04), jnp.asarray([0.5, -1.0]))


class WrongSign(AbstractBijection):
    """A layer whose log-determinant has the other sign."""

    layer: gf.ActNorm
    shape: ClassVar[tuple[int, ...]] = (2,)
    cond_shape: ClassVar[None] = None

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return z, -log_det

    def inverse_and_log_det(self, y, condition=None):
        x, log_det = self.layer.inverse_and_log_det(y)
        return x, -log_det


def test_a_wrong_density_is_rejected(x64):
    good = randomised(gf.ActNorm(2))
    check_density(gf.flow_from_blocks([[good]]))
    with pytest.raises(AssertionError):
        check_density(gf.flow_from_blocks([[WrongSign(good)]]))


@pytest.mark.parametrize("family", ["gaussian", "logistic"])
def test_one_layer_is_the_mixture(precision, family):
    layers = {"gaussian": gf.MixtureGaussianCDF, "logistic": gf.MixtureLogisticCDF}
    log_weights = np.log([[0.2, 0.7, 0.1]])
    means, log_scales = np.array([[-1.5, 0.3, 2.0]]), np.log([[0.4, 1.0, 1.7]])
    given = (jnp.asarray(p, precision) for p in (log_weights, means, log_scales))
    layer = layers[family].from_mixture(*given)
    flow = gf.flow_from_blocks([[layer]])
    # Up to 40 of the widest scale out, on either side.
    x = jnp.asarray(np.r_[np.linspace(-68, 68, 61), np.linspace(-3, 4, 30)], precision)[:, None]

    @eqx.filter_jit
    @eqx.filter_vmap(in_axes=(None, 0))
    def everything(flow, x):
        z = flow.bijection.inverse(x)
        slope = jax.jacfwd(flow.bijection.inverse)(x)[0, 0]
        _, log_det = flow.bijection.inverse_and_log_det(x)
        return flow.log_prob(x), z[0], slope, log_det, flow.bijection.transform(z)[0]

    found = [np.asarray(v, float) for v in everything(flow, x)]
    log_prob, z, slope, log_det, x_back = found
    mixture = [np.asarray(p[0]) for p in layer.mixture]
    exact = [reference.evaluate(family, point, *mixture) for point in np.asarray(x)[:, 0]]
    wanted = {name: np.array([float(e[name]) for e in exact]) for name in exact[0]}
    tolerance = TOLERANCE[precision]
    size = np.maximum(1, wanted["z"] ** 2)
    # log_prob adds log_det and log φ(z), which may both be larger than itself.
    assert np.all(np.abs(log_prob - wanted["log_density"]) <= tolerance * size)
    # That alone cannot see a clip: log φ(z) cancels. These can.
    assert np.all(np.abs(z - wanted["z"]) <= tolerance * np.maximum(0.3, np.abs(wanted["z"])))
    assert np.all(np.abs(log_det - wanted["log_det"]) <= tolerance * size)
    assert np.all(np.abs(np.log(slope) - wanted["log_det"]) <= tolerance * size)
    points = np.asarray(x, float)[:, 0]
    assert np.all(np.abs(x_back - points) <= 8 * tolerance * np.maximum(1, np.abs(points)))
