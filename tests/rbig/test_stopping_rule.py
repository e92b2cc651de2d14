"""The drop in total correlation and its error, from gains whose means are known."""

import numpy as np
import pytest

from gauss_flows.rbig.stopping import (
    Gains,
    effective_rows,
    is_independent,
    null_rows,
    sum_of_gains,
    total_correlation_drop,
)

RNG = np.random.default_rng(0)


def test_effective_rows_are_those_that_would_average_as_well():
    assert effective_rows(np.array([3.0, 1.0, 0.0]), 3) == pytest.approx(16 / 10)
    assert effective_rows(np.full(7, 0.2), 7) == pytest.approx(7)
    assert effective_rows(None, 60_000) == 60_000


@pytest.mark.parametrize("weighted", [False, True])
def test_the_null_rows_gain_is_taken_off_in_proportion_to_the_rows(weighted):
    """What 20 000 rows gain by being fitted is three times what 60 000 do."""
    rows, null = RNG.normal(0.3, 2.0, 60_000), RNG.normal(0.09, 1.5, 20_000)
    weight = np.repeat([1.0, 0.0], 30_000) if weighted else None
    n = 30_000 if weighted else 60_000
    drop = total_correlation_drop(Gains(rows, null), weight)
    ratio = 20_000 / n
    assert drop.value == pytest.approx(rows[:n].mean() - ratio * null.mean(), rel=1e-12)
    errors = rows[:n].std() / np.sqrt(n), ratio * null.std() / np.sqrt(20_000)
    assert drop.standard_error == pytest.approx(np.hypot(*errors), rel=1e-3)


def test_what_the_null_rows_gain_too_is_no_dependence():
    rows, null = RNG.normal(0.5, 1.0, 5000), RNG.normal(0.5, 1.0, 5000)
    assert is_independent([Gains(rows, null)], None)
    assert not is_independent([Gains(rows, null - 0.5)], None)


@pytest.mark.parametrize(("in_errors", "is_none"), [(0.0, True), (1.6, True), (2.4, False)])
def test_what_is_within_twice_its_error_is_none(in_errors, is_none):
    rows, null = RNG.normal(size=5000), RNG.normal(size=5000)
    gains = Gains(rows - rows.mean(), null - null.mean())
    _, error = total_correlation_drop(gains)
    assert error == pytest.approx(np.sqrt(2 / 5000), rel=0.05)
    shifted = gains._replace(rows=gains.rows + in_errors * error)
    assert is_independent([shifted], None) == is_none
    # A layer that turned nothing has gains of zero, and two alike together twice the error.
    nothing = Gains(np.zeros(5000), np.zeros(5000))
    assert is_independent([nothing, shifted, shifted], None) == is_none


def test_gains_of_layers_add_up_row_by_row():
    first, second = (Gains(RNG.normal(size=5), RNG.normal(size=3)) for _ in range(2))
    total = sum_of_gains([first, second])
    assert np.allclose(total.rows, first.rows + second.rows)
    assert np.allclose(total.null, first.null + second.null)


def test_there_are_as_many_null_rows_as_rows_that_count():
    assert null_rows(3, None, 500, 0).shape == (500, 3)
    assert null_rows(2, None, 60_000, 0).shape == (20_000, 2)
    weight = np.repeat([1.0, 0.0], [40, 460])
    rows = null_rows(2, weight, 500, 0)
    assert rows.shape == (40, 2)
    assert null_rows(1, np.eye(9)[0], 9, 0).shape == (2, 1)
    large = null_rows(2, None, 20_000, 1)
    assert np.abs(large.mean(0)).max() < 5 / np.sqrt(20_000)
    assert np.abs(np.cov(large.T) - np.eye(2)).max() < 0.05
