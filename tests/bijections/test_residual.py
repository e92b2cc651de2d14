"""The residual coupling: bound, inverse and its gradients, for any parameters."""

import logging

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from jax.flatten_util import ravel_pytree

from gauss_flows.bijections.residual import ResidualCoupling, _newton_in_bracket, _Units


def make(scale=1.0, **settings):
    """A layer whose conditioner's parameters are random, of the given size."""
    settings = {"n_dims": 3, "n_units": 5, "nn_width": 8, "nn_depth": 1, **settings}
    params, static = eqx.partition(ResidualCoupling(jr.key(0), **settings), eqx.is_inexact_array)
    flat, unravel = ravel_pytree(params)
    return eqx.combine(unravel(scale * jr.normal(jr.key(1), flat.shape)), static)


def rows(n_rows=50, n_dims=3, scale=1.5):
    return scale * jr.normal(jr.key(2), (n_rows, n_dims))


@eqx.filter_jit
def there_and_back(layer, x, condition=None):
    """Z, log_det, x again and the inverse's log_det, for rows of x."""

    def one(x):
        z, log_det = layer.transform_and_log_det(x, condition)
        return z, log_det, *layer.inverse_and_log_det(z, condition)

    return jax.vmap(one)(x)


@eqx.filter_jit
def jacobians(layer, x, z, condition=None):
    forward = jax.vmap(jax.jacfwd(lambda x: layer.transform(x, condition)))(x)
    return forward, jax.vmap(jax.jacrev(lambda z: layer.inverse(z, condition)))(z)


def test_starts_as_the_identity_with_units_that_learn_apart():
    layer = ResidualCoupling(jr.key(0), n_dims=2, n_units=4)
    x = jnp.array([0.3, -1.2])
    z, log_det = layer.transform_and_log_det(x)
    np.testing.assert_array_equal(z, x)
    assert log_det == 0
    gradient = eqx.filter_jit(eqx.filter_grad(lambda layer: layer.transform(x)[1]))(layer)
    by_unit = np.asarray(gradient._coupling.conditioner.layers[-1].bias[:4])
    assert len(set(by_unit.tolist())) == 4
    assert np.all(by_unit != 0)


@pytest.mark.parametrize(
    ("n_dims", "mask", "cond_dim"),
    [(2, None, None), (3, (False, True, False), None), (5, None, 2), (1, None, 1)],
)
def test_log_det_and_round_trip(n_dims, mask, cond_dim, precision):
    layer = make(n_dims=n_dims, mask=mask, cond_dim=cond_dim)
    condition = None if cond_dim is None else jnp.linspace(-1.0, 0.5, cond_dim)
    x = rows(n_dims=n_dims)
    z, log_det, back, inverse_log_det = there_and_back(layer, x, condition)
    eps = float(jnp.finfo(precision).eps)
    assert z.dtype == log_det.dtype == back.dtype == precision
    assert np.max(np.abs(z - x)) > 0.1
    # The way back stretches rounding by at most 1/(1 − c) = 10.
    np.testing.assert_allclose(back, x, atol=100 * eps * np.max(np.abs(z)))
    np.testing.assert_allclose(inverse_log_det, -log_det, atol=1000 * eps)
    forward, backward = jacobians(layer, x, z, condition)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(forward)[1], atol=200 * eps)
    np.testing.assert_allclose(inverse_log_det, np.linalg.slogdet(backward)[1], atol=2000 * eps)


@pytest.mark.parametrize(
    ("scale", "max_lipschitz"), [(3.0, 0.1), (3.0, 0.999), (1e2, 0.9), (1e6, 0.9), (1e6, 0.999)]
)
def test_bound_and_inverse_hold_for_any_parameters(scale, max_lipschitz, precision):
    layer = make(scale, max_lipschitz=max_lipschitz, n_dims=6)
    eps = float(jnp.finfo(precision).eps)
    for size in (1.0, 1e4):
        x = rows(200, 6, size)
        z, log_det, back, _ = there_and_back(layer, x)
        forward, _ = jacobians(layer, back, z)
        slopes = np.diagonal(forward, axis1=1, axis2=2)[:, 3:]
        assert np.all(slopes >= 1 - max_lipschitz - 8 * eps)
        assert np.all(slopes <= 1 + max_lipschitz + 8 * eps)
        assert np.all(np.isfinite(log_det))
        # Both ways evaluate the conditioner, whose large outputs round: that moves the centres,
        # which shows where a unit is not flat.
        raw = np.abs(jax.vmap(layer._coupling.parameters)(x[:, :3])).max(axis=2)
        room = 8 * eps * (20 + np.abs(x[:, 3:]) + np.where(slopes == 1, 0, raw))
        assert np.all(np.abs(back - x)[:, 3:] <= room / (1 - max_lipschitz))
        np.testing.assert_array_equal(back[:, :3], x[:, :3])


def test_worst_case_slopes_are_reached_and_inverted():
    # All units alike, falling, and steep: the slope is 1 − c at the centre.
    ones = jnp.ones((1, 8))
    units = _Units(slopes=-0.9 / 8 * ones, rates=20 * ones, centres=0.3 * ones)
    z = jnp.linspace(-1, 1, 1001)[:, None]
    x = jax.vmap(lambda z: _newton_in_bracket(0.9, z, units))(z)
    np.testing.assert_allclose(x - 0.9 / 20 * jnp.tanh(20 * (x - 0.3)), z, atol=1e-6)


