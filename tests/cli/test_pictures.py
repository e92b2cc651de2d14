"""What a picture shows, read from the figure itself."""

import matplotlib
import numpy as np
import pytest
from matplotlib import pyplot as plt
from matplotlib.patches import StepPatch

from gauss_flows.cli import panels, pictures

matplotlib.use("Agg")
pytestmark = pytest.mark.filterwarnings("error")
N = 400


@pytest.fixture(autouse=True)
def close_figures():
    yield
    plt.close("all")


def compose(data, z, samples=None, names="abcdefgh"):
    """Return the axes of the upper row, of the lower row, and all texts outside axes."""
    samples = data if samples is None else samples
    figure = pictures._compose(list(names[: data.shape[1]]), data, samples, z)
    left, right = figure.subfigs
    upper, lower = left.subfigs
    assert len(right.axes) == 1
    return upper.axes, lower.axes, [part.get_suptitle() for part in (upper, lower)]


def steps(axes):
    return [patch.get_data() for patch in axes.patches if isinstance(patch, StepPatch)]


def notes(axes):
    return [text.get_text() for text in axes.texts]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_rows_are_columns_before_and_coordinates_of_z_after(rng):
    data = rng.normal(size=(N, 3)) * [1.0, 1.0, 5.0]
    data[:, 1] = np.exp(data[:, 1])
    z = rng.normal(size=(N, 3))
    z[:, 2] *= 0.5
    upper, lower, (before, after) = compose(data, z)
    assert upper[0].get_title() == "b"
    assert lower[0].get_title() == "z[2]"
    assert before == "Before the flow: columns, least normal first"
    assert "z of 400 held-out rows, least normal first" in after
    assert "each z mixes columns and is not that of the panel above" in after


def test_one_column_is_its_own_z(rng):
    _, _, (before, after) = compose(rng.normal(size=(N, 1)), rng.normal(size=(9, 1)))
    assert (before, after) == (
        "Before the flow: the column",
        "After the flow: z of 9 held-out rows",
    )


def test_column_is_drawn_with_the_samples_of_the_same_column(rng):
    data = np.stack([rng.normal(size=N), 100 + rng.exponential(size=N)], axis=1)
    samples = np.stack([rng.normal(size=2 * N), 103 + 0.1 * rng.normal(size=2 * N)], axis=1)
    upper, _, _ = compose(data, rng.normal(size=(N, 2)), samples)
    assert upper[0].get_title() == "b"
    (table, edges, _), (drawn, _, _) = steps(upper[0])
    middle = (edges[1:] + edges[:-1]) / 2
    assert np.average(middle, weights=table) == pytest.approx(101, abs=0.2)
    assert np.average(middle, weights=drawn) == pytest.approx(103, abs=0.2)


def test_latent_panels_share_one_scale(rng):
    z = rng.normal(size=(N, 3)) * [1.0, 0.05, 1.0]
    _, lower, _ = compose(rng.normal(size=(N, 3)), z)
    limits = {axes.get_ylim() for axes in lower}
    assert len(limits) == 1
    assert limits.pop()[1] > max(steps(axes)[0][0].max() for axes in lower)


@pytest.mark.parametrize("far", [20.0, -1e300, np.inf])
def test_z_outside_the_range_is_counted_in_the_end_bin(rng, far):
    z = rng.normal(size=(N, 2))
    z[:, 1] = far
    _, lower, _ = compose(rng.normal(size=(N, 2)), z)
    assert lower[0].get_title() == "z[1]"
    heights, edges, _ = steps(lower[0])[0]
    assert np.sum(heights * np.diff(edges)) == pytest.approx(1.0)
    assert heights[-1 if far > 0 else 0] > 0
    assert notes(lower[0]) == ["400 rows →" if far > 0 else "← 400 rows"]
    assert notes(lower[1]) == []


def test_latent_histogram_is_a_density(rng):
    z = rng.normal(size=(20_000, 1))
    _, (axes,), _ = compose(rng.normal(size=(N, 1)), z)
    heights, edges, _ = steps(axes)[0]
    middle = (edges[1:] + edges[:-1]) / 2
    np.testing.assert_allclose(heights, np.exp(-(middle**2) / 2) / np.sqrt(2 * np.pi), atol=0.04)


def test_heavy_tails_leave_the_bulk_in_sight(rng):
    """Three rows in a thousand at 1e8 are beyond any quantile that is not robust."""
    data = rng.normal(size=(1000, 1))
    data[:30] = 1e8
    data[30] = -1e8
    (axes,), _, _ = compose(data, rng.normal(size=(N, 1)))
    heights, edges, _ = steps(axes)[0]
    assert -10 < edges[0] < edges[-1] < 10
    assert np.sum(heights > 0) > 10
    assert notes(axes) == ["← 1 row", "30 rows →"]
    assert heights.mean() == pytest.approx(0.969)  # of 1, what lies outside takes its share


@pytest.mark.parametrize(
    "column",
    [
        np.r_[np.zeros(300), np.linspace(1, 2, 100)],
        np.r_[np.zeros(399), 1.0],
        np.tile([0.0, 1.0], 200),
        1e200 * np.linspace(-1, 1, 400),
        1e-300 * np.linspace(-1, 1, 400),
        1e9 + np.linspace(0, 1, 400),
        np.array([0.5, 2.0]),
    ],
    ids=["zeros", "one other", "two values", "huge", "minute", "offset", "two rows"],
)
def test_every_column_has_bins_that_hold_its_middle(tmp_path, column):
    edges = panels.edges_of(column)
    assert np.all(np.diff(edges) > 0)
    assert edges[0] <= np.median(column) <= edges[-1]
    pictures.draw_fit(
        tmp_path / "p.svg", columns=["a"], data=column[:, None], samples=column[:, None],
        z=np.array([[0.3]]), title="t",
    )  # fmt: skip
    assert (tmp_path / "p.svg").read_text().startswith("<?xml")
