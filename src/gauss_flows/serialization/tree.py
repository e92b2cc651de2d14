"""A flow as JSON and named arrays, and back, without running anything the file names.

Every value is one JSON value. None, booleans, integers, strings and finite floats stand for
themselves; all else is an object whose first key says what it is:

| first key | stands for | beside it |
|---|---|---|
| `float` | a float that JSON has no word for, as "inf" | |
| `tuple`, `list` | a tuple or list: the items | |
| `dict` | a dictionary: pairs of key and value | |
| `slice` | a slice: start, stop, step | |
| `array` | a JAX array: its name | `dtype`, `shape` |
| `numpy`, `scalar` | a numpy array or scalar: its name | `dtype`, `shape` |
| `module` | an `equinox.Module`: its class | `fields` |
| `function` | a function: its name | |
| `partial` | a `functools.partial`: its function | `args`, `keywords` |
"""

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from gauss_flows.serialization.errors import FlowFileError
from gauss_flows.serialization.registry import (
    class_name,
    class_of,
    function_name,
    function_of,
)

# bfloat16 has no numpy dtype of its own; its bits are stored.
_STORED = {"bfloat16": "uint16"}
_DTYPES = {
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "bfloat16", "float32", "float64"),
}


def encode(tree: Any) -> tuple[Any, dict[str, np.ndarray]]:
    """Take a tree apart.

    Args:
        tree: A flow, or any tree of known layers, arrays and plain values.

    Returns:
        The JSON value, and the arrays named by their place in the tree.

    Raises:
        FlowFileError: If a value is of a kind that files cannot hold; its place is named.
    """
    arrays: dict[str, np.ndarray] = {}
    return _encode(tree, "", arrays), arrays


def decode(node: Any, arrays: Mapping[str, np.ndarray]) -> tuple[Any, list[str]]:
    """Put a tree together.

    Modules are made without their ``__init__`` and given their fields, as unflattening a
    pytree does; classes and functions come from the registry alone.

    Args:
        node: The JSON value from ``encode``.
        arrays: The arrays.

    Returns:
        The tree, and the names of 64-bit arrays that were rounded because JAX runs in
        32 bits.

    Raises:
        FlowFileError: If the value does not describe a tree of these arrays.
    """
    decoder = _Decoder(arrays)
    try:
        tree = decoder.decode(node)
    except FlowFileError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as fault:
        raise FlowFileError(f"The description does not describe a flow: {fault!r}.") from fault
    if unused := arrays.keys() - decoder.used:
        raise FlowFileError(f"Arrays that the description does not name: {sorted(unused)}.")
    return tree, decoder.rounded


def _encode(value: Any, place: str, arrays: dict[str, np.ndarray]) -> Any:
    def inner(item: Any, name: object) -> Any:
        return _encode(item, f"{place}.{name}" if place else str(name), arrays)

    value = _plain_number(value)
    if value is None or type(value) in (bool, int, str):
        return value
    if type(value) is float:
        return value if math.isfinite(value) else {"float": repr(value)}
    if type(value) in (tuple, list):
        return {type(value).__name__: [inner(item, i) for i, item in enumerate(value)]}
    if type(value) is dict:
        return {"dict": [[inner(key, "key"), inner(item, key)] for key, item in value.items()]}
    if type(value) is slice:
        return {"slice": [inner(getattr(value, name), name) for name in ("start", "stop", "step")]}
    if isinstance(value, jax.Array):
        return {"array": _store(value, place, arrays), **_look(value)}
    if isinstance(value, np.ndarray):
        return {"numpy": _store(value, place, arrays), **_look(value)}
    if isinstance(value, np.generic):
        return {"scalar": _store(np.asarray(value), place, arrays), **_look(value)}
    if type(value) is functools.partial:
        return {
            "partial": inner(value.func, "func"),
            "args": inner(value.args, "args"),
            "keywords": inner(value.keywords, "keywords"),
        }
    if dataclasses.is_dataclass(value) and not isinstance(value, type):  # a module is one
        return {
            "module": _at(place, class_name, type(value)),
            "fields": {
                field.name: inner(getattr(value, field.name), field.name)
                for field in dataclasses.fields(value)
            },
        }
    if callable(value):
        return {"function": _at(place, function_name, value)}
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise FlowFileError(f"A flow file cannot hold the {kind} at '{place}'.")


def _plain_number(value: Any) -> Any:
    """What a transformation such as ``stop_gradient`` made of a number, as a number."""
    if not type(value).__module__.startswith("jax."):
        return value
    if isinstance(value, int):
        return int(value)
    return float(value) if isinstance(value, float) else value


