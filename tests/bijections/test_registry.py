"""Every exported bijection through the same checks, and broken ones that fail them."""

import functools
from collections.abc import Callable
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import pytest
from flowjax.bijections import AbstractBijection

import gauss_flows.bijections as layers
from bijections import layer_checks as checks
from bijections.registry import N_DIMS, NOT_BIJECTIONS, REGISTRY, randomised


def test_the_registry_is_complete():
    exported = {name for name in layers.__all__ if name not in NOT_BIJECTIONS}
    assert {entry.name for entry in REGISTRY} == exported
    for name in NOT_BIJECTIONS:
        assert not issubclass(getattr(layers, name), AbstractBijection)


@functools.cache
def cached_case(label, precision):
    (entry,) = (entry for entry in REGISTRY if entry.label == label)
    return checks.make_case(entry.make(), precision, entry.cond_dim)


@pytest.fixture(params=[entry.label for entry in REGISTRY])
def case(request, precision):
    return cached_case(request.param, precision)


def test_is_the_layer_it_says_and_not_the_identity(case, request):
    assert type(case.layer).__name__ == request.node.callspec.params["case"].split("-")[0]
    assert jnp.all(jnp.any(jnp.abs(case.values.z - case.x) > 1e-3, axis=-1))


def test_round_trip(case):
    checks.check_round_trip(case, checks.NEAR)


def test_round_trip_far_out(case):
    checks.check_round_trip(case, checks.FAR)


def test_log_det(case):
    checks.check_log_det(case, checks.NEAR)


def test_log_det_far_out(case):
    checks.check_log_det(case, checks.FAR)


def test_gradients(case):
    checks.check_gradients(case)


def test_a_million_scales_out(case):
    checks.check_million(case)


def test_eager_equals_batched(case):
    checks.check_eager(case)


def test_precision(case):
    checks.check_precision(case)


def test_condition(case):
    checks.check_condition(case)


def test_pickle(case):
    checks.check_pickle(case)


def test_saving(case, tmp_path):
    checks.check_saving(case, tmp_path / "flow.safetensors")


class AbstractBroken(AbstractBijection):
    """A good layer inside, and one fault outside."""

    layer: eqx.AbstractVar[AbstractBijection]
    shape: ClassVar[tuple[int, ...]] = (N_DIMS,)
    cond_shape: ClassVar[None] = None

    def inverse_and_log_det(self, y, condition=None):
        return self.layer.inverse_and_log_det(y)


class WrongSign(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return z, -log_det


class InverseOff(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return z + 2e-5, log_det


class Clipped(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return jnp.clip(z, -8, 8), log_det


class Frozen(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        arrays, static = eqx.partition(self.layer, eqx.is_inexact_array)
        return eqx.combine(jax.lax.stop_gradient(arrays), static).transform_and_log_det(x)


class PoisonedFarOut(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        # Zero as a number, but its derivative is 0 · ∞ where x is beyond 5000.
        return z, log_det + 0 * jnp.sum(jnp.sqrt(jnp.maximum(5e3 - jnp.abs(x), 0)))


class OtherWhenTraced(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return z + (1e-3 if isinstance(x, jax.core.Tracer) else 0), log_det


class AlwaysSingle(AbstractBroken):
    layer: AbstractBijection

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return z.astype("float32"), log_det


class DeafToCondition(AbstractBroken):
    layer: AbstractBijection
    cond_shape: ClassVar[tuple[int, ...]] = (2,)

    def transform_and_log_det(self, x, condition=None):
        return self.layer.transform_and_log_det(x)


class Unknown(AbstractBroken):
    layer: AbstractBijection
    function: Callable

    def transform_and_log_det(self, x, condition=None):
        return self.layer.transform_and_log_det(x)


def unknown(layer):
    return Unknown(layer, lambda x: x)


CHECKS = {
    "round trip": lambda case, path: checks.check_round_trip(case, checks.NEAR),
    "round trip far out": lambda case, path: checks.check_round_trip(case, checks.FAR),
    "log_det": lambda case, path: checks.check_log_det(case, checks.NEAR),
    "log_det far out": lambda case, path: checks.check_log_det(case, checks.FAR),
    "gradients": lambda case, path: checks.check_gradients(case),
    "a million scales out": lambda case, path: checks.check_million(case),
    "eager": lambda case, path: checks.check_eager(case),
    "precision": lambda case, path: checks.check_precision(case),
    "condition": lambda case, path: checks.check_condition(case),
    "pickle": lambda case, path: checks.check_pickle(case),
    "saving": checks.check_saving,
}
# Each broken layer with the checks that see its fault.
BROKEN = [
    (WrongSign, {"log_det", "log_det far out"}),
    (InverseOff, {"round trip"}),
    (Clipped, {"round trip far out", "log_det far out"}),
    (Frozen, {"gradients"}),
    (PoisonedFarOut, {"gradients", "a million scales out"}),
    (OtherWhenTraced, {"eager", "round trip"}),
    (AlwaysSingle, {"precision"}),
    (DeafToCondition, {"condition"}),
    (unknown, {"pickle", "saving"}),
]


@pytest.mark.parametrize(("broken", "seen_by"), BROKEN, ids=lambda v: getattr(v, "__name__", ""))
def test_a_broken_layer_is_rejected(x64, tmp_path, broken, seen_by):
    layer = broken(randomised(layers.ActNorm(N_DIMS)))
    case = checks.make_case(layer, "float64", None if layer.cond_shape is None else 2)
    for name in sorted(seen_by):
        with pytest.raises((AssertionError, AttributeError, ValueError)):
            CHECKS[name](case, tmp_path / "flow.safetensors")


def test_every_check_rejects_something():
    assert set.union(*(seen_by for _, seen_by in BROKEN)) == set(CHECKS)


@pytest.mark.parametrize("name", CHECKS)
def test_the_layer_inside_the_broken_ones_is_good(x64, tmp_path, name):
    CHECKS[name](cached_case("ActNorm", "float64"), tmp_path / "flow.safetensors")
