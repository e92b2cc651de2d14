"""Every exported layer through the same checks, and broken ones that fail them."""

import functools

import keras
import numpy as np
import pytest
from keras import ops

from gauss_keras import layer_checks as checks
from gauss_keras.autodiff import BACKEND
from gauss_keras.registry import ABSTRACT, CONDITION_DIM, N_DIMS, REGISTRY, randomised
from gaussianization import gauss_keras as gk
from gaussianization.gauss_keras import bijectors


def test_the_registry_is_complete():
    for module in (gk, bijectors):
        exported = {
            name
            for name in module.__all__
            if isinstance(getattr(module, name), type)
            and issubclass(getattr(module, name), gk.Bijector)
        }
        assert {entry.name for entry in REGISTRY} == exported - ABSTRACT


@functools.cache
def cached_case(label, precision):
    (entry,) = (entry for entry in REGISTRY if entry.label == label)
    return checks.make_case(entry.make, precision, entry.condition_dim)


def both_precisions():
    """Every layer in both; variants, which differ in their network, in one."""
    for entry in REGISTRY:
        yield entry.label, "float32"
        if not entry.variant:
            yield entry.label, "float64"


@pytest.fixture(params=list(both_precisions()), ids="-".join)
def case(request):
    label, precision = request.param
    if BACKEND != "jax" or precision == "float32":
        return cached_case(label, precision)
    return request.getfixturevalue("x64") or cached_case(label, precision)


@pytest.fixture(params=[entry.label for entry in REGISTRY])
def single(request):
    return cached_case(request.param, "float32")


def test_is_the_layer_it_says_and_not_the_identity(case, request):
    assert type(case.layer).__name__ == request.node.callspec.params["case"][0].split("-")[0]
    assert np.all(np.any(np.abs(case.values.z - case.x) > 1e-4, axis=-1))


def test_round_trip(case):
    checks.check_round_trip(case, checks.NEAR)
    checks.check_round_trip(case, checks.FAR)
    checks.check_inverse_alone(case)


def test_log_det(case):
    checks.check_log_det(case, checks.NEAR)
    checks.check_log_det(case, checks.FAR)
    checks.check_log_det_back(case)


def test_dtypes(case):
    checks.check_dtypes(case)


def test_symbolic_equals_eager(case):
    checks.check_symbolic(case)


def test_config(case):
    checks.check_config(case)


def test_saving(case, tmp_path):
    checks.check_saving(case, tmp_path / "model.keras")


def test_condition(case):
    checks.check_condition(case)


def test_half_precision(single):
    checks.check_half_precision(single)


def test_training_moves_every_weight(single):
    checks.check_training(single)


@pytest.mark.parametrize("entry", REGISTRY[2:5], ids=lambda entry: entry.label)
def test_single_precision_stays_so_where_double_is_on(x64, entry):
    layer = randomised(entry.make(dtype="float32"))
    x, condition = checks.points("float32", entry.condition_dim)
    z, log_det = layer.forward_and_log_det(x, condition)
    x_back, log_det_back = layer.inverse_and_log_det(z, condition)
    for value in (z, log_det, x_back, log_det_back, *layer.weights):
        assert keras.backend.standardize_dtype(value.dtype) == "float32"


@keras.saving.register_keras_serializable(package="gauss_keras_tests")
class Affine(gk.Bijector):
    """A good layer, from which the broken ones differ by one fault."""

    def __init__(self, gain=1.0, **kwargs):
        super().__init__(**kwargs)
        self.gain = gain

    def build(self, input_shape):
        super().build(input_shape)
        self.loc = self.add_weight(name="loc", shape=(self.input_dim,), initializer="zeros")
        self.log_scale = self.add_weight(
            name="log_scale", shape=(self.input_dim,), initializer="zeros"
        )

    def log_scales(self):
        return self.gain * self._tensor(self.log_scale)

    def _forward(self, x, condition):
        log_scale = self.log_scales()
        z = x * ops.exp(log_scale) + self._tensor(self.loc)
        return z, self._zero_log_det(x) + ops.sum(log_scale)

    def _inverse(self, z, condition):
        log_scale = self.log_scales()
        x = (z - self._tensor(self.loc)) * ops.exp(-log_scale)
        return x, self._zero_log_det(z) - ops.sum(log_scale)

    def get_config(self):
        return {**super().get_config(), "gain": self.gain}


class Broken(Affine):
    """Affine; each subclass is registered under its own name."""

    def __init_subclass__(cls):
        keras.saving.register_keras_serializable(package="gauss_keras_tests")(cls)