def _at(place: str, name_of: Any, value: Any) -> str:
    try:
        return name_of(value)
    except FlowFileError as fault:
        raise FlowFileError(f"At '{place}': {fault}") from None


def _store(value: Any, place: str, arrays: dict[str, np.ndarray]) -> str:
    if isinstance(value, Tracer):
        raise FlowFileError(f"Expected a flow of concrete arrays; '{place}' is being traced.")
    if jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        raise FlowFileError(
            f"A flow file cannot hold the random key at '{place}'. Save its jax.random.key_data."
        )
    dtype = value.dtype.name
    if dtype not in _DTYPES:
        raise FlowFileError(f"Unknown dtype {dtype} at '{place}'.")
    array = np.asarray(value)
    name = place or "array"
    while name in arrays:  # keys of a dictionary may hold dots
        name += "'"
    arrays[name] = array.view(_STORED[dtype]) if dtype in _STORED else array
    return name


def _look(value: Any) -> dict[str, Any]:
    return {"dtype": value.dtype.name, "shape": list(value.shape)}


class _Decoder:
    def __init__(self, arrays: Mapping[str, np.ndarray]):
        self.arrays = arrays
        self.used: set[str] = set()
        self.rounded: list[str] = []

    def decode(self, node: Any) -> Any:
        if node is None or type(node) in (bool, int, float, str):
            return node
        if type(node) is not dict or not node:
            raise FlowFileError(f"The description holds {node!r} where a value should be.")
        kind = next(iter(node))
        read = getattr(self, f"_read_{kind}", None) if kind.isidentifier() else None
        if read is None:
            raise FlowFileError(f"The description holds an unknown kind of value, {kind!r}.")
        return read(node)

    def _read_float(self, node: dict) -> float:
        return {"inf": math.inf, "-inf": -math.inf, "nan": math.nan}[node["float"]]

    def _read_tuple(self, node: dict) -> tuple:
        return tuple(self.decode(item) for item in node["tuple"])

    def _read_list(self, node: dict) -> list:
        return [self.decode(item) for item in node["list"]]

    def _read_dict(self, node: dict) -> dict:
        return {self.decode(key): self.decode(item) for key, item in node["dict"]}

    def _read_slice(self, node: dict) -> slice:
        start, stop, step = node["slice"]
        return slice(self.decode(start), self.decode(stop), self.decode(step))

    def _read_function(self, node: dict) -> Any:
        return function_of(node["function"])

    def _read_partial(self, node: dict) -> functools.partial:
        function = self.decode(node["partial"])
        return functools.partial(
            function, *self.decode(node["args"]), **self.decode(node["keywords"])
        )

    def _read_module(self, node: dict) -> eqx.Module:
        cls = class_of(node["module"])
        names = [field.name for field in dataclasses.fields(cls)]
        if set(names) != set(node["fields"]):
            raise FlowFileError(
                f"Expected {node['module']} with the fields {', '.join(names)}; got "
                f"{', '.join(node['fields'])}. The file was written by another version of it."
            )
        module = object.__new__(cls)
        for name in names:
            object.__setattr__(module, name, self.decode(node["fields"][name]))
        return module

    def _read_numpy(self, node: dict) -> np.ndarray:
        return self._fetch(node, "numpy").copy()

    def _read_scalar(self, node: dict) -> Any:
        return self._fetch(node, "scalar")[()]

    def _read_array(self, node: dict) -> jax.Array:
        array = self._fetch(node, "array")
        dtype = jax.dtypes.canonicalize_dtype(array.dtype)
        if dtype == array.dtype:
            return jnp.array(array)
        name = node["array"]
        with np.errstate(over="ignore"):  # found below
            rounded = array.astype(dtype)
        same = np.isfinite(rounded) == np.isfinite(array) if dtype.kind == "f" else rounded == array
        if not same.all():
            raise FlowFileError(
                f"The {array.dtype} values of '{name}' do not fit {dtype}, and JAX runs in 32 "
                "bits. Load the file with jax_enable_x64."
            )
        self.rounded.append(name)
        return jnp.array(rounded)

    def _fetch(self, node: dict, kind: str) -> np.ndarray:
        name, dtype, shape = node[kind], node["dtype"], tuple(node["shape"])
        if dtype not in _DTYPES:
            raise FlowFileError(f"Unknown dtype {dtype!r} of '{name}'.")
        if name not in self.arrays:
            raise FlowFileError(f"The file has no array '{name}'.")
        array = self.arrays[name]
        if (array.dtype.name, array.shape) != (_STORED.get(dtype, dtype), shape):
            raise FlowFileError(
                f"Expected '{name}' as {dtype}{list(shape)}; got {array.dtype}{list(array.shape)}."
            )
        self.used.add(name)
        return array.view(jnp.dtype(dtype))
