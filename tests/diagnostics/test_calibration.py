"""Coverage of intervals that are right, too wide and too narrow."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import ndtr
from scipy.stats import kstest, norm

from diagnostics.flows import (
    COVARIANCE,
    correlated_normal,
    correlated_rows,
    regression,
    regression_rows,
)
from gauss_flows.diagnostics import (
    draw_interval_calibration,
    interval_calibration,
    pit_values,
    quantile_calibration,
)


def test_pit_of_one_column_is_exact():
    x, c = regression_rows(50)
    expected = ndtr((x - np.sin(c)) / 0.5)
    np.testing.assert_allclose(pit_values(regression(), x, c), expected, atol=1e-7)


def test_pit_keeps_the_direction_of_x():
    from flowjax.bijections import Affine
    from flowjax.distributions import StandardNormal, Transformed
    from jax import numpy as jnp

    import gauss_flows as gf

    turned = Transformed(StandardNormal((1,)), gf.FixedRotation(jnp.array([[-1.0]])))
    np.testing.assert_allclose(pit_values(turned, [[2.0]]), ndtr([[2.0]]), atol=1e-7)
    moved = Transformed(turned, Affine(jnp.ones(1), 3 * jnp.ones(1)))
    np.testing.assert_allclose(pit_values(moved, [[7.0]]), ndtr([[2.0]]), atol=1e-7)


def test_pit_of_several_columns_is_that_of_each_column():
    x = correlated_rows(300)
    u = pit_values(correlated_normal(), x, n_samples=2000)
    np.testing.assert_allclose(u, ndtr(x / np.sqrt(np.diag(COVARIANCE))), atol=0.05)
    assert kstest(u[:, 1], "uniform").pvalue > 1e-3


def test_calibrated_intervals_stay_in_the_band():
    rng = np.random.default_rng(0)
    inside = [
        not interval_calibration(rng.uniform(size=(200, 2)), level=0.9).outside.any()
        for _ in range(300)
    ]
    assert -0.055 < np.mean(inside) - 0.9 < 0.07  # shares are whole numbers over n


def test_coverage_and_its_error():
    u = np.random.default_rng(0).uniform(size=(4000, 1))
    table = interval_calibration(0.5 + 0.4 * (u - 0.5), levels=(0.2, 0.6))
    expected = np.array([[0.5], [1.0]])  # |2u − 1| is uniform up to 0.4
    value, error = table.covered
    assert np.all(np.abs(value - expected) <= 3.5 * error)
    assert error[0, 0] == pytest.approx(0.5 / np.sqrt(4000), rel=0.01)
    assert error[1, 0] > 0
    assert table.outside.all()


@pytest.mark.parametrize(("spread", "sign"), [(0.5, 0), (0.3, 1), (0.8, -1)])
def test_conditional_intervals(spread, sign):
    """A flow that takes the spread for 0.5."""
    x, c = regression_rows(1500, spread=spread)
    table = interval_calibration(pit_values(regression(), x, c))
    truth = 2 * norm.cdf(norm.ppf(0.5 + table.nominal / 2) * 0.5 / spread) - 1
    value, error = (part[:, 0] for part in table.covered)
    assert np.all(np.abs(value - truth) < 4 * error)
    assert table.outside.tolist() == [sign != 0]
    assert np.sign(value[4] - table.nominal[4]) == sign or sign == 0


def test_quantiles_of_any_model():
    x, c = regression_rows(1500)

    def right(p, c):
        return np.sin(c) + 0.5 * norm.ppf(p)

    table = quantile_calibration(right, x[:, 0], c)
    from_pit = interval_calibration(pit_values(regression(), x, c))
    np.testing.assert_allclose(table.covered.value, from_pit.covered.value, atol=1e-3)
    assert not table.outside.any()


@pytest.mark.parametrize(
    ("pit", "message"),
    [
        ([[0.5]] * 9, "Expected at least 10 rows; got 9."),
        ([[0.5, 0.5]] * 10 + [[0.5, 1.5]], "in [0, 1]; got 1.5 in row 10, column 1."),
        (np.full((20, 1), np.nan), "got nan in row 0, column 0"),
    ],
)
def test_bad_values_are_named(pit, message):
    with pytest.raises(ValueError) as fault:  # noqa: PT011 - the message is looked at next
        interval_calibration(pit)
    assert message in str(fault.value)


def test_bad_quantiles_levels_and_tables_are_named():
    x, c = regression_rows(20)
    with pytest.raises(ValueError, match="Expected levels between 0 and 1; got \\[1.0\\]"):
        interval_calibration(np.full(20, 0.5), levels=[1.0])
    with pytest.raises(ValueError, match="Expected quantiles of shape \\(20, 22\\); got \\(22,\\)"):
        quantile_calibration(lambda p, c: p, x[:, 0], c)
    with pytest.raises(ValueError, match="rise with the probability; row 0 does not"):
        quantile_calibration(lambda p, c: -p + 0 * c, x[:, 0], c)
    with pytest.raises(ValueError, match="Expected a condition of 1, as the flow has it; got none"):
        pit_values(regression(), x)
    with pytest.raises(ValueError, match="as many rows of condition as of x, 20; got 19"):
        pit_values(regression(), x, c[:19])
    frame = pd.DataFrame({"income": [1.0, np.inf]})
    with pytest.raises(ValueError, match="got inf in row 1, column 'income'"):
        pit_values(regression(), frame, c[:2])


def test_picture_has_the_gaps():
    from matplotlib.figure import Figure

    u = np.random.default_rng(0).uniform(size=(100, 2))
    table = interval_calibration(u)
    axes = draw_interval_calibration(table, Figure().subplots())
    gap = np.asarray(table.covered.value)[:, 1] - table.nominal
    np.testing.assert_allclose(axes.lines[-1].get_ydata(), gap)
