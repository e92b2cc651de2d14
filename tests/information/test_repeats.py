"""Rows that are no independent draws are told, and rounded values that coincide are not."""

import warnings

import numpy as np
import pytest

from gauss_flows.information import entropy, kl_divergence, measures, mutual_information
from gauss_flows.information.repeats import warn_of_common_rows, warn_of_copies

X = np.random.default_rng(0).normal(size=(1000, 2))


@pytest.fixture
def silent():
    """Warnings are errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


def told(measure):
    """Warnings of copies that a measure gives, as text."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        measure()
    texts = [str(w.message) for w in caught]
    return [text for text in texts if text.startswith("Copies of rows")]


@pytest.mark.parametrize(
    "measure", [entropy, lambda x: mutual_information(*x.T), lambda x: measures(x)]
)
def test_copies_are_told_once(measure):
    (message,) = told(lambda: measure(np.repeat(X[:50], 10, axis=0)))
    assert "450 of 500 rows" in message
    assert "independent" in message
    assert "Leave the copies out" in message


def test_copies_in_both_tables_of_a_divergence_are_told_once():
    (message,) = told(lambda: kl_divergence(np.repeat(X[:50], 4, 0), np.repeat(X[50:90], 5, 0)))
    assert "150 of 200 rows in x and 160 of 200 rows in y" in message


def test_copies_of_rounded_rows_are_told():
    with pytest.warns(UserWarning, match="Copies of rows"):
        warn_of_copies({"x": np.tile(X.round(2), (2, 1))})


@pytest.mark.parametrize("rho", [0.0, 0.9, 0.99])
@pytest.mark.usefixtures("silent")
def test_rounded_rows_are_no_copies(rho):
    related = rho * X[:, 0] + np.sqrt(1 - rho**2) * X[:, 1]
    warn_of_copies({"x": np.stack([X[:, 0], related], axis=1).round(1)})


@pytest.mark.usefixtures("silent")
def test_what_repeats_of_itself_is_no_copy():
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 3, size=1000)
    warn_of_copies({"x": np.stack([labels, labels + rng.integers(0, 2, 1000)], 1).astype(float)})
    warn_of_copies({"x": np.stack([labels, X[:, 0].round(1)], axis=1)})
    warn_of_copies({"x": X[:, :1].round(1)})


@pytest.mark.parametrize(("x", "n_common"), [(X, 1000), (X[:500], 500), (X[:, 0], 1000)])
def test_rows_in_common_are_told(x, n_common):
    y = X if x.ndim == 2 else X[:, 0]
    with pytest.warns(UserWarning, match=f"{n_common} of the {len(x)} rows of x are rows of y"):
        kl_divergence(x, y)


@pytest.mark.parametrize("n_rows", [30, 500])
@pytest.mark.parametrize("n_dims", [1, 2])
@pytest.mark.usefixtures("silent")
def test_rounded_rows_that_coincide_are_not_told(n_dims, n_rows):
    x, y = np.split(X[:, :n_dims].round(1), [n_rows])
    warn_of_common_rows(x, y)
