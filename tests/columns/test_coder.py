"""Tables of all kinds of columns: what is learnt of them, codes, faults, names and types."""

import numpy as np
import pandas as pd
import pytest

from gauss_flows.columns.coder import TableCoder
from gauss_flows.columns.tables import read_array, read_frame

FRAME = pd.DataFrame(
    {
        "mass": [0.5, 1.5, 2.5, 3.5],
        "count": [3, 0, 2, 2],
        "kind": pd.Categorical(["a", "b", "a", "a"]),
        "flag": [True, False, False, True],
        "one": [7.0] * 4,
        "again": [0.5, 1.5, 2.5, 3.5],
        "text": ["x", None, "y", "x"],
        "small": pd.Series([1, None, 3, 4], dtype="Int64"),
    }
)
SUPPORT = {"mass": "positive"}


def coder_of(frame=FRAME, support=SUPPORT):
    with pytest.warns(UserWarning, match="'one' is constant, column 'again' repeats .*'mass'"):
        return TableCoder.fit(read_frame(frame, "X"), support)


def coded(coder, frame):
    table = read_frame(frame, "X")
    return coder.encode(table, np.full((table.n_rows, coder.n_discrete), 0.5))


def test_columns_are_what_their_types_say():
    coder = coder_of()
    said = [str(kind) for kind in coder.kinds]
    assert said == [
        "above 0",
        "whole numbers",
        "one of 'a', 'b'",
        "one of False, True",
        "one of 'x', 'y'",
        "whole numbers",
    ]
    assert coder.n_discrete == 5
    assert coder.coded_names[-1] == "column 'small'"


def test_a_data_frame_comes_back_with_names_and_types():
    coder = coder_of()
    rows, log_det = coded(coder, FRAME)
    back = coder.decode(np.nan_to_num(rows))
    pd.testing.assert_frame_equal(back.drop(index=1), FRAME.drop(index=1), rtol=1e-12)
    assert np.isnan(rows[1, 4:]).all()
    assert np.isfinite(rows[:, :4]).all()
    assert np.isfinite(log_det).all()


def test_real_numbers_are_not_rounded_for_a_type():
    frame = pd.DataFrame({"count": [1, 2, 4], "x": [0.1, 0.2, 0.4]})
    coder = TableCoder.fit(read_frame(frame, "X"), {"count": "real"})
    assert coder.decode(np.array([[1.5, 0.1]]))["count"][0] == 1.5


def test_objects_that_are_numbers_are_numbers():
    frame = pd.DataFrame({"x": pd.Series([1, None, 2.5, 4], dtype=object), "y": [0.0, 1, 3, 2]})
    coder = TableCoder.fit(read_frame(frame, "X"))
    assert [str(kind) for kind in coder.kinds] == ["real", "real"]


def test_arrays_come_back_in_their_type():
    x = np.array([[1, 2], [3, 5], [4, 4]])
    coder = TableCoder.fit(read_array(x.astype(float), "X", x.dtype), "integer")
    back = coder.decode(np.array([[1.2, 2.4]]))
    assert back.dtype == x.dtype
    np.testing.assert_array_equal(back, [[1, 2]])
    real = TableCoder.fit(read_array(x.astype(float), "X", x.dtype))
    assert real.decode(np.array([[1.2, 2.4]])).dtype == np.float64


@pytest.mark.parametrize(
    "fault", [{"mass": -1.0}, {"count": 1.5}, {"kind": "c"}, {"one": 8.0}, {"again": 9.0}]
)
def test_rows_outside_have_no_density(fault):
    coder = coder_of()
    log_det = coded(coder, FRAME.astype({"kind": object, "count": float}).assign(**fault)).log_det
    assert np.isneginf(log_det).all()


