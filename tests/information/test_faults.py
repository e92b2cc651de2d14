"""Tables without the measures asked for are refused, with row and column named."""

import warnings

import numpy as np
import pandas as pd
import pytest

from gauss_flows.information import (
    conditional_mutual_information,
    dual_total_correlation,
    entropy,
    kl_divergence,
    measures,
    mutual_information,
    total_correlation,
)
from gauss_flows.information.tables import without_ties

X = np.random.default_rng(0).normal(size=(60, 2))


def changed(row, column, value):
    x = X.copy()
    x[row, column] = value
    return x


@pytest.mark.parametrize("measure", [entropy, total_correlation])
def test_rows_and_columns_are_named(measure):
    with pytest.raises(ValueError, match="nan in row 7, column 1"):
        measure(changed(7, 1, np.nan))
    frame = pd.DataFrame(changed(3, 0, np.inf), columns=["height", "weight"])
    with pytest.raises(ValueError, match="inf in row 3, column 'height'"):
        measure(frame)
    with pytest.raises(ValueError, match="same value in every row of column 1"):
        measure(np.stack([X[:, 0], np.ones(60)], axis=1))
    with pytest.raises(ValueError, match="at least 30 rows"):
        measure(X[:20])
    with pytest.raises(ValueError, match="shape"):
        measure(X[None])
    with pytest.raises(ValueError, match="nan in row 9, column 1"):
        measure(np.ma.masked_array(X, np.arange(120).reshape(60, 2) == 19))
    with pytest.raises(ValueError, match="nan in row 0"):
        mutual_information(np.ma.masked_array(X[:, 0], X[:, 0] == X[0, 0]), X[:, 1])


def test_blocks_that_determine_each_other_have_infinite_information():
    with pytest.raises(ValueError, match=r"'y\[0 of y\]'|linear relation|equal to"):
        mutual_information(X, X[:, 0])
    with pytest.raises(ValueError, match="linear relation"):
        mutual_information(X, X.sum(axis=1))


def test_blocks_of_other_lengths_are_refused():
    with pytest.raises(ValueError, match="60 in x, 50 in y"):
        mutual_information(X, X[:50])
    with pytest.raises(ValueError, match="50 in z"):
        conditional_mutual_information(X[:, 0], X[:, 1], X[:50, 0])
    with pytest.raises(ValueError, match="finite values in y; got nan in row 2, column 0"):
        mutual_information(X, changed(2, 0, np.nan)[:, :1])


def test_divergence_names_the_table():
    with pytest.raises(ValueError, match="finite values in y; got nan in row 4"):
        kl_divergence(X, changed(4, 0, np.nan))
    with pytest.raises(ValueError, match="as many columns"):
        kl_divergence(X, X[:, :1])


@pytest.mark.parametrize("scale", [1e-200, 1e-9])
def test_tables_on_other_scales_are_not_compared(scale):
    y = np.random.default_rng(1).normal(size=(80, 2))
    with pytest.raises(ValueError, match="column 1, of which x spans only .*same units"):
        kl_divergence(X * [1.0, scale], y)
    with pytest.raises(ValueError, match="column 0, of which y spans only"):
        kl_divergence(X, y * [scale, 1.0])


def test_values_far_out_are_told_of_and_beyond_that_refused():
    with pytest.warns(UserWarning, match=r"quartile ranges from the others in row 5, column 1"):
        entropy(changed(5, 1, 1e6))
    with pytest.raises(ValueError, match=r"in row 5, column 1\. Leave it out, or take logarithms"):
        entropy(changed(5, 1, 1e12))


@pytest.mark.parametrize("far", [1e3, 1e6, 1e300])
def test_a_row_far_out_does_not_change_what_the_others_share(far):
    """No monotone map of a column changes it, so values far out are brought nearer."""
    x, y = np.random.default_rng(0).normal(size=(2, 1200, 1))
    y = 0.9 * x + np.sqrt(0.19) * y
    plain = mutual_information(x, y)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = mutual_information(np.append(x, far), np.append(y, far))
        assert abs(found.value - plain.value) < 2 * plain.standard_error
        table = np.column_stack([np.append(x, far), np.append(y, -far)])
        assert abs(total_correlation(table).value - plain.value) < 2 * plain.standard_error
        assert dual_total_correlation(table) == pytest.approx(total_correlation(table))
        shifted = kl_divergence(x + 1.0, np.append(y, -far))
    assert abs(shifted.value - 0.5) < 4 * shifted.standard_error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if far < 1e10:  # beyond, no entropy is measured
            assert measures(table).total_correlation == pytest.approx(total_correlation(table))


def test_frames_of_other_columns_are_not_compared():
    x = pd.DataFrame(X, columns=["a", "b"])
    y = pd.DataFrame(np.random.default_rng(1).normal(size=(80, 2)), columns=["b", "a"])
    with pytest.raises(ValueError, match="got a, b in x and b, a in y"):
        kl_divergence(x, y)
    assert kl_divergence(x, y[["a", "b"]]) == kl_divergence(X, y.to_numpy()[:, ::-1])


def test_ties_are_spread_within_their_gaps_and_nothing_else_moves():
    x = np.array([[0.0], [1.0], [1.0], [3.0]])
    spread = without_ties(x)
    assert np.array_equal(spread[[0, 3]], x[[0, 3]])
    assert np.all((spread[1:3] >= 0.5) & (spread[1:3] <= 2.0))
    assert spread[1, 0] != spread[2, 0]
    assert np.array_equal(without_ties(X), X)


@pytest.mark.parametrize("follow", [np.exp, lambda x: -(x**3)])
def test_monotone_functions_of_a_column_share_infinitely_much(follow):
    x = np.random.default_rng(0).normal(size=200)
    with pytest.raises(ValueError, match=r"y\[y\] as a monotone function of column x\[x\]"):
        mutual_information(x, follow(x))


def test_classes_of_a_column_share_no_more_than_they_hold():
    x = np.random.default_rng(0).normal(size=200)
    with pytest.warns(UserWarning, match="Whole numbers"):
        assert 0.5 < mutual_information(x, np.round(x)).value < 2.0
