"""A flow comes back from its file as it went in, whatever it is made of."""

import json

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
    save,
)
from gauss_flows.training import fit_gaussianization_flow
from gauss_flows.training.epoch import split_trainable
from serialization.same import round_trip, same_to_the_bit


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
        paramax.non_trainable(Normal(jnp.zeros(2))), paramax.non_trainable(affine())
    ),
}
SIZES = {"n_dims": 3, "n_layers": 2, "nn_width": 5}
OURS = {
    "diagonal": lambda **more: gf.gaussianization_flow(jr.key(0), **SIZES, **more),
    "spline": lambda **more: gf.coupling_gaussianization_flow(jr.key(0), **SIZES, **more),
    "mixture": lambda **more: gf.mixture_coupling_flow(jr.key(0), **SIZES, **more),
    "affine coupling": lambda **more: gf.affine_coupling_flow(jr.key(0), **SIZES, **more),
}


@eqx.filter_jit
def log_prob(flow, x, condition):
    return flow.log_prob(x, condition)


class TestRoundTrip:
    @pytest.mark.parametrize("name", FLOWJAX)
    def test_flowjax(self, name, tmp_path, precision):
        flow = FLOWJAX[name]()
        loaded = round_trip(flow, tmp_path / "flow")
        shape = flow.cond_shape and (20, *flow.cond_shape)
        condition = shape and jr.normal(jr.key(1), shape)
        x = jr.normal(jr.key(0), (20, 2))
        np.testing.assert_array_equal(log_prob(loaded, x, condition), log_prob(flow, x, condition))

    @pytest.mark.parametrize("cond_dim", [None, 2])
    @pytest.mark.parametrize("name", OURS)
    def test_ours(self, name, cond_dim, tmp_path):
        flow = OURS[name](cond_dim=cond_dim)
        loaded = round_trip(flow, tmp_path / "flow")
        x = jr.normal(jr.key(0), (20, 3))
        condition = None if cond_dim is None else jr.normal(jr.key(1), (20, cond_dim))
        np.testing.assert_array_equal(log_prob(loaded, x, condition), log_prob(flow, x, condition))

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

    @pytest.mark.parametrize(
        "bijection", [paramax.non_trainable(affine()), Chain([paramax.NonTrainable(affine())])]
    )
    def test_frozen_stays_frozen(self, bijection, tmp_path):
        flow = Transformed(paramax.non_trainable(Normal(jnp.zeros(2))), bijection)
        loaded = round_trip(flow, tmp_path / "flow")
        assert jax.tree.leaves(split_trainable(loaded)[0]) == []

    def test_a_bijection_alone(self, tmp_path):
        round_trip(affine(), tmp_path / "flow")


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
            save(eqx.nn.Lambda(json.dumps), path)
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
