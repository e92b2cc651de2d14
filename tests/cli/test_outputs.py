"""What an output must not be: a device, an input, another output, or a file that is no flow."""

import os

import numpy as np
import pytest

from gauss_flows.cli import main

pytestmark = pytest.mark.skipif(os.name != "posix", reason="links and pipes are POSIX's")
OPTIONS = ("--family", "rbig", "--n-layers", "1", "--n-components", "1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a table, the files that must survive, and links to them."""
    monkeypatch.chdir(tmp_path)
    np.savetxt("t.csv", np.random.default_rng(0).normal(size=(9, 1)), header="a", comments="")
    (tmp_path / "notes").write_text("not to be lost")
    (tmp_path / "model.gf").write_text("weights of another program")
    os.mkfifo("pipe.csv")
    os.mkfifo("pipe")
    for name, target in {
        "link.csv": "t.csv", "link": "t.csv", "l.png": "new.gf", "device.csv": "pipe.csv",
    }.items():  # fmt: skip
        (tmp_path / name).symlink_to(target)
    return tmp_path


FIT = ("fit", "t.csv", *OPTIONS, "--output")
REFUSED = {
    "table": ((*FIT, "t.csv"), "expected a name for a flow, such as t.gf; got '.csv'"),
    "picture's ending": ((*FIT, "x.png"), "expected a name for a flow, such as x.gf; got '.png'"),
    "array's ending": ((*FIT, "x.NPY"), "got '.NPY'"),
    "table by a link": ((*FIT, "link"), "--output to be a file of its own"),
    "not a flow": ((*FIT, "notes"), "a flow file to replace; got a file that is no flow"),
    "not our flow": ((*FIT, "model.gf"), "a flow file to replace; got a file that is no flow"),
    "pipe": ((*FIT, "pipe"), "a regular file to replace; got a device or a pipe"),
    "picture is the flow": (
        (*FIT, "new.gf", "--picture", "l.png"),
        "cannot write l.png: expected --picture to be a file of its own; "
        "got the same file as --output new.gf",
    ),
    "scores over the table": (
        ("score", "x.gf", "t.csv", "--output", "t.csv"), "got the same file as t.csv, which is read"
    ),
    "scores over the table by a link": (
        ("score", "x.gf", "./link.csv", "--output", "t.csv"), "same file as ./link.csv"
    ),
    "scores over the flow": (
        ("score", "t.csv", "t.npy", "--output", "t.csv"), "same file as t.csv, which is read"
    ),
    "scores into a pipe": (
        ("score", "x.gf", "t.csv", "--output", "device.csv"), "got a device or a pipe"
    ),
    "samples over the flow": (
        ("sample", "t.csv", "3", "--output", "link.csv"), "got the same file as t.csv"
    ),
    "samples into a pipe": (("sample", "x.gf", "3", "--output", "pipe.csv"), "a device or a pipe"),
}  # fmt: skip


@pytest.mark.parametrize(("arguments", "phrase"), REFUSED.values(), ids=REFUSED)
def test_refused_before_anything_is_read(folder, capsys, arguments, phrase):
    before = {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert phrase in err
    assert err.count("\n") == 1
    assert before == {path.name: path.is_file() and path.read_bytes() for path in folder.iterdir()}
    assert (folder / "pipe").is_fifo()


def test_a_flow_and_an_empty_file_may_be_replaced(folder, capsys):
    (folder / "flow.gf").touch()  # as mktemp leaves it
    assert main((*FIT, "flow.gf")) == 0
    first = (folder / "flow.gf").read_bytes()
    assert main((*FIT, "flow.gf", "--seed", "1")) == 0
    assert (folder / "flow.gf").read_bytes() != first
