"""Reading and writing tables: round trips, and one clear line for every bad input."""

import numpy as np
import pandas as pd
import pytest

from gauss_flows.cli.errors import InputError
from gauss_flows.cli.tables import read_table, write_table

VALUES = np.array([[0.1, -2.5, 1e-30], [1 / 3, 7.0, 1e300], [-0.0, 5e-324, 123456789.123456789]])
NAMES = ("a", "b c", "größe, cm")


def write(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_round_trip_is_exact(tmp_path, suffix):
    path = tmp_path / f"t{suffix}"
    write_table(path, VALUES, NAMES)
    table = read_table(str(path))
    np.testing.assert_array_equal(table.values, VALUES)
    assert table.columns == (("x0", "x1", "x2") if suffix == ".npy" else NAMES)
    assert table.named == (suffix != ".npy")


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".npy"])
def test_interrupted_write_leaves_the_old_file(tmp_path, suffix, monkeypatch):
    path = tmp_path / f"t{suffix}"
    write_table(path, VALUES, NAMES)
    before = path.read_bytes()

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_table(path, 2 * VALUES, NAMES)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", ["breast_cancer", "wine", "digits", "iris", "diabetes"])
def test_bundled_tables(name):
    table = read_table(f"sklearn:{name}")
    assert table.values.shape[1] == len(table.columns)
    assert table.values.dtype == np.float64


def test_columns_are_chosen_by_name_and_in_that_order(tmp_path):
    path = write(tmp_path, "a,b,c\n1,2,3\n4,5,6\n")
    table = read_table(path, columns=["c", "a"])
    assert table.columns == ("c", "a")
    np.testing.assert_array_equal(table.values, [[3, 1], [6, 4]])
    assert read_table(path, exclude=["b"]).columns == ("a", "c")


def test_text_columns_do_not_matter_where_they_are_not_chosen(tmp_path):
    path = write(tmp_path, "who,b\nann,2\nbob,5\n")
    assert read_table(path, columns=["b"]).values.shape == (2, 1)


def test_a_first_line_of_numbers_is_data(tmp_path, capsys):
    table = read_table(write(tmp_path, "1,2\n3,4\n"))
    assert table.values.shape == (2, 2)
    assert not table.named
    assert "begins with a line of numbers" in capsys.readouterr().err


def test_booleans_integers_and_missing_entries_become_numbers(tmp_path):
    frame = pd.DataFrame({"i": [1, 2], "b": [True, False], "m": pd.array([1, None], dtype="Int64")})
    frame.to_parquet(tmp_path / "t.parquet")
    values = read_table(str(tmp_path / "t.parquet")).values
    np.testing.assert_array_equal(values, [[1, 1, 1], [2, 0, np.nan]])


BAD_FILES = {
    "unknown column": ("t.csv", "radius,area\n1,2\n", {"columns": ["raduis"]},
        ["no column 'raduis'", "did you mean 'radius'", "columns: 'radius', 'area'"]),
    "unknown excluded": ("t.csv", "a,b\n1,2\n", {"exclude": ["z"]}, ["no column 'z'"]),
    "column twice": ("t.csv", "a,b\n1,2\n", {"columns": ["a", "a"]}, ["'a' more than once"]),
    "nothing left": ("t.csv", "a\n1\n", {"exclude": ["a"]}, ["no columns to use"]),
    "text": ("t.csv", "a,b\n1,2\n3,oops\n", {},
        ["column 'b'", "does not hold numbers", "row 2 is 'oops'", "--columns"]),
    "names twice": ("t.csv", "a,a\n1,2\n", {}, ["more than one column named 'a'"]),
    "ragged": ("t.csv", "a,b\n1,2\n1,2,3\n", {}, ["cannot read", "as CSV"]),
    "too wide": ("t.csv", "a,b\n1,2,3\n1,2,3\n", {}, ["more entries than the 2 names"]),
    "semicolons": ("t.csv", "a;b\n1;2\n", {}, ["expected commas"]),
    "empty": ("t.csv", "", {}, ["the file is empty"]),
    "blank": ("t.csv", "\n\n", {}, ["the file is empty"]),
    "no text": ("t.csv", b"a,b\n\xff\xfe\x00,2\n", {}, ["cannot read", "as CSV"]),
    "no Parquet": ("t.parquet", "a,b\n1,2\n", {}, ["cannot read", "as Parquet"]),
    "no NPY": ("t.npy", "a,b\n1,2\n", {}, ["cannot read", "as NPY"]),
    "unknown ending": ("t.xlsx", "a,b\n1,2\n", {}, ["expected a name ending in .csv", "'.xlsx'"]),
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "content", "options", "phrases"), BAD_FILES.values(), ids=BAD_FILES
)
def test_bad_files_are_refused_in_one_line(tmp_path, name, content, options, phrases):
    path = write(tmp_path, content, name)
    with pytest.raises(InputError) as caught:
        read_table(path, **options)
    message = str(caught.value)
    assert "\n" not in message
    for phrase in phrases:
        assert phrase in message


def test_missing_file_folder_and_unknown_bundle(tmp_path):
    with pytest.raises(InputError, match="there is no such file"):
        read_table(str(tmp_path / "none.csv"))
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="it is a folder"):
        read_table(str(tmp_path / "folder.csv"))
    with pytest.raises(InputError, match="did you mean 'wine'"):
        read_table("sklearn:whine")


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path, "a\n1\n")

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pandas.read_csv", refuse)
    with pytest.raises(InputError, match="permission denied"):
        read_table(path)


@pytest.mark.parametrize("shape", [(4,), (2, 2, 2), ()])
def test_arrays_that_are_not_two_dimensional(tmp_path, shape):
    np.save(tmp_path / "t.npy", np.zeros(shape))
    with pytest.raises(InputError, match=r"expected a 2-D array; got shape"):
        read_table(str(tmp_path / "t.npy"))


@pytest.mark.parametrize("array", [np.array([["a", "b"]]), np.array([[1j, 2]])])
def test_arrays_that_hold_no_numbers(tmp_path, array):
    np.save(tmp_path / "t.npy", array)
    with pytest.raises(InputError, match="column 'x0'.*does not hold numbers"):
        read_table(str(tmp_path / "t.npy"))


def test_pickles_are_not_opened(tmp_path):
    np.save(tmp_path / "t.npy", np.array([[{}, 1]], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="as NPY"):
        read_table(str(tmp_path / "t.npy"))


def test_dates_are_not_numbers(tmp_path):
    pd.DataFrame({"d": pd.to_datetime(["2020-01-01", "2021-01-01"])}).to_parquet(
        tmp_path / "t.parquet"
    )
    with pytest.raises(InputError, match="column 'd'.*does not hold numbers"):
        read_table(str(tmp_path / "t.parquet"))


def test_digits_kept_as_text_are_not_numbers(tmp_path):
    pd.DataFrame({"zip": ["01234", "99999"]}).to_parquet(tmp_path / "t.parquet")
    with pytest.raises(InputError, match="column 'zip'.*does not hold numbers"):
        read_table(str(tmp_path / "t.parquet"))


def test_missing_pandas_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pandas", None)
    with pytest.raises(InputError, match=r'pip install "gauss-flows\[cli\]"'):
        read_table(write(tmp_path, "a\n1\n"))
