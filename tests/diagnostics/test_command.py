"""`gauss-flows fit --report`."""

import json

import numpy as np
import pandas as pd
import pytest

from gauss_flows.cli import main
from gauss_flows.cli.fit import split_rows

OPTIONS = ("--family", "rbig", "--n-layers", "1", "--n-components", "1")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(0).normal(size=(60, 2)) * [1.0, 100.0]
    pd.DataFrame(rows, columns=["height", "pay & <perks>"]).to_csv("t.csv", index=False)
    return tmp_path


def test_held_out_rows_are_judged(folder, capsys):
    arguments = ("fit", "t.csv", "--output", "f.gf", "--report", "r.html", *OPTIONS, "--json")
    assert main(arguments) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["report"] == "r.html"
    page = (folder / "r.html").read_text(encoding="utf-8")
    assert "Fitted to 48 rows, judged by 12 rows held out." in page
    assert "pay &amp; &lt;perks&gt;" in page
    lowest = said["least_likely_held_out_rows"][0]["row"]
    assert f"The least likely is row {lowest} with" in page
    assert lowest - 1 in split_rows(60, 0.2, 0).test
    mean = said["log_likelihood"]["value"]
    assert f"{mean:.2f}".replace("-", "−") in page


def test_what_was_saved_is_told(folder, capsys):
    assert main(("fit", "t.csv", "--output", "f.gf", "--report", "r.html", *OPTIONS)) == 0
    assert "saved f.gf and r.html after" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "phrase"),
    [
        (("--report", "r.txt"), "expected a name ending in .html, .htm; got '.txt'"),
        (("--report", "no/r.html"), "there is no folder no"),
        (("--report", "r.html", "--picture", "r.png", "--output", "r.html"), "got '.html'"),
        (("--report", "l.html"), "expected --report to be a file of its own"),
    ],
)
def test_refused_before_anything_is_fitted(folder, capsys, options, phrase):
    (folder / "l.html").symlink_to("t.csv")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert main(("fit", "t.csv", "--output", "f.gf", *OPTIONS, *options)) == 2
    assert phrase in capsys.readouterr().err
    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
