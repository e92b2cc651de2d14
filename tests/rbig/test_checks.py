"""What is wrong with a table is found at the door and named."""

import warnings

import numpy as np
import pytest

from gauss_flows.rbig.checks import check_table, check_weights
from gauss_flows.rbig.fit import fit_rbig, fit_rbig_coupling

RNG = np.random.default_rng(0)
GOOD = RNG.normal(size=(50, 3))


class Frame:
    """As much of a data frame as messages need."""

    def __init__(self, values, columns):
        self.values, self.columns = values, columns

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


def changed(row, column, value):
    x = GOOD.copy()
    x[row, column] = value
    return x


def with_column(column):
    return np.column_stack([GOOD, column])


FAULTS = {
    "a vector": (
        GOOD[:, 0],
        "Expected x of shape (n_rows, n_dims); got shape (50,). For one column write x[:, None].",
    ),
    "three axes": (
        GOOD[None],
        "Expected x of shape (n_rows, n_dims); got shape (1, 50, 3).",
    ),
    "no rows": (GOOD[:0], "Expected x to have rows; got shape (0, 3)."),
    "no columns": (GOOD[:, :0], "Expected x to have columns; got shape (50, 0)."),
    "few rows": (
        GOOD[:7],
        "Expected at least as many rows in x as components, 8; got 7.",
    ),
    "wide": (RNG.normal(size=(10, 10)), "Expected more rows in x than its 10 columns; got 10."),
    "NaN": (changed(3, 1, np.nan), "Expected finite values in x; got nan in row 3, column 1."),
    "infinite": (
        np.maximum(changed(4, 2, -np.inf), changed(6, 0, np.inf)),
        "Expected finite values in x; got inf in row 6, column 0.",
    ),
    "NaN in a frame": (
        Frame(changed(3, 1, np.nan), ["a", "b", "c"]),
        "Expected finite values in x; got nan in row 3, column 'b'.",
    ),
    "constant": (
        with_column(np.full(50, 2.5)),
        "Expected columns of x that vary; got the same value in every row of column 3, where no "
        "density exists. Leave such columns out.",
    ),
    "two constant in a frame": (
        Frame(np.column_stack([np.ones(50), GOOD[:, 0], np.zeros(50)]), ["a", "b", "c"]),
        "Expected columns of x that vary; got the same value in every row of column 'a' and "
        "column 'c', where no density exists. Leave such columns out.",
    ),
    "repeated": (
        with_column(GOOD[:, 1]),
        "Expected columns of x that differ; got column 3 equal to column 1, so that no joint "
        "density exists. Leave one of them out.",
    ),
    "in other units": (
        with_column(2.54 * GOOD[:, 2] - 40),
        "Expected columns of x none of which follows from the others; got a linear relation "
        "between column 2 and column 3, so that no joint density exists. Leave one of them out.",
    ),
    "a sum": (
        with_column(GOOD.sum(1)),
        "Expected columns of x none of which follows from the others; got a linear relation "
        "between column 0, column 1, column 2 and column 3, so that no joint density exists. "
        "Leave one of them out.",
    ),
    "strings": (
        np.array([["1.0", "2.0"], ["3.0", "x"]]),
        "Expected real numbers in x; got np.str_('1.0') in row 0, column 0.",
    ),
    "a string among numbers": (
        np.array([[1.0, 2.0], [3.0, "x"]], dtype=object),
        "Expected real numbers in x; got 'x' in row 1, column 1.",
    ),
    "complex": (
        GOOD + 1j,
        None,
    ),
}


@pytest.mark.parametrize("fit", [check_table, fit_rbig], ids=["check", "fit"])
@pytest.mark.parametrize("name", FAULTS)
def test_faults_are_named(name, fit):
    x, message = FAULTS[name]
    options = {"n_components": 8} if fit is check_table else {"n_layers": 1}
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fit(x, **options)
    if message is None:
        assert str(error.value).startswith("Expected real numbers in x; got ")
    else:
        assert str(error.value) == message


def test_a_coupling_needs_two_columns():
    import jax.random as jr

    with pytest.raises(ValueError, match="Expected at least two columns for a coupling flow"):
        fit_rbig_coupling(GOOD[:, :1], jr.key(0))


def test_whole_numbers_are_accepted_with_a_warning():
    x = np.column_stack([RNG.poisson(5.0, 50), GOOD[:, 0], RNG.integers(0, 9, 50)])
    with pytest.warns(UserWarning, match="the values of column 0 and column 2 are atoms"):
        table = check_table(x)
    assert table.dtype == np.float64
    with pytest.warns(UserWarning, match="atoms"):
        flow = fit_rbig(x, n_layers=2)
    assert np.all(np.isfinite(flow.log_prob(table)))


def test_numbers_held_as_objects_are_accepted():
    assert np.array_equal(check_table(GOOD.astype(object)), GOOD)


def test_nearly_dependent_columns_are_accepted_with_a_warning():
    x = with_column(GOOD[:, 1] + 1e-5 * RNG.normal(size=50))
    with pytest.warns(UserWarning, match="nearly dependent: column 1 and column 3 leave a share"):
        check_table(x)


def test_good_data_pass_in_silence():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(check_table(GOOD), GOOD)
        check_table(1e6 + 1e-3 * GOOD)
        check_table(1e-30 * GOOD)
        check_table(GOOD.tolist())


def test_values_that_float32_cannot_hold_are_named():
    with pytest.raises(ValueError, match=r"range of float32; got 1e\+39 in row 3, column 1"):
        fit_rbig(changed(3, 1, 1e39), n_layers=1)
    with pytest.warns(UserWarning, match="In float32 the values of column 1 of x run together"):
        fit_rbig(GOOD + np.array([0.0, 1e5, 0.0]), n_layers=1)


def test_values_that_float64_can_hold_are_fitted(x64):
    x = GOOD * np.array([1.0, 1e39, 1.0]) + np.array([0.0, 0.0, 1e6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        flow = fit_rbig(x, n_layers=1)
    assert np.isfinite(flow.log_prob(x)).all()


def test_long_lists_of_columns_are_cut():
    x = np.column_stack([GOOD[:, :1], np.ones((50, 30))])
    with pytest.raises(ValueError, match=r"column 1, .*column 7 and 23 more, where"):
        check_table(x)


@pytest.mark.parametrize(
    ("weight", "message"),
    [
        (np.ones(3), "Expected sample_weight of shape (50,); got (3,)."),
        (
            np.where(np.arange(50) == 7, -1.0, 1.0),
            "Expected sample_weight to be finite and not negative; got -1.0 in row 7.",
        ),
        (
            np.where(np.arange(50) == 9, np.nan, 1.0),
            "Expected sample_weight to be finite and not negative; got nan in row 9.",
        ),
        (np.zeros(50), "Expected a sample_weight above zero; got none."),
    ],
)
def test_faulty_weights_are_named(weight, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        check_weights(weight, 50)
    assert str(error.value) == message
