"""Files that are damaged, foreign, newer, or made with ill intent."""

import hashlib
import importlib
import json
import os
import pickle
import struct
import subprocess

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import safetensors.numpy
from flowjax.bijections import Affine, Chain, Permute
from flowjax.distributions import Normal, Transformed

from gauss_flows.serialization import (
    FlowFileError,
    load,
    load_metadata,
    register_function,
    register_layer,
    save,
)
from gauss_flows.serialization import registry as registered
from gauss_flows.serialization.tree import decode
from gauss_flows.training import fit_gaussianization_flow


@pytest.fixture
def path(tmp_path):
    """A good file."""
    layers = Chain([Affine(jnp.arange(2.0)), Permute(jnp.array([1, 0]))])
    save(Transformed(Normal(jnp.zeros(2)), layers), tmp_path / "flow", {"columns": ["a", "b"]})
    return tmp_path / "flow"


def rewrite(path, change, *, reseal=True):
    """Change the description and, as a forger would, set the checksum right again."""
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    envelope = json.loads(header["__metadata__"]["gauss_flows"])
    change(envelope, header)
    if reseal:
        envelope["sha256"] = "0" * 64
    header["__metadata__"]["gauss_flows"] = json.dumps(envelope, separators=(",", ":"))
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    data = struct.pack("<Q", len(text)) + text + data[8 + length :]
    if reseal:
        data = data.replace(b"0" * 64, hashlib.sha256(data).hexdigest().encode(), 1)
    path.write_bytes(data)


def forge(path, tree):
    rewrite(path, lambda envelope, _: envelope["content"].update(tree=tree))


class TestDamage:
    def test_every_changed_byte_is_seen(self, path):
        good = path.read_bytes()
        for place in [*range(0, len(good), 7), *range(120), len(good) - 1]:
            for flip in (1, 0x20, 0xFF):
                data = bytearray(good)
                data[place] ^= flip
                path.write_bytes(data)
                with pytest.raises(FlowFileError):
                    load(path)
        path.write_bytes(good)
        load(path)

    def test_every_length_is_seen(self, path):
        good = path.read_bytes()
        for length in [*range(0, len(good), 13), *range(70), len(good) - 1]:
            path.write_bytes(good[:length])
            with pytest.raises(FlowFileError):
                load(path)
            with pytest.raises(FlowFileError):
                load_metadata(path)

    @pytest.mark.parametrize("left", [0.2, 0.5, 0.99])
    def test_a_truncated_file_is_called_so(self, path, left):
        data = path.read_bytes()
        path.write_bytes(data[: int(left * len(data))])
        with pytest.raises(FlowFileError, match="is truncated"):
            load(path)

    def test_an_altered_file_is_called_so(self, path):
        data = bytearray(path.read_bytes())
        data[-3] ^= 1
        path.write_bytes(data)
        with pytest.raises(FlowFileError, match="is altered or damaged"):
            load(path)
        with pytest.raises(FlowFileError, match="is altered or damaged"):
            load_metadata(path)

    def test_bytes_added_or_arrays_swapped(self, path):
        good = path.read_bytes()
        path.write_bytes(good + b"\0")
        with pytest.raises(FlowFileError, match="altered"):
            load(path)
        path.write_bytes(good)

        def swap(envelope, header):
            names = [name for name in header if name.endswith("loc")]
            header[names[0]], header[names[1]] = header[names[1]], header[names[0]]

        rewrite(path, swap, reseal=False)
        with pytest.raises(FlowFileError, match="altered"):
            load(path)

    def test_metadata_edited_by_hand(self, path):
        rewrite(path, lambda e, _: e["content"].update(metadata={"columns": []}), reseal=False)
        with pytest.raises(FlowFileError, match="altered"):
            load_metadata(path)


