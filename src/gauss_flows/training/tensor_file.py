"""One safetensors file of named arrays with a JSON description and a checksum.

The layout is plain safetensors: eight bytes with the header's length, a JSON header, the
arrays' bytes. The header's metadata holds one entry, a JSON object whose first item is the
SHA-256 of the whole file, computed with that digest blanked. It therefore stands at a
fixed place, and a change of any byte of the file is seen.
"""

import hashlib
import json
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from gauss_flows._version import __version__
from gauss_flows.training.atomic_file import write_atomically

_MAGIC = b'{"__metadata__":{"gauss_flows":"{\\"sha256\\":\\"'
_DIGEST = slice(8 + len(_MAGIC), 8 + len(_MAGIC) + 64)
_BLANK = "0" * 64
_DTYPE_NAMES = {
    "bool": "BOOL",
    "int8": "I8",
    "int16": "I16",
    "int32": "I32",
    "int64": "I64",
    "uint8": "U8",
    "uint16": "U16",
    "uint32": "U32",
    "uint64": "U64",
    "float16": "F16",
    "float32": "F32",
    "float64": "F64",
}


@dataclass(frozen=True)
class TensorFormat:
    """A kind of file: its name, the version this library writes, and its error.

    Args:
        kind: What the file holds, such as "flow"; a file of another kind is refused.
        version: The version written. Files of this version and older ones are read.
        error: Raised with one clear sentence for every file that cannot be used.
    """

    kind: str
    version: int
    error: type[ValueError]

    def write(
        self,
        path: str | os.PathLike[str],
        arrays: Mapping[str, np.ndarray],
        description: Mapping[str, Any],
    ) -> None:
        """Write arrays and description; the file appears whole or not at all.

        Args:
            path: The file to write or replace.
            arrays: Named numpy arrays of boolean, integer or real dtype.
            description: What JSON can hold, by name.

        Raises:
            ValueError: The format's error, if the folder is missing or the path is one.
            OSError: If the system refuses to write.
        """
        target = Path(path)
        if not target.absolute().parent.is_dir():
            raise self.error(
                f"Expected an existing folder to write the {self.kind} file into; got {target}."
            )
        if target.is_dir():
            raise self.error(f"Expected the path of a {self.kind} file; got the folder {target}.")
        envelope = {"kind": self.kind, "version": self.version, "library": __version__}
        write_atomically(target, _encode(arrays, {**envelope, "content": description}))

    def read(self, path: str | os.PathLike[str]) -> tuple[dict[str, np.ndarray], Any]:
        """Read and check a file.

        Args:
            path: The file to read.

        Returns:
            The arrays by name, and the description.

        Raises:
            ValueError: The format's error, if the file is missing, of another kind,
                truncated, altered or of a newer version.
        """
        try:
            data = Path(path).read_bytes()
        except FileNotFoundError:
            raise self.error(f"Expected a {self.kind} file; there is no file {path}.") from None
        except OSError as fault:
            raise self.error(
                f"Expected a readable {self.kind} file; {path} cannot be read: {fault.strerror}."
            ) from fault
        return self._decode(data, path)

    def _decode(self, data: bytes, path: object) -> tuple[dict[str, np.ndarray], Any]:
        start = data[8 : 8 + len(_MAGIC)]
        if not start or not _MAGIC.startswith(start):
            raise self.error(
                f"Expected a gauss-flows {self.kind} file; {path} is not one "
                f"({len(data)} bytes{', too few for any' if len(data) <= 8 else ''})."
            )
        altered = f"{path} is altered or damaged: its content does not match its checksum."
        truncated = f"{path} is truncated: {len(data)} bytes are left of it."
        (length,) = struct.unpack("<Q", data[:8])
        if 8 + length > len(data):
            raise self.error(truncated)
        try:
            header = json.loads(data[8 : 8 + length])
            envelope = json.loads(header.pop("__metadata__")["gauss_flows"])
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
            kind, version = str(envelope["kind"]), int(envelope["version"])
            missing = 8 + length + int(end) - len(data)
        except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
            raise self.error(altered) from None
        if missing > 0:
            raise self.error(truncated)
        # Before the checksum: a later version may compute another one.
        if version > self.version:
            raise self.error(
                f"{path} is a {kind} file of version {version}, written by gauss-flows "
                f"{envelope.get('library')}; this library ({__version__}) reads up to version "
                f"{self.version}. Install a newer gauss-flows to read it."
            )
        if _digest(data).encode() != data[_DIGEST]:
            raise self.error(altered)
        if kind != self.kind:
            raise self.error(f"Expected a {self.kind} file; {path} holds a {kind}.")
        try:
            return safetensors.numpy.load(data), envelope["content"]
        except (SafetensorError, KeyError) as fault:
            raise self.error(f"{path} does not follow its own format: {fault}.") from fault


def _encode(arrays: Mapping[str, np.ndarray], envelope: Mapping[str, Any]) -> bytes:
    # Widest first, so that every array starts at a multiple of its item size.
    names = sorted(arrays, key=lambda name: -arrays[name].dtype.itemsize)
    metadata = json.dumps({"sha256": _BLANK, **envelope}, separators=(",", ":"))
    header: dict[str, Any] = {"__metadata__": {"gauss_flows": metadata}}
    chunks, offset = [], 0
    for name in names:
        array = arrays[name]
        chunk = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False).tobytes()
        header[name] = {
            "dtype": _DTYPE_NAMES[array.dtype.name],
            "shape": list(array.shape),
            "data_offsets": [offset, offset + len(chunk)],
        }
        chunks.append(chunk)
        offset += len(chunk)
    encoded = json.dumps(header, separators=(",", ":")).encode()
    encoded += b" " * (-len(encoded) % 8)
    data = b"".join([struct.pack("<Q", len(encoded)), encoded, *chunks])
    return b"".join([data[: _DIGEST.start], _digest(data).encode(), data[_DIGEST.stop :]])


def _digest(data: bytes) -> str:
    digest = hashlib.sha256(data[: _DIGEST.start])
    digest.update(_BLANK.encode())
    digest.update(memoryview(data)[_DIGEST.stop :])
    return digest.hexdigest()
