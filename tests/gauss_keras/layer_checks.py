"""What every layer must do, as checks that a deliberately broken layer fails."""

from collections.abc import Callable
from typing import NamedTuple

import keras
import numpy as np

from gauss_keras.autodiff import numbers, with_jacobian
from gauss_keras.registry import N_DIMS, randomised
from gaussianization.gauss_keras import Bijector, GaussianizationFlow

ROUND_TRIP = {"float32": 5e-6, "float64": 1e-13}
LOG_DET = {"float32": 5e-5, "float64": 1e-10}
SAME = {"float32": 2e-5, "float64": 1e-12}
# Only a conditioner computes in half precision: its output has 11 or 8 bits.
HALF = {"mixed_float16": 0.02, "mixed_bfloat16": 0.15}
NEAR, FAR = slice(0, 8), slice(8, 12)


class Values(NamedTuple):
    """The way from x to z, back to x and to z again, row by row."""

    z: np.ndarray
    log_det: np.ndarray
    jacobian: np.ndarray
    x_back: np.ndarray
    log_det_back: np.ndarray
    z_again: np.ndarray
    log_det_again: np.ndarray


class Case(NamedTuple):
    """A layer, how another of its kind is made, and all the checks look at."""

    make: Callable[..., Bijector]
    layer: Bijector
    x: np.ndarray
    condition: np.ndarray | None
    values: Values

    @property
    def dtype(self) -> str:
        """The precision of the case."""
        return self.x.dtype.name


def points(dtype, condition_dim=None):
    """Rows of x, eight of a few scales and four of up to ten thousand, and their conditions."""
    rng = np.random.default_rng(7)
    near = 1.5 * rng.normal(size=(8, N_DIMS))
    far = np.array([[1e4, 1.0, -30.0], [-1e4, 1e4, 1e4], [0.5, -1e4, 10.0], [300.0, 1.0, -1e4]])
    x = np.concatenate([near, far]).astype(dtype)
    condition = None if condition_dim is None else rng.normal(size=(12, condition_dim))
    return x, None if condition is None else condition.astype(dtype)


def make_case(make, dtype, condition_dim=None):
    """Evaluate a randomised layer on all the points."""
    layer = randomised(make(dtype=dtype))
    x, condition = points(dtype, condition_dim)
    forward = with_jacobian(lambda x: layer.forward_and_log_det(x, condition), x)
    backward = layer.inverse_and_log_det(forward[0], condition)
    again = layer.forward_and_log_det(backward[0], condition)
    values = Values(*forward, *map(numbers, (*backward, *again)))
    return Case(make, layer, x, condition, values)


def check_round_trip(case, rows):
    """x → z → x and z → x → z, to what rounding allows."""
    eps = np.finfo(case.dtype).eps
    tolerance = ROUND_TRIP[case.dtype]
    at = Values(*(v[rows].astype(float) for v in case.values))
    x = case.x[rows].astype(float)
    assert all(np.all(np.isfinite(v)) for v in at)

    def size(values):
        return np.maximum(1, np.max(np.abs(values), axis=-1, keepdims=True))

    def carried(jacobian, error):
        return np.einsum("nij,nj->ni", np.abs(jacobian), error)

    # What some units in the last place of x amount to in z, no inverse can undercut.
    allowed_z = tolerance * size(at.z) + carried(at.jacobian, 8 * eps * np.abs(at.x_back))
    assert np.all(np.abs(at.z_again - at.z) <= allowed_z)
    back = np.linalg.pinv(at.jacobian)
    allowed_x = tolerance * size(x) + carried(back, tolerance * size(at.z) + 0 * x)
    assert np.all(np.abs(at.x_back - x) <= allowed_x)


def check_inverse_alone(case):
    """`inverse` and `call(…, inverse=True)` are the way back without its log-determinant."""
    for back in (
        case.layer.inverse(case.values.z, case.condition),
        case.layer(case.values.z, condition=case.condition, inverse=True),
    ):
        _assert_close(back, case.values.x_back, SAME[case.dtype])


def check_log_det(case, rows):
    """The log-determinant against that of the Jacobian by automatic differentiation."""
    at = Values(*(v[rows].astype(float) for v in case.values))
    _, expected = np.linalg.slogdet(at.jacobian)
    assert np.all(np.isfinite(expected))
    assert np.all(np.abs(at.log_det - expected) <= _log_det_room(case)[rows])


def check_log_det_back(case):
    """The way back has the log-determinant of the way there, negated."""
    difference = case.values.log_det + case.values.log_det_back
    assert np.all(np.abs(difference) <= _log_det_room(case))


def check_dtypes(case):
    """Every result has the layer's precision and the shape of a batch."""
    assert case.layer.state_dtype == case.dtype
    values = case.values
    assert all(value.dtype == case.dtype for value in values)
    assert values.z.shape == values.x_back.shape == case.x.shape
    assert values.log_det.shape == values.log_det_back.shape == (len(case.x),)


