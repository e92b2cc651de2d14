"""The first line of a CSV file, as pandas, R and people write it."""

import numpy as np
import pandas as pd
import pytest

from gauss_flows.cli.errors import InputError
from gauss_flows.cli.tables import read_table

ROWS = np.array([[0.5, 1.25], [-3.0, 7.5], [2.0, 0.25]])


def read(folder, text, **options):
    (folder / "t.csv").write_text(text)
    return read_table(str(folder / "t.csv"), **options)


def from_pandas(**options):
    frame = pd.DataFrame(
        ROWS, columns=options.pop("columns", None), index=options.pop("rows", None)
    )
    return frame.to_csv(**options)


HEADERS = {
    "sodium": ("NA,K\n0.5,1.25\n-3,7.5\n2,0.25\n", ("NA", "K"), ""),
    "sodium alone in doubt": ("NA,null\n0.5,1.25\n-3,7.5\n2,0.25\n", ("NA", "null"), ""),
    "a year": ("age,1980\n0.5,1.25\n-3,7.5\n2,0.25\n", ("age", "1980"), ""),
    "default to_csv": (from_pandas(columns=["a", "b"]), ("a", "b"), "counts the rows"),
    "array": (from_pandas(), ("0", "1"), "counts the rows"),
    "array without index": (from_pandas(index=False), ("0", "1"), "taken for the columns' names"),
    "filtered": (from_pandas(columns=["a", "b"], rows=[4, 17, 2]), ("a", "b"), "labels the rows"),
    "R": ('"","a","b"\n"1",0.5,1.25\n"2",-3,7.5\n"3",2,0.25\n', ("a", "b"), "labels the rows"),
    "row names": (from_pandas(columns=["a", "b"], rows=["x", "y", "z"]), ("a", "b"), "labels the"),
    "index last": ("a,b,\n0.5,1.25,0\n-3,7.5,1\n2,0.25,2\n", ("a", "b"), "column 3 of"),
    "trailing commas": ("a,b,\n0.5,1.25,\n-3,7.5,\n2,0.25,\n", ("a", "b"), "no entries"),
    "no name": ("a,\n0.5,1.25\n-3,7.5\n2,0.25\n", ("a", "column 2"), "called by their place"),
    "no name for numbers": (",b\n0.5,1.25\n-3,7.5\n2,0.25\n", ("column 1", "b"), "'column 1'"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "names", "warning"), HEADERS.values(), ids=HEADERS)
def test_names_are_names_and_rows_are_rows(tmp_path, capsys, text, names, warning):
    table = read(tmp_path, text)
    assert (table.columns, table.named) == (names, True)
    np.testing.assert_array_equal(table.values, ROWS)
    err = capsys.readouterr().err
    assert (warning in err) if warning else err == ""


@pytest.mark.parametrize("first", ["NA,1.5", "1.5,", ",2.5", "nan,1", "1,2"])
def test_a_first_row_with_a_missing_entry_is_no_line_of_names(tmp_path, capsys, first):
    table = read(tmp_path, f"{first}\n3,4\n")
    assert table.values.shape == (2, 2)
    assert not table.named
    assert "begins with a line of numbers" in capsys.readouterr().err


def test_column_without_a_name_can_be_chosen_by_its_place(tmp_path):
    text = "a,,\n1,0.5,x\n2,1.5,x\n"
    assert read(tmp_path, text, exclude=["column 3"]).columns == ("a", "column 2")
    with pytest.raises(InputError, match="'column 3' of .* does not hold numbers.*--exclude"):
        read(tmp_path, text)


def test_column_of_numbers_that_repeat_is_no_row_label(tmp_path):
    """A number without a name may be a measurement; only what cannot be one is left out."""
    assert read(tmp_path, ",b\n3,1\n3,2\n4,2\n").columns == ("column 1", "b")
    assert read(tmp_path, "b,\n1,3\n2,7\n2,5\n").columns == ("b", "column 2")
