"""The two spline layers; the curve itself is tested with the numerics."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from coupling_checks import check_gradients, check_layer, check_outliers, randomise
from gauss_flows.bijections.spline import RQSplineMarginal
from gauss_flows.bijections.spline_coupling import RQSplineCoupling


def points(n_dims):
    return 2.0 * jr.normal(jr.key(7), (60, n_dims))


@pytest.mark.parametrize("n_dims", [1, 3])
def test_marginal_layer(n_dims, precision):
    layer = randomise(RQSplineMarginal(n_dims, n_bins=5, interval=2.5), jr.key(1))
    check_layer(layer, points(n_dims))


def test_marginal_gradients_and_outliers(precision):
    layer = randomise(RQSplineMarginal(2), jr.key(1))
    check_gradients(layer, points(2))
    check_outliers(layer)


def test_marginal_treats_each_coordinate_alone():
    layer = randomise(RQSplineMarginal(3), jr.key(1))
    jacobian = jax.jit(jax.jacfwd(layer.transform))(points(3)[0])
    np.testing.assert_array_equal(np.asarray(jacobian) != 0, np.eye(3, dtype=bool))


@pytest.mark.parametrize("conditioned", [False, True])
def test_starts_as_the_identity(conditioned, precision):
    layer = RQSplineCoupling(jr.key(0), n_dims=2) if conditioned else RQSplineMarginal(2)
    x = jnp.concatenate([points(2), jnp.array([[1e6, -1e6], [3.0, -3.0]])])
    z, log_det = jax.jit(jax.vmap(layer.transform_and_log_det))(x)
    last_place = 4 * np.finfo(precision).eps
    np.testing.assert_allclose(z, x, rtol=last_place, atol=last_place)
    np.testing.assert_allclose(log_det, 0, atol=4 * last_place)


def test_tails_go_on_with_the_slope_of_the_last_knot(x64):
    layer = randomise(RQSplineMarginal(1, interval=2.0), jr.key(1))
    slope = jax.jit(jax.grad(lambda x: layer.transform(x[None])[0]))
    for edge in (-2.0, 2.0):
        beyond = 3.0 * edge
        assert layer.transform(jnp.array([edge]))[0] == edge
        inside = slope(jnp.array(edge * (1 - 1e-9)))
        np.testing.assert_allclose(slope(jnp.array(beyond)), inside, rtol=1e-5)
        tail = edge + slope(jnp.array(beyond)) * (beyond - edge)
        np.testing.assert_allclose(layer.transform(jnp.array([beyond]))[0], tail, rtol=1e-12)


def test_inner_knots_are_counted_as_in_flowjax():
    layer = RQSplineCoupling(jr.key(0), n_dims=3, n_bins=8)
    assert layer._coupling.n_params == 9 + 9 + 10
    assert RQSplineMarginal(3, n_bins=8).raw.shape == (3, 28)


def test_learns_a_density_with_two_modes(x64):
    # The flow of one layer can meet any smooth marginal: its likelihood nears the entropy.
    mixture = jnp.where(jr.bernoulli(jr.key(2), shape=(2000, 1)), 1.2, -1.2)
    x = mixture + 0.3 * jr.normal(jr.key(3), mixture.shape)
    density = jnp.logaddexp(-0.5 * ((x - 1.2) / 0.3) ** 2, -0.5 * ((x + 1.2) / 0.3) ** 2)
    best = jnp.mean(density) - jnp.log(2 * 0.3 * jnp.sqrt(2 * jnp.pi))

    @jax.jit
    def mean_log_prob(layer):
        z, log_det = jax.vmap(layer.transform_and_log_det)(x)
        return jnp.mean(log_det - 0.5 * jnp.sum(z**2, axis=1) - 0.5 * jnp.log(2 * jnp.pi))

    optimizer = optax.adam(0.03)

    @jax.jit
    def ascend(layer):
        def step(carry, _):
            layer, state = carry
            gradient = jax.grad(lambda layer: -mean_log_prob(layer))(layer)
            updates, state = optimizer.update(gradient, state)
            return (optax.apply_updates(layer, updates), state), None

        return jax.lax.scan(step, (layer, optimizer.init(layer)), length=200)[0][0]

    start = RQSplineMarginal(1)
    after = mean_log_prob(ascend(start))
    assert after > mean_log_prob(start) + 0.3
    assert best - 0.02 < after < best + 0.02


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_bins": 0}, "n_bins >= 1; got 0"),
        ({"interval": 0.0}, "positive, finite interval; got 0.0"),
        ({"interval": float("inf")}, "positive, finite interval; got inf"),
        ({"interval": float("nan")}, "positive, finite interval; got nan"),
        ({"n_dims": 0}, "n_dims >= 1; got 0"),
    ],
)
def test_faulty_settings_are_refused(settings, message):
    settings = {"n_dims": 2, **settings}
    with pytest.raises(ValueError, match=message):
        RQSplineMarginal(**settings)
    with pytest.raises(ValueError, match=message):
        RQSplineCoupling(jr.key(0), **settings)
