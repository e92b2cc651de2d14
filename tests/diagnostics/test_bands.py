"""The bands hold what they promise, and the tables say where a coordinate leaves them."""

import numpy as np
import pytest
from scipy.special import ndtri
from scipy.stats import beta, kstest

from gauss_flows.diagnostics import draw_pit, draw_qq, pit_table, qq_table

REPEATS = 400


@pytest.mark.parametrize(("n", "d", "level"), [(30, 1, 0.95), (400, 3, 0.8)])
def test_bands_hold_whole_tables_of_normal_rows(n, d, level):
    rng = np.random.default_rng(0)
    inside = {qq_table: 0, pit_table: 0}
    p_values = {qq_table: [], pit_table: []}
    for _ in range(REPEATS):
        z = rng.normal(size=(n, d))
        for table in inside:
            found = table(z, level=level)
            inside[table] += not found.outside.any()
            p_values[table].extend(found.p_value)
    error = np.sqrt(level * (1 - level) / REPEATS)
    assert abs(inside[qq_table] / REPEATS - level) < 3.5 * error
    # Shares are whole numbers over n, so that the band holds a little more than it must.
    assert -3.5 * error < inside[pit_table] / REPEATS - level < 0.03 + 3.5 * error
    assert kstest(p_values[qq_table], "uniform").pvalue > 1e-3


def test_a_coordinate_leaves_the_band_where_its_p_value_is_beyond_its_share():
    rng = np.random.default_rng(1)
    for table in (qq_table, pit_table):
        for _ in range(40):
            found = table(rng.normal(size=(100, 4)) * 1.1)
            share = 1 - found.level ** (1 / 4)
            clear = np.abs(found.p_value - share) > 2e-3
            np.testing.assert_array_equal((found.p_value < share)[clear], found.outside[clear])


def test_tables_hold_the_quantiles_and_shares():
    z = ndtri((np.arange(200) + 0.5) / 200)[:, None] * [1.0, 2.0] + [0.0, 1.0]
    qq, pit = qq_table(z), pit_table(z, n_points=9)
    assert (qq.rank[0], qq.rank[-1]) == (1, 200)
    np.testing.assert_allclose(qq.sample[:, 1], 2 * qq.sample[:, 0] + 1)
    median = ndtri(beta.median(qq.rank, 201 - qq.rank))
    np.testing.assert_allclose(qq.normal, median, atol=5e-3)
    np.testing.assert_allclose(pit.share[:, 0], pit.point, atol=1e-9)
    middle = np.mean(z[:, 1] < 0)
    assert pit.share[4, 1] == middle
    assert qq.outside.tolist() == pit.outside.tolist() == [False, True]
    assert np.all(qq.low < qq.normal)
    assert np.all(qq.normal < qq.high)


def test_far_values_are_far_outside():
    z = np.random.default_rng(0).normal(size=(50, 1))
    z[7] = 1e200
    assert qq_table(z).outside.all()
    assert qq_table(z).p_value[0] < 1e-3


@pytest.mark.parametrize(
    ("z", "message"),
    [
        (np.zeros((5, 2)), "Expected at least 10 rows of z; got 5."),
        (np.full((20, 2), np.nan), "got nan in row 0, column 0"),
        (np.zeros(20), "Expected z of shape (n_rows, n_dims)"),
    ],
)
@pytest.mark.parametrize("table", [qq_table, pit_table])
def test_bad_latents_are_named(table, z, message):
    with pytest.raises(ValueError) as fault:  # noqa: PT011 - the message is looked at next
        table(z)
    assert message in str(fault.value)
    with pytest.raises(ValueError, match="Expected level between 0 and 1; got 1"):
        table(np.zeros((20, 1)), level=1.0)


def test_pictures_show_the_least_normal_coordinates():
    from matplotlib.figure import Figure

    z = np.random.default_rng(0).normal(size=(300, 8))
    z[:, 5] *= 2
    figure = draw_qq(qq_table(z), Figure())
    titles = [axes.get_title() for axes in figure.axes]
    assert len(titles) == 6
    assert titles[0] == "z[5]: leaves the band"
    line = figure.axes[0].lines[-1]
    np.testing.assert_allclose(line.get_ydata(), qq_table(z).sample[:, 5])
    axes = draw_pit(pit_table(z), Figure().subplots())
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == ["95 % of perfect fits", "coordinate inside", "coordinate outside"]
