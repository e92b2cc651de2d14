"""Saving a flow to one file and loading it."""

import json
import os
import warnings
from collections.abc import Mapping
from typing import Any

import equinox as eqx

from gauss_flows.serialization.errors import FlowFileError
from gauss_flows.serialization.tree import decode, encode
from gauss_flows.training.tensor_file import TensorFormat

_FORMAT = TensorFormat(kind="flow", version=1, error=FlowFileError)


def save(
    flow: eqx.Module,
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any] | None = None,
) -> None:
    """Save a flow to one file.

    The file is in the safetensors format: the arrays, named by their place in the flow,
    and a description of classes and plain values, with a checksum over all of it. A flow
    of this library, or of flowjax layers that it knows, can be saved; a class of your own
    must be given to ``register_layer`` first.

    Args:
        flow: The flow.
        path: The file to write. An existing one is replaced as a whole or not at all.
        metadata: What JSON can hold, by name, to be kept in the file: column names, say.

    Raises:
        FlowFileError: If the flow holds something that a file cannot, the metadata is not
            JSON, or the folder does not exist.
        OSError: If the system refuses to write.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from flowjax.distributions import Normal
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "flow.safetensors"
        >>> save(Normal(jnp.arange(2.0)), path, {"columns": ["a", "b"]})
        >>> load(path).loc
        Array([0., 1.], dtype=float32)
        >>> load_metadata(path)
        {'columns': ['a', 'b']}
    """
    if not isinstance(flow, eqx.Module):
        raise FlowFileError(f"Expected a flow; got {type(flow).__name__}.")
    tree, arrays = encode(flow)
    content = {"tree": tree, "metadata": _checked_metadata(metadata)}
    _FORMAT.write(path, arrays, content)


def load(path: str | os.PathLike[str]) -> Any:
    """Load a flow that ``save`` wrote.

    Nothing in the file is executed: classes and functions are looked up in a fixed list
    and in what ``register_layer`` and ``register_function`` were given.

    Args:
        path: The file.

    Returns:
        The flow, with the arrays bit for bit as they were saved. If it was saved with
        64-bit arrays and JAX runs in 32 bits, they are rounded with a warning.

    Raises:
        FlowFileError: If the file is missing, not a flow file, truncated, altered, of a
            newer version, or holds a layer type or dtype that is not known.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp, jax.random as jr
        >>> import gauss_flows as gf
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "flow.gf"
        >>> flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=2)
        >>> gf.save(flow, path)
        >>> x = jnp.array([0.5, 1.0])
        >>> bool(gf.load(path).log_prob(x) == flow.log_prob(x))
        True
    """
    arrays, content = _FORMAT.read(path)
    try:
        tree, rounded = decode(content["tree"], arrays)
    except FlowFileError as fault:
        raise FlowFileError(f"{path} cannot be loaded: {fault}") from fault
    if not isinstance(tree, eqx.Module):
        raise FlowFileError(f"{path} cannot be loaded: it holds a {type(tree).__name__}, no flow.")
    if rounded:
        warnings.warn(
            f"{path} holds {len(rounded)} arrays of 64 bits ('{rounded[0]}' is the first), and "
            "JAX runs in 32 bits: they are rounded. Load it with jax_enable_x64 for every digit.",
            stacklevel=2,
        )
    return tree


def load_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Load only the metadata that was given to ``save``.

    Args:
        path: The file.

    Returns:
        The metadata, as JSON gives it back: tuples have become lists. Empty if there was
        none.

    Raises:
        FlowFileError: If the file is missing, not a flow file, truncated, altered, or of
            a newer version.

    Example:
        >>> import pathlib, tempfile
        >>> import jax.numpy as jnp
        >>> from flowjax.distributions import Normal
        >>> path = pathlib.Path(tempfile.mkdtemp()) / "flow.gf"
        >>> save(Normal(jnp.zeros(2)), path, {"unit": "mm"})
        >>> load_metadata(path)
        {'unit': 'mm'}
    """
    _, content = _FORMAT.read(path)
    return content["metadata"]


def _checked_metadata(metadata: Mapping[str, Any] | None) -> dict[str, Any]:
    metadata = {} if metadata is None else metadata
    if not isinstance(metadata, Mapping) or not all(isinstance(name, str) for name in metadata):
        raise FlowFileError("Expected metadata to be a dictionary with strings as keys.")
    try:
        return json.loads(json.dumps(dict(metadata)))
    except (TypeError, ValueError, RecursionError) as fault:
        raise FlowFileError(f"Expected metadata that JSON can hold; {fault}.") from fault
