"""The grammar of the command line: every fault is one line on stderr and exit code 2."""

import subprocess
import sys

import numpy as np
import pytest

from gauss_flows import __version__
from gauss_flows.cli import main


def run(capsys, *arguments):
    """Return exit code, stdout and stderr."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as left:
        code = left.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"gauss-flows {__version__}\n", "")


@pytest.mark.parametrize("command", [(), ("fit",), ("score",), ("sample",), ("info",)])
def test_help(capsys, command):
    code, out, err = run(capsys, *command, "--help")
    assert code == 0
    assert err == ""
    assert "usage: gauss-flows" in out


def test_help_shows_examples(capsys):
    for command in ((), ("fit",)):
        assert "examples:\n  gauss-flows fit" in run(capsys, *command, "--help")[1]


FIT = ("fit", "sklearn:iris", "--output", "x.gf")
BAD_COMMANDS = {
    "no command": ((), "required: COMMAND"),
    "unknown command": (("fti",), "invalid choice: 'fti'"),
    "unknown option": ((*FIT, "--sead", "1"), "unrecognized arguments: --sead 1; did you mean"),
    "made-up option": ((*FIT, "--bogus"), "unrecognized arguments: --bogus (see gauss-flows fit"),
    "abbreviated option": ((*FIT, "--se", "1"), "unrecognized arguments: --se 1"),
    "no output": (("fit", "sklearn:iris"), "required: --output"),
    "unknown family": ((*FIT, "--family", "planar"), "invalid choice: 'planar'"),
    "negative count": ((*FIT, "--n-layers", "-2"), "--n-layers: expected a whole number above 0"),
    "count in words": ((*FIT, "--n-components", "two"), "expected a whole number above 0"),
    "rate of zero": ((*FIT, "--learning-rate", "0"), "expected a number above 0; got '0'"),
    "rate of nothing": ((*FIT, "--learning-rate", "nan"), "expected a number above 0; got 'nan'"),
    "fraction above one": ((*FIT, "--test-fraction", "1.5"), "expected a number between 0 and 1"),
    "seed below zero": ((*FIT, "--seed", "-1"), "--seed: expected a whole number from 0"),
    "empty name": ((*FIT, "--columns", "a,,b"), "expected names between the commas"),
    "no rows to draw": (("sample", "x.gf", "0", "--output", "x.csv"), "expected a whole number"),
    "unknown table": (("fit", "sklearn:irs", "--output", "x.gf"), "did you mean 'iris'"),
    "missing table": (("fit", "none.csv", "--output", "x.gf"), "there is no such file"),
    "missing flow": (("info", "none.gf"), "none.gf"),
    "missing flow to score": (("score", "none.gf", "sklearn:iris"), "none.gf"),
    "missing flow to draw from": (("sample", "none.gf", "3", "--output", "x.csv"), "none.gf"),
    "missing folder": (("fit", "sklearn:iris", "--output", "no/x.gf"), "there is no folder no"),
    "output is a folder": (("fit", "sklearn:iris", "--output", "."), "it is a folder"),
    "unknown picture": ((*FIT, "--picture", "x.bmp"), "ending in .png, .pdf, .svg; got '.bmp'"),
    "unknown output": (("sample", "x.gf", "3", "--output", "x.txt"), "got '.txt'"),
    "unknown column": ((*FIT, "--columns", "petal"), "has no column 'petal'"),
    "constant columns": (("fit", "sklearn:digits", "--output", "x.gf"), "'pixel_0_0'"),
}


@pytest.mark.parametrize(("arguments", "phrase"), BAD_COMMANDS.values(), ids=BAD_COMMANDS)
def test_bad_commands(capsys, tmp_path, monkeypatch, arguments, phrase):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *arguments)
    assert code == 2
    assert out == ""
    assert phrase in err
    assert err.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_columns_with_commas_are_quoted(capsys, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('"size, cm",b\n1,2\n')
    _, _, err = run(capsys, "fit", path, "--output", tmp_path / "x.gf", "--columns", '"size, cm"')
    assert "has 1 row," in err


@pytest.mark.parametrize(
    ("values", "options", "phrase"),
    [
        (np.eye(4)[:, :3], (), "4 rows, 3 of them to fit: expected at least 5 to fit 3 columns"),
        (np.arange(9.0)[:, None], ("--n-components", "8"), "as many as components; got 8"),
        (np.full((9, 2), np.nan), (), "column 'x0' of {path} is missing or NaN in row 1"),
        (np.zeros((0, 2)), (), "has no rows"),
        (np.zeros(4), (), "expected a 2-D array"),
        (np.arange(9.0)[:, None], ("--family", "spline-coupling"), "needs two columns"),
    ],
)
def test_bad_tables(capsys, tmp_path, values, options, phrase):
    path = tmp_path / "t.npy"
    np.save(path, values)
    code, _, err = run(capsys, "fit", path, "--output", tmp_path / "x.gf", *options)
    assert code == 2
    assert phrase.format(path=path) in err
    assert not (tmp_path / "x.gf").exists()


def test_no_traceback_from_the_command_itself(tmp_path):
    command = [
        sys.executable,
        "-c",
        "import sys; from gauss_flows.cli import main; sys.exit(main())",
    ]
    done = subprocess.run(
        [*command, "score", "none.gf", "none.csv"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1


def test_interrupt(capsys, monkeypatch):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("gauss_flows.cli.tables.read_table", interrupt)
    assert run(capsys, *FIT) == (130, "", "gauss-flows: interrupted\n")


def test_missing_matplotlib_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, *FIT, "--picture", "x.png")
    assert code == 2
    assert 'pip install "gauss-flows[cli]"' in err
