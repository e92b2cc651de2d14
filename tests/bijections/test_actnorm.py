"""Standardisation from data."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from gauss_flows.bijections.actnorm import ActNorm


def random_layer(n_dims=3):
    layer = ActNorm(n_dims)
    values = (jr.normal(jr.key(0), (n_dims,)), jr.normal(jr.key(1), (n_dims,)))
    return eqx.tree_at(lambda p: (p.loc, p.log_scale), layer, values)


def test_identity_before_data():
    x = jnp.array([1.5, -2.0])
    z, log_det = ActNorm(2).transform_and_log_det(x)
    np.testing.assert_array_equal(z, x)
    assert log_det == 0


def test_data_get_mean_zero_and_variance_one(precision):
    x = jnp.asarray(np.random.default_rng(0).gamma(2.0, [1e-3, 1.0, 1e3], (400, 3)) + 5, float)
    layer = ActNorm.from_data(x)
    z = np.asarray(jax.vmap(layer.transform)(x), np.float64)
    # One unit in the last place of x, on the scale of z, is all that may be left.
    atol = 2 * float(jnp.finfo(precision).eps) * np.abs(x).max(axis=0) / np.std(x, axis=0)
    assert np.all(np.abs(z.mean(axis=0)) <= atol)
    assert np.all(np.abs(z.var(axis=0) - 1) <= 4 * atol)
    assert layer.loc.dtype == layer.log_scale.dtype == precision


@pytest.mark.parametrize("scale", [1e-170, 1e170])
def test_extreme_scales_neither_overflow_nor_underflow(scale, x64):
    x = scale * np.random.default_rng(0).standard_normal((100, 2))
    z = np.asarray(jax.vmap(ActNorm.from_data(x).transform)(x))
    np.testing.assert_allclose(z.std(axis=0), 1, rtol=1e-10)


def test_log_det_and_inverse(precision):
    layer, x = random_layer(), jnp.array([0.3, -2.0, 50.0])
    eps = float(jnp.finfo(precision).eps)
    z, log_det = layer.transform_and_log_det(x)
    back, inverse_log_det = layer.inverse_and_log_det(z)
    np.testing.assert_allclose(back, x, rtol=16 * eps)
    for function, value in ((layer.transform, log_det), (layer.inverse, inverse_log_det)):
        _, expected = np.linalg.slogdet(jax.jacfwd(function)(x))
        np.testing.assert_allclose(value, expected, atol=16 * eps)


def test_gradients_reach_both_parameters():
    gradient = eqx.filter_grad(lambda layer: jnp.sum(layer.transform(jnp.ones(3)) ** 3))(
        random_layer()
    )
    assert np.all(gradient.loc != 0)
    assert np.all(gradient.log_scale != 0)


def test_holds_two_floats_a_dimension_and_stacks():
    layers = [random_layer(), ActNorm(3)]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *layers)
    assert sum(leaf.size for leaf in jax.tree.leaves(layers[0])) == 6
    x = jnp.array([1.0, 2.0, 3.0])
    z, _ = jax.lax.scan(lambda state, layer: (layer.transform(state), None), x, stacked)
    np.testing.assert_allclose(z, layers[0].transform(x), rtol=1e-6)


TABLE = np.arange(8.0).reshape(4, 2)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (np.column_stack([TABLE, np.full(4, 0.1)]), "constant column 2, which is 0.1"),
        (TABLE[:1], "constant column 0"),
        (np.where(TABLE == 5, np.inf, TABLE), "inf in row 2, column 1"),
        (TABLE[:, 0], r"\(n_rows, n_dims\), neither of them 0; got \(4,\)"),
        (TABLE[:0], r"got \(0, 2\)"),
        (TABLE + 1j, "real numbers; got complex128"),
        ([["a"]], "real numbers"),
    ],
)
def test_bad_data_are_refused(x, message):
    with pytest.raises(ValueError, match=message):
        ActNorm.from_data(x)


def test_bad_width_is_refused():
    with pytest.raises(ValueError, match="n_dims >= 1; got 0"):
        ActNorm(0)