def test_what_is_not_solved_is_nan():
    # Slopes beyond the bound make the map fold: some targets are hit thrice, and the search, which
    # relies on the bound, must find one of these or say that it has failed.
    ones = jnp.ones((1, 2))
    units = _Units(slopes=-4 * ones, rates=3 * ones, centres=0.1 * ones)
    z = jnp.linspace(-3, 3, 301)[:, None]
    x = jax.vmap(lambda z: _newton_in_bracket(0.9, z, units))(z)
    residual = np.asarray(x - 8 / 3 * jnp.tanh(3 * (x - 0.1)) - z)
    assert np.all(np.isnan(residual) | (np.abs(residual) < 1e-5))
    layer = make()
    for value in (np.nan, np.inf, -np.inf):
        assert np.isnan(layer.inverse(jnp.array([0.1, 0.2, value]))[2])


@pytest.mark.parametrize("cond_dim", [None, 2])
def test_gradient_of_the_inverse_matches_finite_differences(cond_dim, x64):
    layer = make(0.5, cond_dim=cond_dim)
    params, static = eqx.partition(layer, eqx.is_inexact_array)
    z = jnp.array([0.4, -0.8, 1.1])
    condition = None if cond_dim is None else jnp.array([0.2, -0.6])
    flat, unravel = ravel_pytree((params, z, condition))
    weights = jnp.array([0.3, 1.0, -2.0])

    @jax.jit
    def value(flat):
        params, z, condition = unravel(flat)
        x, log_det = eqx.combine(params, static).inverse_and_log_det(z, condition)
        return weights @ x + log_det

    step = 1e-5
    shifts = step * jnp.eye(flat.size)
    expected = (jax.vmap(value)(flat + shifts) - jax.vmap(value)(flat - shifts)) / (2 * step)
    slope = jax.jit(jax.grad(value))
    gradient = slope(flat)
    np.testing.assert_allclose(gradient, expected, atol=1e-8)
    assert np.mean(np.asarray(gradient) != 0) > 0.9
    curvature = (jax.vmap(slope)(flat + shifts[-3:]) - jax.vmap(slope)(flat - shifts[-3:])) / (
        2 * step
    )
    np.testing.assert_allclose(jax.jit(jax.hessian(value))(flat)[-3:], curvature, atol=1e-7)


def test_second_eager_call_does_not_compile(caplog):
    layer, z = make(), rows()
    other = z + 1
    jax.vmap(layer.inverse)(z)
    layer.inverse(z[0])
    jax.block_until_ready(other[0])
    with jax.log_compiles(), caplog.at_level(logging.WARNING):
        jax.vmap(layer.inverse)(other)
        layer.inverse(other[0])
    assert not [record for record in caplog.records if "Compiling" in record.message]


def test_training_moves_it_and_keeps_it_invertible():
    x = jnp.asarray(np.random.default_rng(0).standard_normal((400, 2)))
    x = x.at[:, 1].set(x[:, 0] ** 2 + 0.5 * x[:, 1])
    layer = ResidualCoupling(jr.key(0), n_dims=2, nn_width=16, nn_depth=1)
    params, static = eqx.partition(layer, eqx.is_inexact_array)
    optimiser = optax.adam(3e-2)

    @jax.jit
    def step(params, state):
        def loss(params):
            z, log_det = jax.vmap(eqx.combine(params, static).transform_and_log_det)(x)
            return jnp.mean(0.5 * jnp.sum(z**2, axis=1) - log_det)

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(params, updates), state, value

    state = optimiser.init(params)
    losses = []
    for _ in range(200):
        params, state, value = step(params, state)
        losses.append(float(value))
    assert losses[-1] < losses[0] - 0.3
    trained = eqx.combine(params, static)
    _, _, back, _ = there_and_back(trained, x)
    np.testing.assert_allclose(back, x, atol=1e-5)


def test_layers_stack_and_scan():
    layers = [make(scale) for scale in (0.5, 1.0, 2.0)]
    arrays, static = zip(*(eqx.partition(layer, eqx.is_array) for layer in layers), strict=True)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *arrays)
    x = jnp.array([0.5, -1.0, 2.0])
    z, _ = jax.lax.scan(
        lambda state, layer: (eqx.combine(layer, static[0]).transform(state), None), x, stacked
    )
    expected = x
    for layer in layers:
        expected = layer.transform(expected)
    np.testing.assert_allclose(z, expected, atol=1e-5)


def test_other_float_types_are_promoted(x64):
    z = jnp.array([0.5, -1.0, 2.0])
    back = make().inverse(z.astype(jnp.float32))
    np.testing.assert_allclose(back, make().inverse(z), atol=1e-12)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_units": 0}, "n_units >= 1; got 0"),
        ({"max_lipschitz": 1.0}, "0 < max_lipschitz <= 0.999; got 1.0"),
        ({"max_lipschitz": 0.0}, "got 0.0"),
        ({"max_lipschitz": float("nan")}, "got nan"),
        ({"mask": (True, True, True)}, "all True"),
        ({"n_dims": 1}, "without a condition"),
        ({"conditioner": eqx.nn.Linear(1, 7, key=jr.key(0))}, r"2 transformed .* of 15 parameters"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        make(**settings)
