"""Faults of a table that only its values show."""

import numpy as np
import pytest

from gauss_flows.cli.checks import check_density_exists, check_finite, check_n_rows
from gauss_flows.cli.errors import InputError
from gauss_flows.cli.tables import Table


def table(values, names="abcdefgh"):
    values = np.asarray(values, dtype=float)
    return Table(values, tuple(names[: values.shape[1]]), True, "t.csv")


@pytest.fixture
def rows():
    return np.random.default_rng(0).normal(size=(50, 3))


def test_good_rows_pass_in_silence(rows, capsys):
    check_finite(table(rows))
    check_density_exists(table(rows))
    check_n_rows(table(rows), 40, 8)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("value", "word"), [(np.nan, "missing or NaN"), (np.inf, "infinite"), (-np.inf, "infinite")]
)
def test_row_and_column_of_what_is_not_finite_are_named(rows, value, word):
    rows[6, 1] = value
    with pytest.raises(InputError, match=f"column 'b' of t.csv is {word} in row 7;"):
        check_finite(table(rows))
    rows[30, 2] = np.nan
    with pytest.raises(InputError, match=r"in row 7 \(1 more such entries\)"):
        check_finite(table(rows))


def test_no_rows():
    with pytest.raises(InputError, match=r"t\.csv has no rows"):
        check_finite(table(np.zeros((0, 3))))


def test_constant_columns_are_named(rows):
    rows[:, [0, 2]] = 5.0
    with pytest.raises(InputError, match="t.csv that vary; .* 'a' and column 'c'.*--exclude"):
        check_density_exists(table(rows))


def test_repeated_columns_are_named(rows):
    rows[:, 2] = rows[:, 0]
    with pytest.raises(InputError, match="that differ; got column 'c' equal to column 'a'"):
        check_density_exists(table(rows))


@pytest.mark.parametrize("scale", [1.0, 1e-12, 1e12])
def test_linear_combinations_are_named(rows, scale):
    rows[:, 1] = scale * (3 * rows[:, 0] + 7)
    with pytest.raises(InputError, match="linear relation between column 'a' and column 'b'"):
        check_density_exists(table(rows))


def test_strongly_correlated_columns_are_accepted_with_a_warning(rows, capsys):
    rows[:, 1] = rows[:, 0] + 1e-5 * rows[:, 1]
    check_density_exists(table(rows))
    assert "nearly dependent: column 'a' and column 'b'" in capsys.readouterr().err


def test_whole_numbers_are_accepted_with_a_warning(rows, capsys):
    rows[:, 1] = np.round(10 * rows[:, 1])
    check_density_exists(table(rows))
    assert "Whole numbers in t.csv: the values of column 'b' are atoms" in capsys.readouterr().err


def test_atoms_are_warned_about(rows, capsys):
    rows[:10, 1] = 0.25
    check_density_exists(table(rows))
    assert "'b' is 0.25 in 20 % of the rows" in capsys.readouterr().err


def test_too_few_rows(rows):
    with pytest.raises(InputError, match="has 50 rows, 40 of them to fit: .*as components; got 41"):
        check_n_rows(table(rows), 40, 41)
    with pytest.raises(InputError, match="expected at least 5 to fit 3 columns"):
        check_n_rows(table(rows[:5]), 4, None)
    with pytest.raises(InputError, match="has 1 row, 0 of them"):
        check_n_rows(table(rows[:1]), 0, None)