def check_symbolic(case):
    """A functional model knows shape and dtype beforehand, and computes what the layer does."""
    inputs, output = _functional(case.layer, case)
    assert tuple(output.shape) == (None, N_DIMS)
    assert output.dtype == case.dtype
    assert tuple(case.layer.compute_output_shape((5, N_DIMS))) == (5, N_DIMS)
    eager = case.layer(case.x, condition=case.condition)
    assert keras.backend.standardize_dtype(eager.dtype) == output.dtype
    assert tuple(eager.shape) == (len(case.x), *output.shape[1:])
    _assert_close(eager, case.values.z, SAME[case.dtype])
    _assert_close(keras.Model(inputs, output)(_inputs(case)), case.values.z, SAME[case.dtype])


def check_training(case):
    """One step of a flow with the layer moves every trainable weight and nothing else."""
    layer = _copy(case)
    flow = GaussianizationFlow([layer], input_dim=N_DIMS)
    flow.compile(keras.optimizers.Adam(1e-2))
    before = [numbers(weight).copy() for weight in layer.weights]
    loss = flow.train_on_batch(_inputs(case, NEAR))
    log_prob = case.values.log_det - np.sum(
        0.5 * case.values.z**2 + 0.5 * np.log(2 * np.pi), axis=-1
    )
    np.testing.assert_allclose(loss, -np.mean(log_prob[NEAR]), rtol=1e-4, atol=1e-4)
    for weight, old in zip(layer.weights, before, strict=True):
        new = numbers(weight)
        assert np.all(np.isfinite(new)), weight.path
        assert np.any(new != old) == weight.trainable, weight.path


def check_config(case):
    """Its configuration, before and after it is built, gives the same layer but for weights."""
    for original in (case.make(dtype=case.dtype), case.layer):
        config = original.get_config()
        twin = type(original).from_config(config)
        assert twin.name == original.name
        assert twin.dtype_policy == original.dtype_policy
        twin.build((None, N_DIMS))
        assert [w.shape for w in twin.weights] == [w.shape for w in case.layer.weights]
        twin.set_weights(case.layer.get_weights())
        z, log_det = twin.forward_and_log_det(case.x, case.condition)
        _assert_close(z, case.values.z, SAME[case.dtype])
        assert np.all(np.abs(numbers(log_det) - case.values.log_det) <= _log_det_room(case))
        assert twin.get_config() == case.layer.get_config() | {"name": twin.name}


def check_saving(case, path):
    """A model with the layer survives a `.keras` file to the last bit."""
    inputs, output = _functional(case.layer, case)
    model = keras.Model(inputs, output)
    model.save(path)
    loaded = keras.models.load_model(path)
    np.testing.assert_array_equal(numbers(loaded(_inputs(case))), numbers(model(_inputs(case))))


def check_half_precision(case):
    """Mixed precision: log-determinants in float32, values finite and near float32's."""
    for policy, tolerance in HALF.items():
        layer = _built(case.make(dtype=policy))
        layer.set_weights(case.layer.get_weights())
        z, log_det = layer.forward_and_log_det(case.x, case.condition)
        x_back, log_det_back = layer.inverse_and_log_det(z, case.condition)
        for value in (z, log_det, x_back, log_det_back):
            assert keras.backend.standardize_dtype(value.dtype) == "float32"
            assert np.all(np.isfinite(numbers(value)))
        _assert_close(numbers(z)[NEAR], case.values.z[NEAR], tolerance)
        _assert_close(numbers(log_det)[NEAR], case.values.log_det[NEAR], tolerance)
        # Both directions read the same half-precision numbers, so that nothing is lost between.
        _assert_close(numbers(x_back)[NEAR], case.x[NEAR], 2e-5)


def check_condition(case):
    """The condition moves z where there is one to read."""
    if case.layer.condition_dim is None:
        return
    other, _ = case.layer.forward_and_log_det(case.x, case.condition[::-1].copy())
    assert np.all(np.any(numbers(other)[NEAR] != case.values.z[NEAR], axis=-1))


def _log_det_room(case):
    """What a log-determinant may be off by: z² / 2, of which it is the rest, is rounded too."""
    rounding = np.finfo(case.dtype).eps * np.sum(case.values.z.astype(float) ** 2, axis=-1)
    return LOG_DET[case.dtype] * np.maximum(1, np.abs(case.values.log_det)) + rounding


def _built(layer):
    """The layer; some come built."""
    if not layer.built:
        layer.build((None, N_DIMS))
    return layer


def _copy(case):
    layer = _built(case.make(dtype=case.dtype))
    layer.set_weights(case.layer.get_weights())
    return layer


def _functional(layer, case):
    x = keras.Input((N_DIMS,), dtype=case.dtype)
    if case.condition is None:
        return x, layer(x)
    condition = keras.Input(case.condition.shape[1:], dtype=case.dtype)
    return [x, condition], layer(x, condition=condition)


def _inputs(case, rows=slice(None)):
    if case.condition is None:
        return case.x[rows]
    return (case.x[rows], case.condition[rows])


def _assert_close(found, expected, tolerance):
    found, expected = (np.asarray(numbers(part), float) for part in (found, expected))
    allowed = tolerance * np.maximum(1, np.abs(expected))
    assert np.all(np.abs(found - expected) <= allowed), np.max(np.abs(found - expected) / allowed)