class WrongLogDet(Broken):
    def _forward(self, x, condition):
        z, log_det = super()._forward(x, condition)
        return z, -log_det


class WrongLogDetBack(Broken):
    def _inverse(self, z, condition):
        x, log_det = super()._inverse(z, condition)
        return x, log_det + 1e-3


class InverseOff(Broken):
    def _inverse(self, z, condition):
        x, log_det = super()._inverse(z, condition)
        return x + 2e-5, log_det


class Clipped(Broken):
    def _forward(self, x, condition):
        z, log_det = super()._forward(x, condition)
        return ops.clip(z, -50.0, 50.0), log_det


class OtherInverse(Broken):
    def _invert(self, z, condition):
        return super()._invert(z, condition) + 1e-3


class Frozen(Broken):
    def log_scales(self):
        return ops.stop_gradient(super().log_scales())


class Forgetful(Broken):
    def get_config(self):
        config = super().get_config()
        del config["gain"]
        return config


class Untracked(Broken):
    """Draws a number when it is built and tells nobody."""

    def build(self, input_shape):
        super().build(input_shape)
        self.secret = float(keras.random.uniform(()))

    def log_scales(self):
        return super().log_scales() + self.secret


class HalfLogDet(Broken):
    def _forward(self, x, condition):
        z, log_det = super()._forward(x, condition)
        return z, ops.cast(log_det, "float16")


class WrongSpec(Broken):
    def compute_output_spec(self, inputs, *_, **__):
        return keras.KerasTensor((inputs.shape[0], 2 * inputs.shape[1]), dtype="float16")


class Deaf(Broken):
    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.condition_dim = CONDITION_DIM


CHECKS = {
    "round trip": lambda case, path: checks.check_round_trip(case, checks.NEAR),
    "round trip far out": lambda case, path: checks.check_round_trip(case, checks.FAR),
    "inverse alone": lambda case, path: checks.check_inverse_alone(case),
    "log_det": lambda case, path: checks.check_log_det(case, checks.NEAR),
    "log_det far out": lambda case, path: checks.check_log_det(case, checks.FAR),
    "log_det back": lambda case, path: checks.check_log_det_back(case),
    "dtypes": lambda case, path: checks.check_dtypes(case),
    "symbolic": lambda case, path: checks.check_symbolic(case),
    "training": lambda case, path: checks.check_training(case),
    "config": lambda case, path: checks.check_config(case),
    "saving": checks.check_saving,
    "half precision": lambda case, path: checks.check_half_precision(case),
    "condition": lambda case, path: checks.check_condition(case),
}
# Each broken layer with the checks that see its fault.
BROKEN = [
    (WrongLogDet, {"log_det", "log_det back"}),
    (WrongLogDetBack, {"log_det back"}),
    (InverseOff, {"round trip"}),
    (Clipped, {"round trip far out", "log_det far out"}),
    (OtherInverse, {"inverse alone"}),
    (Frozen, {"training"}),
    (Forgetful, {"config", "saving"}),
    (Untracked, {"config", "saving"}),
    (HalfLogDet, {"dtypes", "half precision"}),
    (WrongSpec, {"symbolic"}),
    (Deaf, {"condition"}),
]


def _case_of(cls):
    def make(dtype=None):
        return cls(**({} if cls is Deaf else {"gain": 1.5}), dtype=dtype)

    return checks.make_case(make, "float32", CONDITION_DIM if cls is Deaf else None)


@pytest.mark.parametrize(("broken", "seen_by"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_layer_is_rejected(tmp_path, broken, seen_by):
    case = _case_of(broken)
    for name in sorted(seen_by):
        with pytest.raises(AssertionError):
            CHECKS[name](case, tmp_path / "model.keras")


def test_every_check_rejects_something():
    assert set.union(*(seen_by for _, seen_by in BROKEN)) == set(CHECKS)


def test_the_layer_that_the_broken_ones_are_made_of_is_good(tmp_path):
    case = _case_of(Affine)
    for check in CHECKS.values():
        check(case, tmp_path / "model.keras")


def test_layers_have_as_many_coordinates_as_they_were_built_for():
    layer = gk.ActNorm()
    with pytest.raises(ValueError, match="Received: built=False"):
        layer.forward_and_log_det(np.zeros((2, N_DIMS), "float32"))
    layer.build((None, N_DIMS))
    with pytest.raises(ValueError, match=r"Received: inputs.shape=\(2, 5\)"):
        layer.forward_and_log_det(np.zeros((2, 5), "float32"))
