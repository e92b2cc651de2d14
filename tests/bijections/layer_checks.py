"""What every layer must do, as checks that a deliberately broken layer fails."""

import pickle
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flowjax.bijections import AbstractBijection, Invert
from flowjax.distributions import StandardNormal, Transformed
from paramax import NonTrainable

from bijections.registry import N_DIMS, is_fixed
from gauss_flows import load, save

ROUND_TRIP = {"float32": 5e-6, "float64": 1e-13}
LOG_DET = {"float32": 5e-5, "float64": 1e-10}
NEAR, FAR = slice(0, 12), slice(12, 20)


class Values(NamedTuple):
    """The way from x to z, back to x and to z again, row by row."""

    z: jax.Array
    log_det: jax.Array
    jacobian: jax.Array
    x_back: jax.Array
    log_det_back: jax.Array
    jacobian_back: jax.Array
    z_again: jax.Array


class Case(NamedTuple):
    """A layer with everything the checks look at."""

    layer: AbstractBijection
    x: jax.Array
    condition: jax.Array | None
    values: Values


def points(precision):
    """Rows of x: twelve of a few scales, eight of up to ten thousand, in any coordinates."""
    near = 1.5 * jr.normal(jr.key(7), (12, N_DIMS), precision)
    signs = np.array(np.meshgrid(*[[-1.0, 1.0]] * N_DIMS)).reshape(N_DIMS, -1).T
    sizes = np.array([[1e4, 1.0, 30.0], [1e4, 1e4, 1e4], [0.5, 1e4, 10.0], [300.0, 1.0, 1e4]])
    return jnp.concatenate([near, jnp.asarray(signs * np.tile(sizes, (2, 1)), precision)])


def make_case(layer, precision, cond_dim=None):
    """Evaluate a layer on all the points, with a condition of its own for each."""
    x = points(precision)
    condition = None if cond_dim is None else jr.normal(jr.key(8), (len(x), cond_dim), precision)
    return Case(layer, x, condition, evaluate(layer, x, condition))


@eqx.filter_jit
def evaluate(layer, x, condition) -> Values:
    """Both directions with their Jacobians by automatic differentiation."""

    def with_jacobian(method, point, condition):
        def repeated(point):
            value, log_det = method(point, condition)
            return value, (value, log_det)

        jacobian, (value, log_det) = jax.jacfwd(repeated, has_aux=True)(point)
        return value, log_det, jacobian

    def both_ways(x, condition):
        forward = with_jacobian(layer.transform_and_log_det, x, condition)
        backward = with_jacobian(layer.inverse_and_log_det, forward[0], condition)
        return Values(*forward, *backward, layer.transform(backward[0], condition))

    return jax.vmap(both_ways, in_axes=(0, None if condition is None else 0))(x, condition)


@eqx.filter_jit
def gradients(layer, x, condition):
    """Each row's gradients of one loss in either direction, in the parameters and the row."""
    arrays, static = eqx.partition(layer, eqx.is_inexact_array)
    # No rotation leaves it as it is, and it feels z and the log-determinant alike.
    weights = jnp.arange(1.0, x.shape[-1] + 1, dtype=x.dtype)

    def loss(arrays, point, condition, inverse):
        layer = eqx.combine(arrays, static)
        method = layer.inverse_and_log_det if inverse else layer.transform_and_log_det
        value, log_det = method(point, condition)
        return jnp.sum(weights * (0.5 * value**2 + jnp.sin(value))) - log_det

    def both(point, condition):
        gradient = jax.grad(loss, argnums=(0, 1))
        return [gradient(arrays, point, condition, inverse) for inverse in (False, True)]

    return jax.vmap(both, in_axes=(0, None if condition is None else 0))(x, condition)


def check_round_trip(case, rows):
    """x → z → x and z → x → z, to what rounding allows."""
    eps = np.finfo(case.x.dtype).eps
    tolerance = ROUND_TRIP[case.x.dtype.name]
    at = Values(*(np.asarray(v)[rows] for v in case.values))
    x = np.asarray(case.x)[rows]
    assert all(np.all(np.isfinite(v)) for v in at)

    def size(values):
        return np.maximum(1, np.max(np.abs(values), axis=-1, keepdims=True))

    def carried(jacobian, error):
        return np.einsum("nij,nj->ni", np.abs(jacobian), error)

    # What some units in the last place of x amount to in z, no inverse can undercut.
    allowed_z = tolerance * size(at.z) + carried(at.jacobian, 8 * eps * np.abs(at.x_back))
    assert np.all(np.abs(at.z_again - at.z) <= allowed_z)
    allowed_x = tolerance * size(x) + carried(at.jacobian_back, tolerance * size(at.z) + 0 * x)
    assert np.all(np.abs(at.x_back - x) <= allowed_x)


