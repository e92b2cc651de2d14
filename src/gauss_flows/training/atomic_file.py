"""Writing a file so that readers see the old one or the new one, never half of either."""

import errno
import os
import tempfile
from pathlib import Path


def write_atomically(path: str | os.PathLike[str], data: bytes) -> None:
    """Write bytes to a temporary file beside the target, then rename it into place.

    A process killed at any moment leaves the previous file whole, at worst with a
    hidden temporary file ``.<name>.*.tmp`` beside it that nothing reads.

    Args:
        path: The file to write or replace. Its folder must exist.
        data: The whole content.

    Raises:
        OSError: If the folder is missing or cannot be written, or the target is there and is
            no regular file: a device, a pipe or a folder is not ours to replace. The temporary
            file is removed and the target is as it was.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> write_atomically(folder / "a.bin", b"whole")
        >>> [p.name for p in folder.iterdir()]
        ['a.bin']
    """
    # A link is followed, so that what it points to is replaced and not the link itself.
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise OSError(
            errno.EINVAL, "expected a regular file to replace; got a device, pipe or folder", path
        )
    handle, temporary = tempfile.mkstemp(
        dir=target.parent, prefix=f".{target.name}.", suffix=".tmp"
    )
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, _mode_for(target))
        os.replace(temporary, target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def _mode_for(target: Path) -> int:
    """The permissions of the file that is replaced, or those a new file would get."""
    if target.exists():
        return target.stat().st_mode & 0o777
    mask = os.umask(0)  # the only way to read it is to set it
    os.umask(mask)
    return 0o666 & ~mask


def _sync_folder(folder: Path) -> None:
    """Make the rename itself survive a power cut, where the system lets us."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
