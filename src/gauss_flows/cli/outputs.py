"""Finding out before the work, not after it, that an output cannot be written."""

from __future__ import annotations

import os
from pathlib import Path

from gauss_flows.cli.errors import InputError


def check_writable(path: str | os.PathLike[str], suffixes: tuple[str, ...] = ()) -> Path:
    """Check that a file may be written.

    Args:
        path: The output file.
        suffixes: The endings it may have; any when empty.

    Returns:
        The path.

    Raises:
        InputError: If the folder is missing or closed, or the ending is not one of `suffixes`.
    """
    target = Path(path)
    if suffixes and target.suffix.lower() not in suffixes:
        raise InputError(
            f"cannot write {target}: expected a name ending in {', '.join(suffixes)}; "
            f"got '{target.suffix}'"
        )
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder")
    if not target.parent.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {target.parent}")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write {target}: the folder {target.parent} is not writable")
    return target