def check_log_det(case, rows):
    """Both log-determinants against the Jacobians', and against each other."""
    tolerance = LOG_DET[case.x.dtype.name]
    at = Values(*(np.asarray(v, float)[rows] for v in case.values))
    for found, jacobian in ((at.log_det, at.jacobian), (at.log_det_back, at.jacobian_back)):
        _, expected = np.linalg.slogdet(jacobian)
        assert np.all(np.isfinite(expected))
        assert np.all(np.abs(found - expected) <= tolerance * np.maximum(1, np.abs(expected)))
    sizes = np.maximum(1, np.abs(at.log_det))
    assert np.all(np.abs(at.log_det + at.log_det_back) <= tolerance * sizes)


def check_gradients(case):
    """Finite everywhere; not zero for any trained array; exactly zero for a fixed one."""
    for of_layer, of_x in gradients(case.layer, case.x, case.condition):
        assert np.all(np.isfinite(of_x))
        assert np.all(np.any(np.asarray(of_x) != 0, axis=0))
        for leaf in jax.tree.leaves(of_layer, is_leaf=is_fixed):
            fixed = isinstance(leaf, NonTrainable)
            for array in jax.tree.leaves(leaf):
                assert np.all(np.isfinite(array))
                assert np.any(np.asarray(array[NEAR]) != 0) != fixed


def check_million(case):
    """Values and gradients in every parameter finite up to a million scales out."""
    far = np.asarray(case.x).copy()
    rows = np.arange(len(far))
    far[rows, rows % N_DIMS] = np.where(rows % 2, 1e6, -1e6)
    far[FAR] = 1e6 * np.sign(far[FAR])
    far = jnp.asarray(far)
    values = evaluate(case.layer, far, case.condition)
    for leaf in jax.tree.leaves((values, gradients(case.layer, far, case.condition))):
        assert np.all(np.isfinite(leaf))


def check_eager(case):
    """One row at a time without `jit` or `vmap` gives what the jitted batch gave."""
    tolerance = 1e-4 if case.x.dtype == jnp.float32 else 1e-11
    for row in (0, len(case.x) - 1):
        condition = None if case.condition is None else case.condition[row]
        z, log_det = case.layer.transform_and_log_det(case.x[row], condition)
        x, log_det_back = case.layer.inverse_and_log_det(case.values.z[row], condition)
        found = (z, log_det, x, log_det_back)
        names = ("z", "log_det", "x_back", "log_det_back")
        for value, name in zip(found, names, strict=True):
            expected = getattr(case.values, name)[row]
            size = max(1.0, float(np.max(np.abs(expected))))
            np.testing.assert_allclose(value, expected, rtol=0, atol=tolerance * size)


def check_precision(case):
    """Every result has x's precision."""
    assert all(value.dtype == case.x.dtype for value in case.values)


def check_condition(case):
    """The condition moves z and the way back, and is needed exactly where it is declared."""
    if case.layer.cond_shape is None:
        assert case.condition is None
        return
    other = evaluate(case.layer, case.x, case.condition[::-1])
    assert np.all(np.any(np.asarray(other.z != case.values.z)[NEAR], axis=-1))
    assert np.all(np.abs(other.x_back - case.x)[NEAR] < 1e-3)


def check_same(case, layer):
    """Another layer is the first one to the last bit."""
    assert jax.tree.structure(layer) == jax.tree.structure(case.layer)
    for found, leaf in zip(jax.tree.leaves(layer), jax.tree.leaves(case.layer), strict=True):
        assert np.asarray(found).dtype == np.asarray(leaf).dtype
        np.testing.assert_array_equal(found, leaf)
    again = evaluate(layer, case.x, case.condition)
    for found, value in zip(again, case.values, strict=True):
        np.testing.assert_array_equal(found, value)


def check_pickle(case):
    """The layer survives pickling."""
    check_same(case, pickle.loads(pickle.dumps(case.layer)))


def check_saving(case, path):
    """The layer survives this library's own file format."""
    save(Transformed(StandardNormal(case.layer.shape), Invert(case.layer)), path)
    check_same(case, load(path).bijection.bijection)
