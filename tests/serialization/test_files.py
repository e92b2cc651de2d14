"""A flow comes back from its file as it went in, whatever it is made of."""

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
import safetensors
from flowjax.bijections import (
    Affine,
    Chain,
    EmbedCondition,
    Flip,
    Identity,
    Indexed,
    Invert,
    LeakyTanh,
    Permute,
    Planar,
    Reshape,
    Scan,
    Vmap,
)
from flowjax.distributions import (
    Laplace,
    Logistic,
    Normal,
    StandardNormal,
    StudentT,
    Transformed,
    Uniform,
)

import gauss_flows as gf
from gauss_flows.serialization import (
    FlowFileError,
    load,
    load_metadata,
    register_function,
    register_layer,
    save,
)
from gauss_flows.training import fit_gaussianization_flow
from gauss_flows.training.epoch import split_trainable


def affine():
    return Affine(jnp.array([0.5, -1.0]), jnp.array([2.0, 0.1]))


def chain():
    permute = Permute(jnp.array([1, 0]))
    inner = Chain([Flip((2,)), Identity((2,)), LeakyTanh(3.0, (2,))])
    return Invert(Chain([affine(), permute, inner, Indexed(Affine(3.0), 1, (2,))]))


def scanned():
    return Scan(eqx.filter_vmap(Affine)(jnp.arange(6.0).reshape(3, 2)))


def embedded():
    network = eqx.nn.MLP(4, 3, 8, 2, activation=jax.nn.silu, key=jr.key(0))
    layer = Planar(jr.key(1), dim=2, cond_dim=3, negative_slope=0.1, width_size=4, depth=1)
    return Invert(EmbedCondition(layer, network, (4,)))


FLOWJAX = {
    "affine": lambda: Transformed(Normal(jnp.zeros(2)), affine()),
    "chain": lambda: Transformed(StandardNormal((2,)), chain()),
    "scan": lambda: Transformed(Normal(jnp.zeros(2), jnp.ones(2)), scanned()),
    "vmap": lambda: Transformed(
        Normal(jnp.zeros(2)), Vmap(eqx.filter_vmap(Affine)(jnp.ones(2)), in_axes=eqx.if_array(0))
    ),
    "condition": lambda: Transformed(Normal(jnp.zeros(2)), embedded()),
    "reshape": lambda: Transformed(Normal(jnp.zeros(2)), Reshape(Affine(jnp.zeros((2, 1))), (2,))),
    "laplace": lambda: Laplace(jnp.arange(2.0)),
    "logistic": lambda: Logistic(jnp.arange(2.0)),
    "student": lambda: StudentT(jnp.full(2, 4.0)),
    "uniform": lambda: Uniform(jnp.zeros(2), jnp.full(2, 9.0)),
    "nested": lambda: Transformed(Transformed(Normal(jnp.zeros(2)), affine()), chain()),
    "frozen": lambda: Transformed(
        paramax.non_trainable(Normal(jnp.zeros(2))), paramax.NonTrainable(affine())
    ),
}
SIZES = {"n_dims": 3, "n_layers": 2, "nn_width": 5}
OURS = {
    "diagonal": lambda **more: gf.gaussianization_flow(jr.key(0), **SIZES, **more),
    "spline": lambda **more: gf.coupling_gaussianization_flow(jr.key(0), **SIZES, **more),
    "mixture": lambda **more: gf.mixture_coupling_flow(jr.key(0), **SIZES, **more),
    "affine coupling": lambda **more: gf.affine_coupling_flow(jr.key(0), **SIZES, **more),
}


