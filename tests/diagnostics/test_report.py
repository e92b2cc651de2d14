"""The page: what it says, what it refuses, and how a browser takes it."""

import base64
import re
import sys
from html import unescape

import numpy as np
import pandas as pd
import pytest

from diagnostics.browser import chromium, needs_browser, requests_of, served, set_width
from diagnostics.flows import (
    WrongLogDet,
    correlated_normal,
    correlated_rows,
    regression,
    regression_rows,
    with_layer,
)
from gauss_flows.diagnostics import report

CHECKS = (
    "quantiles", "probabilities", "energy", "henze-zirkler", "columns", "classifier", "intervals",
    "layers", "audit",
)  # fmt: skip
NAMES = ["<script>alert(1)</script>", "a very long name " * 6 + "unbroken" * 20]


def pictures_of(page):
    return [
        (base64.b64decode(data), unescape(text))
        for data, text in re.findall(
            r'<img src="data:image/svg\+xml;base64,([^"]+)" alt="([^"]*)">', page
        )
    ]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A page on a flow that is the truth: its folder, its text and what was returned."""
    folder = tmp_path_factory.mktemp("report")
    frame = pd.DataFrame(correlated_rows(400), columns=NAMES)
    found = report(correlated_normal(), frame, folder / "page.html", facts=["Known & true."])
    return folder, (folder / "page.html").read_text(encoding="utf-8"), found


def test_every_check_is_made_and_the_truth_passes(written):
    _, page, found = written
    assert [name for name in found.verdicts if name != "unlikely"] == list(CHECKS)
    marks = [found.verdicts[name].mark for name in CHECKS]
    assert "bad" not in marks
    assert "none" not in marks
    assert marks.count("look") <= 2  # each is one in twenty
    for name in CHECKS:
        assert f'<section id="{name}">' in page


def test_log_likelihood_is_the_flows(written):
    _, page, found = written
    scores = np.asarray(correlated_normal().log_prob(correlated_rows(400)), np.float64)
    assert found.log_likelihood.value == pytest.approx(scores.mean(), abs=1e-4)
    assert f"{found.log_likelihood.value:.3f}".replace("-", "−") in page
    lowest = int(np.argmin(scores))
    assert f"The least likely is row {lowest} with" in page


def test_pictures_are_inside_and_told_in_numbers(written):
    _, page, _ = written
    pictures = pictures_of(page)
    assert len(pictures) == len(CHECKS) == page.count("<img")
    for svg, text in pictures:
        assert svg.startswith(b"<?xml")
        assert len(text) > 60
        assert re.search(r"\d", text)


def test_page_holds_all_it_needs(written):
    folder, page, _ = written
    assert [path.name for path in folder.iterdir()] == ["page.html"]
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert "url(" not in page
    assert "@import" not in page
    assert "<script" not in page  # the column of that name is text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "Known &amp; true." in page
    assert '<meta name="viewport" content="width=device-width, initial-scale=1">' in page


@needs_browser
@pytest.mark.parametrize("width", [360, 1100])
def test_page_in_a_browser(written, width):
    folder, page, _ = written
    with served(folder) as address, chromium() as driver:
        set_width(driver, width)
        driver.get(f"{address}/page.html")
        assert driver.execute_script("return document.readyState") == "complete"
        assert driver.get_log("browser") == []
        assert requests_of(driver) == [f"{address}/page.html"]
        entries = "return performance.getEntriesByType('resource').map(e => e.name)"
        assert [u for u in driver.execute_script(entries) if not u.startswith("data:")] == []
        sizes = driver.execute_script(
            "return [innerWidth, document.documentElement.scrollWidth, document.body.scrollWidth]"
        )
        assert sizes == [width] * 3
        images = driver.execute_script(
            "return [...document.images].map(i => [i.alt, i.complete, i.naturalWidth, i.width])"
        )
        assert [image[0] for image in images] == [text for _, text in pictures_of(page)]
        for text, complete, natural, shown in images:
            assert text.strip()
            assert complete
            assert natural > 0
            assert 200 < shown <= width
        wide = driver.execute_script(
            "return [...document.querySelectorAll('body *')].filter(e => !e.closest('.table') &&"
            " e.getBoundingClientRect().right > innerWidth + 0.5).map(e => e.outerHTML)"
        )
        assert wide == []


@needs_browser
def test_the_browser_test_sees_what_is_wrong(tmp_path):
    """A page with a request, an error and too wide a box is not taken for a good one."""
    (tmp_path / "bad.html").write_text(
        '<!DOCTYPE html><link rel="icon" href="data:,"><img src="gone.png">'
        '<div style="width:900px">x</div><script>throw new Error("no")</script>'
    )
    with served(tmp_path) as address, chromium() as driver:
        set_width(driver, 360)
        driver.get(f"{address}/bad.html")
        assert len(driver.get_log("browser")) == 2
        assert f"{address}/gone.png" in requests_of(driver)
        assert driver.execute_script("return document.documentElement.scrollWidth") > 360


def test_a_wrong_formula_is_told_and_other_faults_too(tmp_path):
    x = np.random.default_rng(0).normal(size=(49, 2)) + 3
    found = report(with_layer(WrongLogDet()), x, tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert found.verdicts["audit"].mark == "bad"
    assert "layer 2, WrongLogDet" in found.verdicts["audit"].text
    for name in ("quantiles", "probabilities", "energy", "henze-zirkler", "classifier"):
        assert found.verdicts[name].mark == "bad"
    assert "checks found something." in page


def test_conditional_flow(tmp_path):
    x, c = regression_rows(49)  # too few for the costly layers, which have their own test
    good = report(regression(), x, tmp_path / "page.html", condition=c)
    assert [good.verdicts[name].mark for name in CHECKS].count("bad") == 0
    bad = report(regression(), x, tmp_path / "page.html", condition=-c)
    assert bad.verdicts["quantiles"].mark == bad.verdicts["intervals"].mark == "bad"
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "1 column, given 1 more" in page


@pytest.mark.parametrize("n", [1, 3, 12])
def test_few_rows_get_the_checks_that_they_are_enough_for(tmp_path, n):
    found = report(correlated_normal(), correlated_rows(n), tmp_path / "page.html")
    assert found.verdicts["audit"].mark == "fine"
    text = found.verdicts["layers"].text
    assert text == f"This needs at least 50 rows; there {'is' if n == 1 else 'are'} {n}."
    assert (found.verdicts["quantiles"].mark == "none") == (n < 10)


def test_names_may_be_given(tmp_path):
    report(
        correlated_normal(), correlated_rows(12), tmp_path / "page.html", title="T",
        columns=["left", "right"], row_names=[f"patient {i}" for i in range(12)],
    )  # fmt: skip
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<title>T</title>" in page
    assert "left" in page
    assert "patient " in page
    assert "column 0" not in page


ROWS = correlated_rows(12)
FRAME = pd.DataFrame(np.where(np.arange(24).reshape(12, 2) == 7, np.nan, ROWS), columns=["a", "b"])


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((FRAME,), {}, "Expected finite values in x; got nan in row 3, column 'b'."),
        ((ROWS[:, :1],), {}, "Expected x to have 2 columns; got 1."),
        ((ROWS,), {"columns": ["a"]}, "Expected 2 columns; got 1."),
        ((ROWS,), {"row_names": ["a"]}, "Expected 12 row_names; got 1."),
        ((ROWS,), {"condition": ROWS}, "Expected no condition, as the flow has it; got one."),
        ((ROWS,), {"random_state": -1}, "Expected random_state to be an integer"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(tmp_path, arguments, options, message):
    (tmp_path / "page.html").write_text("as it was")
    with pytest.raises(ValueError) as fault:  # noqa: PT011 - the message is looked at next
        report(correlated_normal(), *arguments, tmp_path / "page.html", **options)
    assert message in str(fault.value)
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "as it was"


def test_a_place_that_cannot_be_written_is_found_before_the_work(tmp_path):
    bad = np.full((3, 3), np.nan)  # would be the fault if the work had begun
    with pytest.raises(FileNotFoundError, match="there is no .*nowhere"):
        report(correlated_normal(), bad, tmp_path / "nowhere" / "page.html")
    with pytest.raises(IsADirectoryError, match="got the folder"):
        report(correlated_normal(), bad, tmp_path)


def test_a_fault_on_the_way_leaves_the_old_page(tmp_path, monkeypatch):
    from gauss_flows.diagnostics import flow_sections

    def fail(*args):
        raise RuntimeError("no")

    monkeypatch.setattr(flow_sections, "audit_section", fail)
    (tmp_path / "page.html").write_text("as it was")
    with pytest.raises(RuntimeError):
        report(correlated_normal(), ROWS, tmp_path / "page.html")
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert (tmp_path / "page.html").read_text() == "as it was"


def test_rows_that_are_sent_nowhere_are_named(tmp_path):
    x = ROWS.copy()
    x[5] = 1e300
    with pytest.raises(ValueError, match="latents that are finite.* for row 5 of x"):
        report(with_layer(OverflowingLayer()), x, tmp_path / "page.html")
    assert list(tmp_path.iterdir()) == []


class OverflowingLayer(WrongLogDet):
    def transform_and_log_det(self, x, condition=None):
        return x * 1e30 * 1e30, 0.0 * x.sum()


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ImportError, match=r'pip install "gauss-flows\[cli\]"'):
        report(correlated_normal(), ROWS, tmp_path / "page.html")
