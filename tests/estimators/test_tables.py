"""Tables as they come: bounded, whole and categorical columns, and missing values."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import multivariate_normal, norm

from gauss_flows.estimators import FlowDensity, FlowOutlierDetector, Gaussianizer
from gauss_flows.estimators.coded_rows import filled
from gauss_flows.selection.incomplete import Companion, marginal_log_density

COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])


def normal_rows(n=1500, seed=0):
    return np.random.default_rng(seed).multivariate_normal([0, 0], COVARIANCE, n)


def mixed_frame(n=800, seed=0):
    """A log-normal, a share, a count and a category, all of two normals."""
    g = normal_rows(n, seed)
    rng = np.random.default_rng(seed + 1)
    return pd.DataFrame(
        {
            "mass": np.exp(g[:, 0]),
            "share": norm.cdf(g[:, 1]),
            "count": np.floor(3 * norm.cdf(g[:, 0] + 0.3 * rng.normal(size=n))).astype(int),
            "kind": np.where(g[:, 1] + 0.3 * rng.normal(size=n) > 0.5, "big", "small"),
        }
    )


SUPPORT = {"mass": "positive", "share": (0, 1)}


@pytest.fixture(scope="module")
def mixed():
    return Gaussianizer("gaussian", support=SUPPORT, random_state=1).fit(mixed_frame())


def test_the_density_of_bounded_columns_is_in_their_own_units():
    g = normal_rows()
    x = np.column_stack([np.exp(g[:, 0]), norm.cdf(g[:, 1])])
    density = FlowDensity("gaussian", support=["positive", (0, 1)]).fit(x)
    fresh = normal_rows(200, 1)
    truth = multivariate_normal([0, 0], COVARIANCE).logpdf(fresh)
    truth -= fresh[:, 0] + norm.logpdf(fresh[:, 1])
    found = density.score_samples(np.column_stack([np.exp(fresh[:, 0]), norm.cdf(fresh[:, 1])]))
    assert np.abs(found - truth).mean() < 0.08
    outside = np.array([[-1.0, 0.5], [0.0, 0.5], [1.0, 1.0], [1.0, -0.1]])
    assert np.isneginf(density.score_samples(outside)).all()


def test_masses_of_discrete_rows_are_their_frequencies():
    frame = mixed_frame(1500)[["count", "kind"]]
    density = FlowDensity("mixture", n_components=4).fit(frame)
    seen = frame.value_counts(normalize=True).reset_index()
    masses = np.exp(density.score_samples(seen[["count", "kind"]]))
    # Six of the seven categories of rows; a Gaussian mixture also gives some to other numbers.
    np.testing.assert_allclose(masses, seen["proportion"], atol=0.04)
    assert 0.85 < masses.sum() < 1.02
    unseen = pd.DataFrame({"count": [0.5, 1.0], "kind": ["big", "huge"]})
    assert np.isneginf(density.score_samples(unseen)).all()


def test_samples_have_the_tables_types_and_frequencies(mixed):
    frame = mixed_frame()
    drawn = mixed.sample(4000, random_state=2)
    assert list(drawn.columns) == list(frame.columns)
    assert (drawn.dtypes == frame.dtypes).all()
    assert (drawn["mass"] > 0).all()
    assert drawn["share"].between(0, 1).all()
    assert np.mean(drawn["kind"] == "big") == pytest.approx(
        np.mean(frame["kind"] == "big"), abs=0.05
    )
    assert drawn["count"].mean() == pytest.approx(frame["count"].mean(), abs=0.1)


def test_transform_comes_back_and_is_normal(mixed):
    frame = mixed_frame(2000, 5)
    z = mixed.transform(frame)
    assert np.abs(np.cov(z.T) - np.eye(4)).max() < 0.15
    back = mixed.inverse_transform(z)
    pd.testing.assert_frame_equal(back, frame, rtol=1e-6)
    with pytest.raises(ValueError, match=r"support, column 'mass' above 0; got -1.0 in row 1"):
        mixed.transform(frame.head(3).assign(mass=[1.0, -1.0, 1.0]))


def test_constant_and_repeated_columns_come_back():
    g = normal_rows(300)
    x = np.column_stack([g[:, 0], np.full(300, 7.0), g[:, 1], g[:, 0]])
    with pytest.warns(UserWarning, match="column 1 is constant, column 3 repeats column 0"):
        gaussianizer = Gaussianizer("gaussian").fit(x)
    z = gaussianizer.transform(x)
    assert z.shape == (300, 2)
    np.testing.assert_allclose(gaussianizer.inverse_transform(z), x, atol=1e-8)
    plain = FlowDensity("gaussian").fit(g)
    np.testing.assert_allclose(
        gaussianizer.score_samples(x), plain.score_samples(x[:, [0, 2]]), atol=1e-6
    )
    assert np.isneginf(gaussianizer.score_samples(x + np.eye(4)[1])).all()


def test_missing_values_are_marginalised_in_fit_and_score():
    x = normal_rows(3000)
    gone = x.copy()
    gone[x[:, 0] > 0, 1] = np.nan  # missing at random, given the first column
    density = FlowDensity("gaussian").fit(gone)
    drawn = density.sample(20_000, random_state=1)
    # The rows that are left have a mean of -0.64 there and a variance of 0.59.
    np.testing.assert_allclose(np.cov(drawn.T), COVARIANCE, atol=0.2)
    np.testing.assert_allclose(drawn.mean(0), 0, atol=0.15)
    alone = np.column_stack([[-1.0, 0.0, 1.0], [np.nan] * 3])
    np.testing.assert_allclose(density.score_samples(alone), norm.logpdf([-1, 0, 1]), atol=0.05)
    assert density.score_samples([[np.nan, np.nan]]) == 0.0


def test_other_flows_are_marginalised_by_importance_sampling():
    x = normal_rows()
    flow = Gaussianizer("rbig", n_components=1).fit(x)
    rows = np.array([[0.5, np.nan], [np.nan, -2.0], [0.3, 0.2]])
    truth = norm.logpdf([0.5, -2.0])
    found = flow.score_samples(rows)
    np.testing.assert_allclose(found[:2], truth, atol=0.06)
    assert found[2] == pytest.approx(flow.score_samples(rows[2:])[0], abs=1e-6)
    # With a proposal that is off, only the ratio can make the marginal right.
    off = flow._companion._replace(
        units=Companion.of(FlowDensity("gaussian").fit(1.4 * x).flow_).units
    )
    found = marginal_log_density(flow.flow_, off, rows[:2])
    assert np.abs(off.log_density(rows[:2]) - truth).max() > 0.2
    np.testing.assert_allclose(found, truth, atol=0.15)


def test_a_family_that_cannot_marginalise_is_fitted_to_drawn_values():
    x = normal_rows(800)
    gone = x.copy()
    gone[::3, 1] = np.nan
    flow = Gaussianizer("rbig", n_components=1).fit(gone)
    np.testing.assert_allclose(np.cov(flow.sample(8000, 0).T), COVARIANCE, atol=0.15)
    z = flow.transform(gone)
    assert np.isfinite(z).all()
    np.testing.assert_allclose(np.cov(z.T), np.eye(2), atol=0.15)


def test_filling_keeps_a_columns_spread_and_what_is_there():
    x = normal_rows(2000)
    gone = x.copy()
    gone[::2, 1] = np.nan
    whole = filled(gone)
    np.testing.assert_array_equal(whole[1::2], x[1::2])
    np.testing.assert_array_equal(whole[:, 0], x[:, 0])
    assert whole[:, 1].std() == pytest.approx(x[1::2, 1].std(), rel=0.05)


def test_outliers_of_incomplete_rows():
    x = normal_rows(400)
    x[5] = [9.0, np.nan]
    detector = FlowOutlierDetector("gaussian", contamination=0.02).fit(x)
    assert detector.predict(x[5:6]) == [-1]


def test_one_column_with_missing_values():
    x = normal_rows(300)[:, :1]
    x[::4] = np.nan
    density = FlowDensity(max_epochs=0).fit(x)
    assert density.score_samples([[np.nan]]) == 0.0
    assert density.score_samples([[0.0]]) == pytest.approx(norm.logpdf(0), abs=0.2)


def test_text_in_arrays_is_for_those_who_say_so():
    x = np.array([["a", 1.0], ["b", 2.0], ["a", 3.5], ["b", 4.0], ["a", 2.0]] * 4, object)
    density = FlowDensity("gaussian", support=["category", "positive"]).fit(x)
    assert set(density.sample(20, 0)[:, 0]) <= {"a", "b"}
    with pytest.raises(ValueError, match="could not convert string to float.*'category'"):
        FlowDensity("gaussian").fit(x)


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, pd.DataFrame])
def test_truth_values_are_categories_however_they_come(make):
    g = normal_rows(600)
    flags = g > 0
    density = FlowDensity("gaussian").fit(make(flags))
    assert [str(kind) for kind in density.coder_.kinds] == ["one of False, True"] * 2
    drawn = np.asarray(density.sample(3000, 0))
    assert drawn.dtype == bool
    cells = [[False, False], [False, True], [True, False], [True, True]]
    masses = np.exp(density.score_samples(pd.DataFrame(cells) if make is pd.DataFrame else cells))
    np.testing.assert_allclose(masses.sum(), 1.0, atol=0.03)
    # Of two normals with correlation 0.8 a share of 1/4 + arcsin(0.8) / 2 pi is above zero.
    both = 0.25 + np.arcsin(0.8) / (2 * np.pi)
    assert masses[3] == pytest.approx(both, abs=0.05)
    assert drawn.all(1).mean() == pytest.approx(both, abs=0.05)


def test_truth_values_may_be_said_to_be_numbers():
    flags = normal_rows(100) > 0
    with pytest.warns(UserWarning, match="Whole numbers"):
        density = FlowDensity("gaussian", support="real").fit(flags)
    assert [str(kind) for kind in density.coder_.kinds] == ["real", "real"]


def test_faults_of_frames_say_the_way_out(mixed):
    frame = mixed_frame(50)
    twice = frame.set_axis(["a", "a", "b", "c"], axis=1)
    with pytest.raises(ValueError, match="names of their own; got 'a' more than once"):
        FlowDensity("gaussian").fit(twice)
    with pytest.raises(ValueError, match="Expected rows in X"):
        mixed.score_samples(frame.head(0))
    with pytest.raises(ValueError, match="'mass' of X, which had .*; got 'heavy' in row 7"):
        mixed.score_samples(
            frame.assign(mass=frame["mass"].astype(object).where(frame.index != 7, "heavy"))
        )


@pytest.mark.parametrize("rare", ["levels", "flag"])
def test_outliers_may_be_the_only_ones_with_a_value(rare):
    rng = np.random.default_rng(0)
    n = 200
    frame = pd.DataFrame(rng.normal(size=(n, 2)), columns=["a", "b"])
    if rare == "levels":
        frame["c"] = [f"id{i}" for i in range(20)] + ["y"] * (n - 20)
    else:
        frame["c"] = np.arange(n) < 12
    detector = FlowOutlierDetector("gaussian", contamination=0.1).fit(frame)
    scores = detector.decision_function(frame)
    assert np.isfinite(scores).all()
    assert np.sum(detector.predict(frame) == -1) == 20


def test_categories_that_are_numbers_are_categories():
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {"rating": pd.Categorical(rng.choice([1, 2, 3], 300)), "x": rng.random(300)}
    )
    density = FlowDensity("gaussian").fit(frame)
    drawn = density.sample(50, random_state=0)
    assert drawn["rating"].dtype == frame["rating"].dtype
    assert set(drawn["rating"]) == {1, 2, 3}
    unseen = density.score_samples(pd.DataFrame({"rating": [9, 1], "x": [0.5, 0.5]}))
    assert unseen[0] == -np.inf
    assert np.isfinite(unseen[1])


@pytest.mark.parametrize("family", ["gaussian", "mixture", "auto"])
def test_a_value_beyond_all_digits_is_refused_and_one_before_is_not(family):
    x = normal_rows(300)
    x[7] = [1e100, -1e100]
    with pytest.raises(ValueError, match=r"in row 7, column [01].*missing value, give NaN"):
        Gaussianizer(family).fit(x)
    x[7] = [1e14, -1e14]
    assert np.isfinite(Gaussianizer(family).fit(x).score_samples(x)).all()


def test_atoms_of_real_columns_are_told_of():
    x = normal_rows(300)
    x[::3, 1] = 0.5
    with pytest.warns(UserWarning, match="0.5 makes up 33% of column 1"):
        Gaussianizer("gaussian").fit(x)


def test_what_is_masked_is_missing():
    x = normal_rows(200)
    gone = np.random.default_rng(2).random(x.shape) < 0.1
    masked = FlowDensity("gaussian").fit(np.ma.array(x, mask=gone))
    missing = np.where(gone, np.nan, x)
    expected = FlowDensity("gaussian").fit(missing).score_samples(missing)
    np.testing.assert_array_equal(masked.score_samples(np.ma.array(x, mask=gone)), expected)


@pytest.mark.parametrize("far", ["x", "y"])
def test_it_is_refused_in_what_is_given_too(far):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(60, 2)), rng.normal(size=(60, 1))
    (x if far == "x" else y)[3, -1] = 1e17
    place = "row 3, column 1" if far == "x" else "row 3, column 0 of y"
    with pytest.raises(ValueError, match=rf"of X and y within 1e\+15 .* in {place}\."):
        FlowDensity("gaussian").fit(x, y)
