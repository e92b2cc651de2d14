"""Finding out before the work, not after it, that an output must not or cannot be written."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from gauss_flows.cli.errors import InputError


def check_writable(
    path: str | os.PathLike[str], suffixes: tuple[str, ...] = (), *, not_ending: Sequence[str] = ()
) -> Path:
    """Check that a file may be written.

    Args:
        path: The output file.
        suffixes: The endings it may have; any when empty.
        not_ending: Endings it may not have.

    Returns:
        The path.

    Raises:
        InputError: If the folder is missing or closed, the ending is wrong, or something is there
            that is no regular file, such as a device, which must never be replaced.
    """
    target = Path(path)
    ending = target.suffix.lower()
    if suffixes and ending not in suffixes:
        raise InputError(
            f"cannot write {target}: expected a name ending in {', '.join(suffixes)}; "
            f"got '{target.suffix}'"
        )
    if ending in not_ending:
        raise InputError(
            f"cannot write {target}: expected a name for a flow, such as "
            f"{target.with_suffix('.gf')}; got '{target.suffix}', which is another kind of file"
        )
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder")
    if target.exists() and not target.is_file():
        raise InputError(
            f"cannot write {target}: expected a new name or a regular file to replace; "
            "got a device or a pipe"
        )
    # The file is renamed into the folder that a link leads to, not into the link's own.
    folder = Path(os.path.realpath(target)).parent if target.is_symlink() else target.parent
    if not folder.is_dir():
        raise InputError(f"cannot write {target}: there is no folder {folder}")
    if not os.access(folder, os.W_OK):
        raise InputError(f"cannot write {target}: the folder {folder} is not writable")
    return target


def check_apart(outputs: dict[str, str | None], inputs: Sequence[str]) -> None:
    """Check that no output is an input or another output, whatever names or links lead to it.

    Args:
        outputs: The path of each option, None where it is not given.
        inputs: Paths of the files that are read.

    Raises:
        InputError: If writing one would destroy another.
    """
    taken = {os.path.realpath(path): f"{path}, which is read" for path in inputs}
    for option, path in outputs.items():
        if path is None:
            continue
        place = os.path.realpath(path)
        if place in taken:
            raise InputError(
                f"cannot write {path}: expected {option} to be a file of its own; "
                f"got the same file as {taken[place]}"
            )
        taken[place] = f"{option} {path}"