def test_missing_values_of_any_column_are_allowed():
    coder = coder_of()
    gone = FRAME.astype(object).mask(np.eye(4, 8, dtype=bool) | np.eye(4, 8, k=4, dtype=bool))
    for column in ("mass", "count", "one", "again"):
        gone[column] = gone[column].astype(float)
    rows, log_det = coded(coder, gone)
    assert np.isfinite(log_det).all()
    # The first row's mass is known from its copy.
    np.testing.assert_array_equal(np.isnan(rows[:3]).sum(1), [0, 3, 2])


@pytest.mark.parametrize(
    ("support", "message"),
    [
        ("whole", r"support of column 'mass' to be one of 'auto', 'real'.*got 'whole'"),
        ({"weight": "real"}, r"name columns among 'mass', .*got 'weight'"),
        (["real"], r"a list of 8 of these"),
        ((2, 1), r"low < high; got \(2, 1\)"),
        ({"mass": (0, 2)}, r"between 0 and 2 in column 'mass' of X.*got 2.5 in row 2 and 1 more"),
        ({"mass": "integer"}, r"whole numbers in column 'mass'.*got 0.5 in row 0"),
        ({"text": "real"}, r"support of column 'text' to be 'category', as it holds 'x'; got 'rea"),
    ],
)
def test_faults_of_the_support_name_the_place(support, message):
    with pytest.raises(ValueError, match=message):
        TableCoder.fit(read_frame(FRAME, "X"), support)


DAYS = pd.to_datetime(["2020-01-01", "2021-01-01"])


@pytest.mark.parametrize(
    ("times", "got"),
    [
        (DAYS, r"datetime64\[.*\] in column 't'"),
        (DAYS - DAYS[0], r"timedelta64\[.*\] in column 't'"),
        (DAYS.to_period("D"), r"period\[D\] in column 't'"),
        (pd.Series(DAYS.to_period("D"), dtype=object), r"Period\(.*\) in row 0, column 't'"),
        (pd.Series([None, *DAYS.date]), r"datetime.date\(2020, 1, 1\) in row 1, column 't'"),
        (pd.Series([*DAYS.to_pydatetime()], dtype=object), r".*2020.* in row 0, column 't'"),
        (pd.Series(["never", DAYS[0]], dtype=object), r"Timestamp\(.*\) in row 1, column 't'"),
    ],
)
def test_times_are_refused_with_the_way_out(times, got):
    with pytest.raises(ValueError, match=f"text in X; got {got}. .*days since a date"):
        read_frame(pd.DataFrame({"t": times}), "X")


def test_times_in_arrays_are_refused():
    for array in (DAYS.to_numpy("datetime64[ns]"), DAYS.to_pydatetime()):
        with pytest.raises(ValueError, match="in .*column 0.*days since a date"):
            read_array(array[:, None].astype(object), "y", array.dtype)


def test_dates_that_were_made_categories_are_categories():
    frame = pd.DataFrame({"t": pd.Categorical(DAYS.date)})
    kind = TableCoder.fit(read_frame(frame, "X")).kinds[0]
    assert str(kind).startswith("one of datetime.date(2020, 1, 1), ")


def test_truth_values_in_arrays_are_categories_that_come_back():
    x = np.array([[True, False], [False, False], [True, True], [False, False]])
    coder = TableCoder.fit(read_array(x.astype(float), "X", x.dtype))
    assert [str(kind) for kind in coder.kinds] == ["one of False, True"] * 2
    table = read_array(x.astype(float), "X", x.dtype)
    back = coder.decode(coder.encode(table, np.full((4, 2), 0.5)).rows)
    assert back.dtype == bool
    np.testing.assert_array_equal(back, x)


def test_text_in_a_column_of_numbers_is_named():
    coder = coder_of()
    table = read_frame(FRAME.assign(mass=[1.0, 2.0, "heavy", 3.0]), "X")
    with pytest.raises(ValueError, match="column 'mass' of X, which .*; got 'heavy' in row 2"):
        coder.first_outside(table)


