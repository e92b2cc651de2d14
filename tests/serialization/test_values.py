"""Every kind of value that a flow may hold, at the place of a field."""

import functools
import json
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import paramax
import pytest
from flowjax.bijections import Affine, Chain, Permute
from flowjax.distributions import Normal, Transformed

from gauss_flows.serialization import (
    FlowFileError,
    load,
    register_function,
    register_layer,
    save,
)
from serialization.same import round_trip


@register_layer
class Anything(eqx.Module):
    value: object
    fixed: object = eqx.field(static=True, default=None)


@register_function
def doubled(x):
    return 2 * x


class TestValues:
    @pytest.mark.parametrize(
        "value",
        [
            None,
            True,
            False,
            0,
            -(2**80),
            1.0,
            -0.0,
            5e-324,
            0.1 + 0.2,
            math.inf,
            -math.inf,
            math.nan,
            "",
            'quotes " and \\ and ünïcode \n 🜚',
            (),
            [],
            {},
            (1, (2.0, None), ["a", {"b": (True,)}]),
            {"a.b": 1, "c": {"tuple": [1]}, "": None},
            {3: 1, 1: 2},
            {(1, 2): 3},
            slice(None, 3, -1),
            slice(1, None),
            (True, False) * 300,
            jax.nn.relu,
            jax.nn.softplus,
            jnp.tanh,
            doubled,
            paramax.utils.inv_softplus,
            functools.partial(jax.nn.leaky_relu, negative_slope=0.2),
        ],
        ids=lambda value: type(value).__name__,
    )
    def test_plain(self, value, tmp_path):
        for module in (Anything(value), Anything(None, fixed=value)):
            save(module, tmp_path / "flow")
            loaded = load(tmp_path / "flow")
            for before, after in ((module.value, loaded.value), (module.fixed, loaded.fixed)):
                assert type(before) is type(after)
                assert repr(before) == repr(after)

    @pytest.mark.parametrize(
        "dtype",
        [
            *(jnp.bool_, jnp.int8, jnp.int16, jnp.int32, jnp.uint8, jnp.uint16, jnp.uint32),
            *(jnp.float16, jnp.bfloat16, jnp.float32),
        ],
    )
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
    def test_arrays(self, dtype, shape, tmp_path):
        dtype = jnp.dtype(dtype)
        highest = 2 if dtype.name == "bool" else 256
        random = np.random.default_rng(0)
        bits = random.integers(highest, size=(*shape, dtype.itemsize), dtype=np.uint8)
        array = bits.view(dtype)[..., 0]
        fortran = np.asfortranarray(array)
        module = Anything([jnp.asarray(array), array, fortran, {"a.0": array, "a": [array]}])
        round_trip(module, tmp_path / "flow")

    def test_wide_arrays(self, tmp_path, x64):
        values = [
            jnp.array([1.0, math.pi, math.nan, -math.inf, 5e-324]),
            jnp.array([2**62, -1]),
            jnp.array([2**63], jnp.uint64),
            np.float64(math.pi),
            np.int16(3),
            np.arange(3.0).astype(">f8").astype("<f8"),
        ]
        round_trip(Anything(values), tmp_path / "flow")

    def test_big_endian_numpy_keeps_its_values(self, tmp_path):
        save(Anything(np.arange(3.0).astype(">f8")), tmp_path / "flow")
        np.testing.assert_array_equal(load(tmp_path / "flow").value, np.arange(3.0))

    @pytest.mark.parametrize(
        ("value", "message"),
        [
            (jr.key(0), "random key at 'value.0'"),
            (jr.split(jr.key(0)), "random key"),
            (object(), "cannot hold the builtins.object at 'value.0'"),
            (b"bytes", "cannot hold the builtins.bytes"),
            (1j, "cannot hold the builtins.complex"),
            ({1, 2}, "cannot hold the builtins.set"),
            (np.array(["a"]), "Unknown dtype str"),
            (np.array([None]), "Unknown dtype object"),
            (jnp.array(1j), "Unknown dtype complex64"),
            (lambda x: x, "At 'value.0': Unknown function .*register_function"),
            (json.dumps, "Unknown function json.dumps"),
            (int, "Unknown function builtins.int"),
        ],
    )
    def test_what_cannot_be_saved_is_named(self, value, message, tmp_path):
        with pytest.raises(FlowFileError, match=message):
            save(Anything([value]), tmp_path / "flow")
        assert list(tmp_path.iterdir()) == []

    def test_a_traced_flow(self, tmp_path):
        with pytest.raises(FlowFileError, match="'value' is being traced"):
            jax.jit(lambda a: save(Anything(a), tmp_path / "flow"))(jnp.ones(2))


class TestPrecision:
    def test_a_64_bit_file_in_32_bits_is_rounded_with_a_warning(self, tmp_path):
        with jax.enable_x64(True):
            chain = Chain([Affine(jnp.arange(2.0)), Permute(jnp.array([1, 0]))])
            flow = Transformed(Normal(jnp.zeros(2)), chain)
            x = jr.normal(jr.key(0), (10, 2))
            expected = np.asarray(flow.log_prob(x))
            save(flow, tmp_path / "flow")
        with pytest.warns(UserWarning, match=r"holds \d+ arrays of 64 bits .*jax_enable_x64"):
            loaded = load(tmp_path / "flow")
        assert {a.dtype.name for a in jax.tree.leaves(eqx.filter(loaded, eqx.is_array))} <= {
            "float32",
            "int32",
        }
        np.testing.assert_allclose(loaded.log_prob(x), expected, rtol=1e-5)

    @pytest.mark.parametrize("value", [1e300, 2**40])
    def test_what_does_not_fit_is_refused(self, value, tmp_path):
        with jax.enable_x64(True):
            save(Anything(jnp.array([1, value])), tmp_path / "flow")
        with pytest.raises(FlowFileError, match="'value' do not fit .*jax_enable_x64"):
            load(tmp_path / "flow")

    def test_a_32_bit_file_stays_so_in_64_bits(self, tmp_path):
        save(Affine(jnp.arange(2.0)), tmp_path / "flow")
        with jax.enable_x64(True):
            assert load(tmp_path / "flow").loc.dtype == jnp.float32