class TestForeign:
    @pytest.mark.parametrize(
        "content",
        [
            b"",
            b"x",
            b"\0" * 8,
            b"\0" * 1000,
            b"a,b\n1,2\n" * 50,
            pickle.dumps({"a": np.ones(3)}),
            safetensors.numpy.save({"a": np.ones(3)}),
            safetensors.numpy.save({"a": np.ones(3)}, {"gauss_flows": "{}"}),
            b"\xff" * 8 + b'{"__metadata__":{"gauss_flows":"{\\"sha256\\":\\"',
        ],
    )
    def test_other_files(self, path, content):
        path.write_bytes(content)
        for read in (load, load_metadata):
            with pytest.raises(FlowFileError, match="is not one|truncated|altered"):
                read(path)

    def test_a_missing_file(self, tmp_path):
        with pytest.raises(FlowFileError, match="there is no file .*none"):
            load(tmp_path / "none")
        with pytest.raises(FlowFileError, match="there is no file"):
            load(tmp_path / "no folder" / "none")

    def test_a_training_checkpoint(self, tmp_path):
        flow = Transformed(Normal(jnp.zeros(2)), Affine(jnp.zeros(2)))
        fit_gaussianization_flow(
            jr.key(0),
            flow,
            np.ones((5, 2)) * np.arange(5)[:, None],
            max_epochs=1,
            checkpoint_dir=tmp_path,
            show_progress=False,
        )
        (file,) = tmp_path.iterdir()
        with pytest.raises(FlowFileError, match="Expected a flow file.*a training checkpoint"):
            load(file)

    def test_a_newer_version(self, path):
        rewrite(path, lambda envelope, _: envelope.update(version=2, library="9.9"))
        with pytest.raises(FlowFileError, match=r"version 2, written by gauss-flows 9\.9.*up to"):
            load(path)
        # A later format may be sealed in another way.
        rewrite(path, lambda envelope, _: envelope.update(sha256="f" * 64), reseal=False)
        with pytest.raises(FlowFileError, match="Install a newer gauss-flows"):
            load_metadata(path)

    def test_fields_of_another_version_of_a_class(self, path):
        def rename(envelope, _):
            fields = envelope["content"]["tree"]["fields"]
            fields["base"] = fields.pop("base_dist")

        rewrite(path, rename)
        with pytest.raises(FlowFileError, match="Transformed with the fields base_dist, bijection"):
            load(path)


class Unregistered(eqx.Module):
    value: int = 3


class TestIllIntent:
    """Files with a right checksum, since anyone can compute one."""

    @pytest.mark.parametrize(
        "name",
        [
            "os.system",
            "builtins.eval",
            "builtins.exec",
            "subprocess.Popen",
            "equinox.Module",
            "equinox._module.Module",
            "gauss_flows.serialization.files.save",
            "flowjax.bijections.Nothing",
            "../../etc/passwd",
            "",
            "__import__",
            "__class__",
        ],
    )
    def test_only_known_names_are_looked_up(self, path, name, monkeypatch):
        def fail(*args, **kwargs):
            raise AssertionError("a name of the file was imported or run")

        load(path)  # the lists are made on first use
        forge(path, {"module": name, "fields": {}})
        monkeypatch.setattr(os, "system", fail)
        monkeypatch.setattr(subprocess, "Popen", fail)
        monkeypatch.setattr(importlib, "import_module", fail)
        with pytest.raises(FlowFileError, match="Unknown layer type.*register_layer"):
            load(path)
        forge(path, {"module": "paramax.NonTrainable", "fields": {"tree": {"function": name}}})
        with pytest.raises(FlowFileError, match="Unknown function.*register_function"):
            load(path)

    def test_an_unregistered_class_is_named_and_not_made(self, path):
        tree = {"module": f"{__name__}.Unregistered", "fields": {"value": 3}}
        forge(path, tree)
        with pytest.raises(FlowFileError, match=r"Unknown layer type .*Unregistered.*register_la"):
            load(path)
        with pytest.raises(FlowFileError, match="Unregistered"):
            save(Unregistered(), path)

    @pytest.mark.parametrize(
        "tree",
        [
            None,
            3,
            [],
            {},
            "flow",
            {"what": 1},
            {"__class__": 1},
            {"module": ["a"], "fields": {}},
            {"module": "paramax.NonTrainable"},
            {"module": "paramax.NonTrainable", "fields": []},
            {"module": "paramax.NonTrainable", "fields": {"tree": [1]}},
            {"module": "paramax.NonTrainable", "fields": {"tree": {"float": "1; import os"}}},
            {"module": "paramax.NonTrainable", "fields": {"tree": {"tuple": 3}}},
            {"module": "paramax.NonTrainable", "fields": {"tree": {"slice": [1]}}},
            {"module": "paramax.NonTrainable", "fields": {"tree": {"dict": [[{"list": []}, 1]]}}},
            {"module": "paramax.NonTrainable", "fields": {"tree": {"array": "none"}}},
            {
                "module": "paramax.NonTrainable",
                "fields": {"tree": {"array": "no", "dtype": "float32", "shape": []}},
            },
            {
                "module": "paramax.NonTrainable",
                "fields": {"tree": {"array": "../x", "dtype": "object", "shape": []}},
            },
            {"module": "flowjax.bijections.AbstractBijection", "fields": {}},
        ],
        ids=str,
    )
    def test_a_description_of_nothing(self, path, tree):
        forge(path, tree)
        with pytest.raises(FlowFileError):
            load(path)

    @pytest.mark.parametrize("opening", ["[", '{\\"tuple\\":['])
    def test_a_description_nested_without_end(self, path, opening):
        closing = "]}" if "tuple" in opening else "]"
        deep = opening * 100_000 + "1" + closing * 100_000
        forge(path, "DEEP")
        data = path.read_bytes()
        (length,) = struct.unpack("<Q", data[:8])
        text = data[8 : 8 + length].replace(b'\\"DEEP\\"', deep.encode())
        path.write_bytes(struct.pack("<Q", len(text)) + text + data[8 + length :])
        with pytest.raises(FlowFileError):
            load(path)

    def test_a_tree_too_deep_to_build(self):
        tree = 1
        for _ in range(100_000):
            tree = {"tuple": [tree]}
        with pytest.raises(FlowFileError, match="RecursionError"):
            decode(tree, {})

    @pytest.mark.parametrize(
        "change",
        [
            {"dtype": "int32"},
            {"dtype": "complex64"},
            {"shape": [3]},
            {"shape": [1, 2]},
            {"array": "bijection.bijections.1.permutation.0"},
        ],
        ids=str,
    )
    def test_an_array_of_another_look(self, path, change):
        def edit(envelope, _):
            chain = envelope["content"]["tree"]["fields"]["bijection"]["fields"]
            chain["bijections"]["tuple"][0]["fields"]["loc"].update(change)

        rewrite(path, edit)
        with pytest.raises(FlowFileError, match=r"Expected '|Unknown dtype"):
            load(path)

    def test_an_array_that_nothing_names(self, path):
        def edit(envelope, _):
            chain = envelope["content"]["tree"]["fields"]["bijection"]["fields"]
            chain["bijections"]["tuple"][0]["fields"]["loc"] = 1.0

        rewrite(path, edit)
        with pytest.raises(FlowFileError, match=r"does not name: \['bijection.bijections.0.loc'\]"):
            load(path)

    def test_a_dtype_that_is_not_known(self, path):
        def edit(envelope, header):
            for name, entry in header.items():
                if name.endswith("loc"):
                    entry["dtype"] = "F8_E4M3"

        rewrite(path, edit)
        with pytest.raises(FlowFileError, match="does not follow its own format"):
            load(path)

    def test_overlapping_arrays(self, path):
        def edit(envelope, header):
            names = [name for name in header if name.endswith("loc")]
            header[names[0]]["data_offsets"] = header[names[1]]["data_offsets"]

        rewrite(path, edit)
        with pytest.raises(FlowFileError):
            load(path)

    def test_names_like_paths_are_only_names(self, tmp_path):
        """An array's name is a key in a dictionary, whatever it looks like."""
        folder = tmp_path / "in"
        folder.mkdir()
        module = Keyed({"../../out": jnp.ones(2), "/etc/x": jnp.zeros(1), "a\0b": jnp.ones(1)})
        save(module, folder / "flow")
        assert eqx.tree_equal(load(folder / "flow"), module)
        assert sorted(tmp_path.rglob("*")) == [folder, folder / "flow"]