def test_faults_of_tables_name_the_place():
    with pytest.raises(ValueError, match="columns in X; got none in a frame of 3 rows"):
        read_frame(pd.DataFrame(index=range(3)), "X")
    with pytest.raises(ValueError, match=r"got \[1\] in row 1, column 'x'"):
        read_frame(pd.DataFrame({"x": ["a", [1]]}), "X")
    with pytest.raises(ValueError, match=r"got inf in row 1, column 1"):
        read_array(np.array([[0.0, 1.0], [2.0, np.inf]]), "X")
    with pytest.raises(ValueError, match=r"got none in column 'x'. Leave it out"):
        TableCoder.fit(read_frame(pd.DataFrame({"x": [np.nan, np.nan]}), "X"))
    with pytest.raises(ValueError, match=r"columns of X that vary.*column 'x'"):
        TableCoder.fit(read_frame(pd.DataFrame({"x": [2.0, 2.0]}), "X"))


def test_a_missing_value_is_known_from_its_copy():
    x = np.array([[1.0, 1.0, 0.0], [2.0, 2.0, 3.0], [4.0, 4.0, 1.0], [5.0, 5.0, 2.0]])
    with pytest.warns(UserWarning, match="column 1 repeats column 0"):
        coder = TableCoder.fit(read_array(x, "X"))
    gone = x.copy()
    gone[0, 0] = gone[1, 1] = np.nan
    rows, log_det = coder.encode(read_array(gone, "X"), np.empty((4, 0)))
    np.testing.assert_array_equal(rows, x[:, [0, 2]])
    np.testing.assert_array_equal(log_det, 0.0)


def test_copies_with_gaps_of_their_own_are_copies():
    x = np.column_stack([np.arange(8.0), np.arange(8.0), np.arange(8.0) % 3])
    x[0, 0] = x[1, 1] = np.nan
    with pytest.warns(UserWarning, match="column 1 repeats column 0"):
        coder = TableCoder.fit(read_array(x, "X"))
    assert len(coder.kinds) == 2


@pytest.mark.parametrize("dtype", ["int8", "uint8", "UInt8", "int64", "Int64"])
def test_draws_beyond_a_type_of_whole_numbers_stay_at_its_end(dtype):
    frame = pd.DataFrame({"k": pd.Series([1, 2, 5], dtype=dtype), "x": [0.0, 1.0, 3.0]})
    coder = TableCoder.fit(read_frame(frame, "X"))
    back = coder.decode(np.array([[-1e30, 0.0], [2.0, 0.0], [1e30, 0.0]]))
    info = np.iinfo(dtype.lower())
    assert back["k"].dtype == frame["k"].dtype
    assert back["k"][0] == info.min
    assert back["k"][1] == 2
    assert back["k"][2] == pytest.approx(info.max)


def test_whole_copies_of_real_columns_are_drawn_as_they_are():
    frame = pd.DataFrame({"x": [1.0, 2.0, 4.0], "k": [1, 2, 4]})
    with pytest.warns(UserWarning, match="'k' repeats column 'x'"):
        coder = TableCoder.fit(read_frame(frame, "X"))
    back = coder.decode(np.array([[1.5]]))
    assert back["k"][0] == 1.5


def test_whole_numbers_that_floats_cannot_tell_apart_are_refused():
    frame = pd.DataFrame({"id": [2**60, 2**60 + 1], "x": [0.0, 1.0]})
    with pytest.raises(ValueError, match=r"below 2\*\*52 in column 'id'.*Subtract an offset"):
        TableCoder.fit(read_frame(frame, "X"))


def test_the_first_value_outside_is_named():
    coder = coder_of()
    table = read_frame(FRAME.assign(mass=[1.0, 1.0, -2.0, 1.0], again=[1.0, 1.0, -2.0, 1.0]), "X")
    assert coder.first_outside(table) == (2, 0)
    assert coder.first_outside(read_frame(FRAME, "X")) is None
    assert coder.described(0) == "column 'mass' above 0"