def same_to_the_bit(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if isinstance(one, jax.Array | np.ndarray | np.generic):
            assert type(one) is type(other)
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        elif isinstance(one, functools.partial):
            assert (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
        else:
            assert type(one) is type(other)
            assert one == other or (one != one and other != other)


def round_trip(flow, path):
    save(flow, path)
    loaded = load(path)
    same_to_the_bit(flow, loaded)
    return loaded


class TestRoundTrip:
    @pytest.mark.parametrize("name", FLOWJAX)
    def test_flowjax(self, name, tmp_path, precision):
        flow = FLOWJAX[name]()
        loaded = round_trip(flow, tmp_path / "flow")
        shape = flow.cond_shape and (20, *flow.cond_shape)
        condition = shape and jr.normal(jr.key(1), shape)
        x = jr.normal(jr.key(0), (20, 2))
        if name == "frozen":
            flow, loaded = paramax.unwrap(flow), paramax.unwrap(loaded)
        np.testing.assert_array_equal(loaded.log_prob(x, condition), flow.log_prob(x, condition))

    @pytest.mark.parametrize("cond_dim", [None, 2])
    @pytest.mark.parametrize("name", OURS)
    def test_ours(self, name, cond_dim, tmp_path):
        flow = OURS[name](cond_dim=cond_dim)
        loaded = round_trip(flow, tmp_path / "flow")
        x = jr.normal(jr.key(0), (20, 3))
        condition = None if cond_dim is None else jr.normal(jr.key(1), (20, cond_dim))
        np.testing.assert_array_equal(loaded.log_prob(x, condition), flow.log_prob(x, condition))

    @pytest.mark.parametrize("rotation", ["cayley", "exponential", "random", "lu", "permute"])
    def test_our_rotations(self, rotation, tmp_path, precision):
        flow = gf.gaussianization_flow(jr.key(0), n_dims=3, n_layers=2, rotation=rotation)
        loaded = round_trip(flow, tmp_path / "flow")
        for layer, other in zip(
            flow.bijection.bijection.bijections, loaded.bijection.bijection.bijections, strict=True
        ):
            same_to_the_bit(layer, other)

    def test_every_exported_layer_is_known(self):
        from gauss_flows.bijections import __all__
        from gauss_flows.serialization.registry import class_name, class_of

        classes = [getattr(gf, name) for name in __all__ if isinstance(getattr(gf, name), type)]
        assert classes
        for cls in classes:
            assert class_of(class_name(cls)) is cls

    def test_after_training_and_training_on(self, tmp_path):
        """What is fixed stays fixed, and both copies learn the same."""
        x = np.random.default_rng(0).normal(size=(60, 3))
        options = {"max_epochs": 2, "show_progress": False}
        flow, _ = fit_gaussianization_flow(jr.key(1), OURS["diagonal"](), x, **options)
        loaded = round_trip(flow, tmp_path / "flow")
        same_to_the_bit(split_trainable(flow), split_trainable(loaded))
        first, second = (
            fit_gaussianization_flow(jr.key(2), one, x, **options) for one in (flow, loaded)
        )
        same_to_the_bit(first[0], second[0])
        assert first[1] == second[1]

    def test_frozen_stays_frozen(self, tmp_path):
        loaded = round_trip(FLOWJAX["frozen"](), tmp_path / "flow")
        assert isinstance(loaded.bijection, paramax.NonTrainable)
        assert jax.tree.leaves(split_trainable(loaded)[0]) == []

    def test_a_bijection_alone(self, tmp_path):
        round_trip(affine(), tmp_path / "flow")


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
            {"a.b": 1, 3: {"tuple": [1]}, (1, 2): None, None: 1.5},
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
        ids=repr,
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
        "bool int8 int16 int32 uint8 uint16 uint32 float16 bfloat16 float32".split(),
    )
    @pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)])
    def test_arrays(self, dtype, shape, tmp_path):
        bits = np.random.default_rng(0).integers(0, 256, (*shape, jnp.dtype(dtype).itemsize))
        array = bits.astype(np.uint8).view(np.uint8) % (2 if dtype == "bool" else 256)
        array = np.ascontiguousarray(array.astype(np.uint8)).view(jnp.dtype(dtype))[..., 0]
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
            flow = Transformed(Normal(jnp.zeros(2)), chain())
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
        save(affine(), tmp_path / "flow")
        with jax.enable_x64(True):
            assert load(tmp_path / "flow").loc.dtype == jnp.float32


class TestMetadata:
    def test_comes_back(self, tmp_path):
        metadata = {"columns": ["a", "b"], "mean": [0.1, -2.5], "n": 3, "none": None, "é": {}}
        save(affine(), tmp_path / "flow", metadata)
        assert load_metadata(tmp_path / "flow") == metadata
        save(affine(), tmp_path / "flow")
        assert load_metadata(tmp_path / "flow") == {}

    def test_cannot_pass_for_the_checksum(self, tmp_path):
        metadata = {"sha256": "0" * 64, "kind": "x", "__metadata__": {"gauss_flows": "1"}}
        save(affine(), tmp_path / "flow", metadata)
        assert load_metadata(tmp_path / "flow") == metadata
        load(tmp_path / "flow")

    @pytest.mark.parametrize(
        "metadata", [{"a": object()}, {"a": np.float32(1)}, {1: "a"}, ["a"], {"a": {(1, 2): 3}}]
    )
    def test_what_json_cannot_hold(self, metadata, tmp_path):
        with pytest.raises(FlowFileError, match="Expected metadata"):
            save(affine(), tmp_path / "flow", metadata)

    def test_a_circle(self, tmp_path):
        circle = {}
        circle["circle"] = circle
        with pytest.raises(FlowFileError, match="Circular"):
            save(affine(), tmp_path / "flow", circle)


class TestPaths:
    def test_strings_and_relative_paths(self, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        round_trip(affine(), "flow.safetensors")
        round_trip(affine(), str(tmp_path / "other"))

    def test_a_missing_folder(self, tmp_path):
        with pytest.raises(FlowFileError, match=r"Expected an existing folder .*none/flow"):
            save(affine(), tmp_path / "none" / "flow")

    def test_a_folder(self, tmp_path):
        with pytest.raises(FlowFileError, match="got the folder"):
            save(affine(), tmp_path)
        with pytest.raises(FlowFileError, match="cannot be read"):
            load(tmp_path)

    def test_no_flow(self, tmp_path):
        with pytest.raises(FlowFileError, match="Expected a flow; got dict"):
            save({"a": jnp.ones(2)}, tmp_path / "flow")

    def test_a_failed_write_leaves_the_old_file(self, tmp_path, monkeypatch):
        from gauss_flows.training import atomic_file

        path = tmp_path / "flow"
        save(affine(), path)
        before = path.read_bytes()

        def fail(*args):
            raise OSError("disk full")

        monkeypatch.setattr(atomic_file.os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            save(chain(), path)
        with pytest.raises(FlowFileError):
            save(Anything(object()), path)
        assert path.read_bytes() == before
        assert list(tmp_path.iterdir()) == [path]

    def test_the_same_flow_gives_the_same_bytes(self, tmp_path):
        for name in ("a", "b"):
            save(chain(), tmp_path / name, {"x": 1})
        assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()

    def test_any_safetensors_reader_reads_it(self, tmp_path):
        path = tmp_path / "flow"
        save(FLOWJAX["affine"](), path)
        with safetensors.safe_open(path, framework="numpy") as file:
            np.testing.assert_array_equal(file.get_tensor("bijection.loc"), affine().loc)
            description = json.loads(file.metadata()["gauss_flows"])
        assert description["kind"] == "flow"
        assert description["library"] == gf.__version__
