"""The linear layer in LU form against dense linear algebra."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.lu_linear import LULinearPermute


def random_layer(n_dims, scale=0.5, seed=0):
    """A layer far from its start."""
    layer = LULinearPermute(n_dims, key=jr.key(seed))
    factors = scale * jr.normal(jr.key(seed + 100), (n_dims, n_dims))
    return eqx.tree_at(lambda p: p.factors, layer, factors)


def matrices(d):
    rng = np.random.default_rng(d)
    general = rng.standard_normal((d, d))
    orthogonal = np.linalg.qr(general)[0]
    return [
        general,
        1e3 * general,
        orthogonal,
        -orthogonal,
        np.eye(d),
        -np.eye(d),
        np.eye(d)[::-1],
        np.eye(d)[rng.permutation(d)],
    ]


@eqx.filter_jit
def all_of(layer, x):
    """Forward, back, matrix, and the log-determinants of both Jacobians."""
    forward = layer.transform_and_log_det(x)
    backward = layer.inverse_and_log_det(forward[0])
    jacobians = [jax.jacfwd(layer.transform)(x), jax.jacfwd(layer.inverse)(forward[0])]
    log_jacobians = [jnp.linalg.slogdet(jacobian)[1] for jacobian in jacobians]
    return *forward, *backward, layer.matrix, *log_jacobians


@pytest.mark.parametrize("d", [1, 2, 7])
def test_forward_inverse_and_log_det(d, precision):
    layer, x = random_layer(d), jr.normal(jr.key(3), (d,))
    z, log_det, back, inverse_log_det, matrix, log_jacobian, inverse_log_jacobian = all_of(layer, x)
    tolerance = float(jnp.finfo(precision).eps) * np.linalg.cond(matrix)
    np.testing.assert_allclose(z, np.asarray(matrix) @ x, atol=16 * tolerance)
    np.testing.assert_allclose(back, x, atol=16 * tolerance)
    np.testing.assert_allclose(log_det, log_jacobian, atol=16 * tolerance)
    np.testing.assert_allclose(inverse_log_det, inverse_log_jacobian, atol=16 * tolerance)
    assert log_det == -inverse_log_det == pytest.approx(float(jnp.trace(layer.factors)), rel=1e-5)
    assert z.dtype == log_det.dtype == precision


def test_starts_close_to_a_permutation():
    layer = LULinearPermute(5, key=jr.key(0))
    np.testing.assert_allclose(layer.matrix, np.eye(5)[layer.permutation], atol=0.1)
    orders = {tuple(LULinearPermute(5, key=jr.key(i)).permutation.tolist()) for i in range(10)}
    assert len(orders) > 5


@pytest.mark.parametrize("d", [1, 2, 6])
def test_from_matrix(d, precision):
    eps = float(jnp.finfo(precision).eps)
    for target in matrices(d):
        layer = LULinearPermute.from_matrix(target)
        size = np.max(np.abs(target))
        np.testing.assert_allclose(layer.matrix, target, atol=32 * eps * size)
        _, _, _, _, _, log_jacobian, _ = all_of(layer, jnp.ones(d))
        np.testing.assert_allclose(log_jacobian, np.linalg.slogdet(target)[1], rtol=1e-4, atol=1e-5)


def test_from_the_matrix_of_a_rotation():
    rotation = FixedRotation.random(jr.key(0), 4)
    layer = LULinearPermute.from_matrix(rotation.matrix)
    np.testing.assert_allclose(layer.matrix, rotation.matrix.tree, atol=1e-6)
    assert layer.transform_and_log_det(jnp.ones(4))[1] == pytest.approx(0, abs=1e-6)


def test_batch_and_stack():
    layers = [random_layer(3, seed=i) for i in range(3)]
    x = jr.normal(jr.key(1), (10, 3))
    z, log_dets = jax.vmap(layers[0].inverse_and_log_det)(x)
    expected = np.linalg.solve(np.asarray(layers[0].matrix), np.asarray(x).T).T
    np.testing.assert_allclose(z, expected, atol=1e-5)
    assert log_dets.shape == (10,)
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    z, _ = jax.lax.scan(lambda state, layer: (layer.transform(state), None), x[0], stacked)
    expected = layers[2].matrix @ layers[1].matrix @ layers[0].matrix @ x[0]
    np.testing.assert_allclose(z, expected, atol=1e-5)


def test_gradient_reaches_every_factor(precision):
    def loss(layer):
        z, log_det = layer.transform_and_log_det(jnp.array([0.5, -1.0, 2.0]))
        return jnp.sum(z**2) - log_det

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(random_layer(3))
    assert np.all(np.isfinite(gradient.factors))
    assert np.all(gradient.factors != 0)
    assert gradient.permutation is None
    assert gradient.signs is None


def test_training_whitens_correlated_data():
    mixing = np.array([[2.0, 0.0, 0.0], [1.5, 0.5, 0.0], [-1.0, 0.3, 0.2]])
    x = jnp.asarray(np.random.default_rng(0).standard_normal((500, 3)) @ mixing.T, float)
    params, static = eqx.partition(LULinearPermute(3, key=jr.key(0)), eqx.is_inexact_array)
    optimiser = optax.adam(0.05)

    @jax.jit
    def step(params, state):
        def loss(params):
            z, log_det = jax.vmap(eqx.combine(params, static).transform_and_log_det)(x)
            return jnp.mean(0.5 * jnp.sum(z**2, axis=1) - log_det)

        updates, state = optimiser.update(jax.grad(loss)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimiser.init(params)
    for _ in range(500):
        params, state = step(params, state)
    layer = eqx.combine(params, static)
    # The best linear map has z of unit second moment, whatever the data.
    z = np.asarray(jax.vmap(layer.transform)(x))
    np.testing.assert_allclose(z.T @ z / len(z), np.eye(3), atol=0.02)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LULinearPermute(0, key=jr.key(0)), "n_dims >= 1; got 0"),
        (
            lambda: LULinearPermute.from_matrix(np.ones((2, 3))),
            r"square matrix; got shape \(2, 3\)",
        ),
        (lambda: LULinearPermute.from_matrix(np.ones((2, 2))), "pivots range from 0 to 1"),
        (lambda: LULinearPermute.from_matrix(np.zeros((2, 2))), "invertible matrix"),
        (lambda: LULinearPermute.from_matrix(np.diag([1.0, np.nan])), "finite numbers"),
    ],
)
def test_bad_input_is_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
