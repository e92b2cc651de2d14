"""A file is replaced as a whole or not at all."""

import os
import stat

import pytest

from gauss_flows.training import atomic_file
from gauss_flows.training.atomic_file import write_atomically


def test_writes_and_replaces(tmp_path):
    path = tmp_path / "file"
    for data in (b"first", b"", b"second" * 1000):
        write_atomically(path, data)
        assert path.read_bytes() == data
        assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("call", ["replace", "fsync", "chmod"])
@pytest.mark.parametrize("fault", [OSError("disk full"), KeyboardInterrupt()])
def test_a_fault_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch, call, fault):
    path = tmp_path / "file"
    path.write_bytes(b"good")

    def fail(*args):
        raise fault

    monkeypatch.setattr(atomic_file.os, call, fail)
    with pytest.raises(type(fault)):
        write_atomically(path, b"half")
    assert path.read_bytes() == b"good"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_the_system_s_error(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        write_atomically(tmp_path / "none" / "file", b"")


@pytest.mark.skipif(os.name != "posix", reason="permissions and links are POSIX's")
def test_permissions_and_links(tmp_path):
    path, link = tmp_path / "file", tmp_path / "link"
    mask = os.umask(0o027)
    try:
        write_atomically(path, b"1")
    finally:
        os.umask(mask)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640
    path.chmod(0o604)
    link.symlink_to(path)
    write_atomically(link, b"2")
    assert link.is_symlink()
    assert path.read_bytes() == b"2"
    assert stat.S_IMODE(path.stat().st_mode) == 0o604


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="pipes with names are POSIX's")
@pytest.mark.parametrize("through_a_link", [False, True])
def test_what_is_no_regular_file_is_not_replaced(tmp_path, through_a_link):
    """As root a rename would put a regular file in the place of a device."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    target = path
    if through_a_link:
        target = tmp_path / "link"
        target.symlink_to(path)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(OSError, match="expected a regular file"):
        write_atomically(target, b"data")
    assert path.is_fifo()
    assert sorted(tmp_path.iterdir()) == before


def test_a_folder_is_not_replaced(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="expected a regular file"):
        write_atomically(tmp_path / "folder", b"data")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]
