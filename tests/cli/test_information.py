"""`gauss-flows information` on small tables."""

import json

import numpy as np
import pandas as pd
import pytest

from gauss_flows.cli import main
from gauss_flows.information import measures, mutual_information

N_ROWS = 300


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """Three columns, two of them related, and one of words."""
    x = np.random.default_rng(0).normal(size=(N_ROWS, 3))
    x[:, 1] += x[:, 0]
    path = tmp_path_factory.mktemp("information") / "t.csv"
    frame = pd.DataFrame(x, columns=["a", "b", "c"])
    frame["word"] = "w"
    frame.to_csv(path, index=False)
    return path, x


def run(capsys, *arguments):
    code = main(["information", *map(str, arguments)])
    return code, capsys.readouterr()


def test_json_is_what_the_library_finds(table, capsys):
    path, x = table
    code, told = run(capsys, path, "--exclude", "word", "--json")
    assert code == 0
    said = json.loads(told.out)
    assert (said["n_rows"], said["columns"], said["unit"]) == (N_ROWS, ["a", "b", "c"], "nats")
    for name, value in measures(x)._asdict().items():
        assert said[name]["value"] == pytest.approx(value.value, abs=1e-6)
        assert said[name]["standard_error"] == pytest.approx(value.standard_error, abs=1e-6)


def test_people_read_every_measure(table, capsys):
    path, _ = table
    code, told = run(capsys, path, "--columns", "a,b")
    assert code == 0
    for name in ("entropy", "negentropy", "total correlation", "dual total correlation"):
        assert f"  {name} " in told.out
    assert told.out.count("±") == 4
    assert "nats" in told.out


def test_between_blocks(table, capsys):
    path, x = table
    code, told = run(capsys, path, "--between", "a", "b,c", "--json")
    assert code == 0
    said = json.loads(told.out)
    assert said["between"] == [["a"], ["b", "c"]]
    value = mutual_information(x[:, :1], x[:, 1:])
    assert said["mutual_information"]["value"] == pytest.approx(value.value, abs=1e-6)
    assert "entropy" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "column 'word'"),
        (["--columns", "a,d"], "no column 'd'"),
        (["--between", "a", "q"], "no column 'q'"),
        (["--between", "a", "a,b"], "'a' more than once"),
        (["--between", "a,b", "c", "--exclude", "c"], "--exclude leaves out 'c'"),
    ],
)
def test_faults_are_told_in_one_line(table, capsys, arguments, message):
    code, told = run(capsys, table[0], *arguments)
    assert code == 2
    assert message in told.err
    assert told.err.count("\n") == 1
    assert not told.out


def test_faults_of_the_rows_name_the_column(tmp_path, capsys):
    x = np.random.default_rng(0).normal(size=(50, 2))
    frame = pd.DataFrame({"a": x[:, 0], "b": x[:, 1], "twice": 2 * x[:, 1], "one": 1.0})
    frame.to_csv(tmp_path / "t.csv", index=False)
    code, told = run(capsys, tmp_path / "t.csv", "--exclude", "twice")
    assert code == 2
    assert "'one'" in told.err
    code, told = run(capsys, tmp_path / "t.csv", "--exclude", "one")
    assert code == 2
    assert "'twice'" in told.err
    frame.iloc[3, 0] = np.nan
    frame.to_csv(tmp_path / "t.csv", index=False)
    code, told = run(capsys, tmp_path / "t.csv", "--columns", "a,b")
    assert code == 2
    assert "'a'" in told.err
    assert "row 4" in told.err