@register_layer
class Keyed(eqx.Module):
    arrays: dict


class TestRegistration:
    def test_a_conditioner_of_one_s_own(self, tmp_path, monkeypatch):
        @register_layer
        class Mine(eqx.Module):
            weight: jnp.ndarray
            activation: object

            def __init__(self):
                raise AssertionError("__init__ ran")

        module = object.__new__(Mine)
        object.__setattr__(module, "weight", jnp.ones(3))
        object.__setattr__(module, "activation", jnp.tanh)
        save(module, tmp_path / "flow")
        loaded = load(tmp_path / "flow")
        assert type(loaded) is Mine
        assert loaded.activation is jnp.tanh
        name = f"{Mine.__module__}.{Mine.__qualname__}"
        monkeypatch.delitem(registered._registered_classes, name)
        with pytest.raises(FlowFileError, match=r"Mine.*register_layer before saving and before"):
            load(tmp_path / "flow")

    @pytest.mark.parametrize("cls", [int, dict, 3, "Affine", lambda x: x])
    def test_only_modules(self, cls):
        with pytest.raises(ValueError, match="Expected an equinox.Module class"):
            register_layer(cls)

    @pytest.mark.parametrize("function", [3, "tanh", lambda x: x, int])
    def test_only_named_functions(self, function):
        with pytest.raises(ValueError, match="Expected a function with a name"):
            register_function(function)

    def test_the_library_s_names_are_taken(self):
        class Impostor(eqx.Module):
            pass

        Impostor.__module__, Impostor.__qualname__ = "flowjax.bijections", "Affine"
        with pytest.raises(ValueError, match="Expected a name that the library does not use"):
            register_layer(Impostor)

        def tanh(x):
            return x

        tanh.__module__, tanh.__qualname__ = "jax.nn", "tanh"
        with pytest.raises(ValueError, match="Expected a name that the library does not use"):
            register_function(tanh)

    def test_again_after_a_change(self):
        """As when a notebook's cell is run twice."""
        for _ in range(2):

            @register_layer
            class Again(eqx.Module):
                pass

            name = f"{Again.__module__}.{Again.__qualname__}"
            assert registered.class_of(name) is Again
