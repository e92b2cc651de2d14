"""Rotations that are not trained: principal axes, independent components, given ones."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from scipy.stats import ortho_group

from gauss_flows.bijections import fixed_rotation
from gauss_flows.bijections.fixed_rotation import FixedRotation


def matrix_of(layer):
    return np.asarray(layer.matrix.tree)


def correlated_table(n_rows=500):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n_rows, 4)) @ rng.standard_normal((4, 4)) + 3


def test_principal_axes_decorrelate_and_sort(x64):
    x = correlated_table()
    layer = FixedRotation.from_data(x)
    covariance = np.cov(np.asarray(jax.vmap(layer.transform)(x)), rowvar=False)
    variances = np.diagonal(covariance)
    np.testing.assert_allclose(covariance, np.diag(variances), atol=1e-12 * variances[0])
    assert np.all(np.diff(variances) < 0)


def test_principal_axes_do_not_depend_on_order_or_sign_of_the_rows(x64):
    x = correlated_table()
    expected = matrix_of(FixedRotation.from_data(x))
    assert np.all(np.max(expected, axis=1) >= np.max(-expected, axis=1))
    for other in (x[::-1], -x, 1e150 * x, 1e-150 * x):
        np.testing.assert_allclose(matrix_of(FixedRotation.from_data(other)), expected, atol=1e-10)


def test_weights_count_as_repeated_rows(x64):
    x = correlated_table(60)
    weights = np.arange(60) % 3
    np.testing.assert_allclose(
        matrix_of(FixedRotation.from_data(x, sample_weight=weights)),
        matrix_of(FixedRotation.from_data(np.repeat(x, weights, axis=0))),
        atol=1e-10,
    )


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 4.0)])
def test_ica_unmixes_a_rotated_laplace_pair(scales):
    sources = np.random.default_rng(0).laplace(size=(20_000, 2)) * scales
    angle = 0.4
    mixing = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    layer = FixedRotation.ica(sources @ mixing.T, random_state=0)
    product = np.abs(matrix_of(layer) @ mixing)
    # Equal to a permutation up to the error of the unmixing angle, about 1/√n.
    np.testing.assert_allclose(np.sort(product, axis=1), [[0, 1], [0, 1]], atol=0.03)
    again = FixedRotation.ica(sources @ mixing.T, random_state=0)
    np.testing.assert_array_equal(layer.matrix.tree, again.matrix.tree)


def test_ica_falls_back_to_the_principal_axes_with_a_warning(monkeypatch):
    x = correlated_table()
    expected = matrix_of(FixedRotation.from_data(x))
    with pytest.warns(UserWarning, match="rank 4 of 5"):
        FixedRotation.ica(np.column_stack([x, x[:, 0]]))
    monkeypatch.setattr(fixed_rotation, "_ICA_ITERATIONS", 1)
    with pytest.warns(UserWarning, match="did not converge"):
        layer = FixedRotation.ica(x)
    np.testing.assert_array_equal(layer.matrix.tree, expected)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert matrix_of(FixedRotation.ica(x[:, :1])) == 1


def test_fixed_rotation_can_be_made_inside_jit():
    q = ortho_group.rvs(3, random_state=0)
    z = jax.jit(lambda q, x: FixedRotation(q).transform(x))(q, jnp.ones(3))
    np.testing.assert_allclose(z, q @ np.ones(3), atol=1e-6)


def test_training_does_not_move_it():
    layer = FixedRotation.random(jr.key(0), 3)
    params, static = eqx.partition(layer, eqx.is_inexact_array)
    optimiser = optax.adam(0.1)

    def loss(params):
        return jnp.sum(eqx.combine(params, static).transform(jnp.arange(3.0)) ** 3)

    updates, _ = optimiser.update(jax.grad(loss)(params), optimiser.init(params))
    trained = eqx.apply_updates(params, updates)
    np.testing.assert_array_equal(trained.matrix.tree, layer.matrix.tree)


NAN_TABLE = np.ones((4, 2))
NAN_TABLE[2, 1] = np.nan


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FixedRotation.from_data(NAN_TABLE), "nan in row 2, column 1"),
        (lambda: FixedRotation.ica(NAN_TABLE), "nan in row 2, column 1"),
        (lambda: FixedRotation.from_data(np.ones(3)), r"got \(3,\)"),
        (lambda: FixedRotation.from_data(np.ones((1, 2))), "at least 2 rows"),
        (lambda: FixedRotation.from_data([["a", "b"]]), "real numbers"),
        (lambda: FixedRotation.from_data(np.eye(2), sample_weight=[1, -1]), "from -1 to 1"),
        (lambda: FixedRotation.from_data(np.eye(2), sample_weight=[1]), r"shape \(2,\)"),
    ],
)
def test_bad_data_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
