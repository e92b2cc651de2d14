"""The density of rows given others."""

import datetime
import pickle
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm
from sklearn.model_selection import GridSearchCV

from gauss_flows.estimators import FlowDensity

SLOPE, NOISE = 0.8, 0.6
GIVEN = np.array([[-1.0], [0.0], [2.0]])


def pairs(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 1))
    return SLOPE * y + NOISE * rng.normal(size=(n, 1)), y


@pytest.fixture(scope="module")
def line():
    return FlowDensity("gaussian").fit(*pairs())


@pytest.fixture(scope="module")
def curve():
    """Noise and mean that depend on y, and a positive x."""
    x, y = curved()
    return FlowDensity("mixture", n_components=8, support="positive").fit(x, y)


def curved(n=1500, seed=0):
    rng = np.random.default_rng(seed)
    y = rng.uniform(-2, 2, size=(n, 1))
    return np.exp(np.sin(y) + (0.2 + 0.1 * y**2) * rng.normal(size=(n, 1))), y


def test_the_density_given_y_and_alone(line):
    x = np.array([[-0.5], [0.3], [1.0]])
    truth = norm(SLOPE * GIVEN, NOISE).logpdf(x)[:, 0]
    np.testing.assert_allclose(line.score_samples(x, GIVEN), truth, atol=0.1)
    np.testing.assert_allclose(line.score_samples(x), norm.logpdf(x)[:, 0], atol=0.1)
    assert line.score(x, GIVEN) == pytest.approx(line.score_samples(x, GIVEN).sum())
    # y that is missing says nothing.
    np.testing.assert_allclose(
        line.score_samples(x, np.full((3, 1), np.nan)), line.score_samples(x), atol=1e-8
    )


def test_means_quantiles_and_intervals(line):
    centre = SLOPE * GIVEN
    np.testing.assert_allclose(line.conditional_mean(GIVEN), centre, atol=0.07)
    q = np.array([0.1, 0.5, 0.9])
    found = line.conditional_quantiles(GIVEN, q)
    assert found.shape == (3, 3, 1)
    np.testing.assert_allclose(found[..., 0], centre + NOISE * norm.ppf(q), atol=0.1)
    np.testing.assert_array_equal(line.conditional_quantiles(GIVEN, 0.5), found[:, 1])
    low, high = line.conditional_interval(GIVEN, 0.8)
    np.testing.assert_allclose(np.stack([low, high], 1), found[:, [0, 2]])


def test_intervals_cover_what_they_say(curve):
    x, y = curved(2000, 1)
    low, high = curve.conditional_interval(y[:300], 0.8)
    covers = (low <= x[:300]) & (x[:300] <= high)
    assert abs(covers.mean() - 0.8) < 0.08
    assert (low > 0).all()
    width = np.log(high / low)[:, 0]
    assert np.corrcoef(width, y[:300, 0] ** 2)[0, 1] > 0.8


def test_a_curved_density_is_learnt(curve):
    x, y = curved(2000, 2)
    truth = norm(np.sin(y), 0.2 + 0.1 * y**2).logpdf(np.log(x)) - np.log(x)
    assert 0 <= np.mean(truth[:, 0] - curve.score_samples(x, y)) < 0.08


def test_samples_follow_their_y(line):
    drawn = line.sample(2000, random_state=0, y=GIVEN)
    assert drawn.shape == (6000, 1)
    by_row = drawn.reshape(3, 2000)
    np.testing.assert_allclose(by_row.mean(1), SLOPE * GIVEN[:, 0], atol=0.1)
    np.testing.assert_allclose(by_row.std(1), NOISE, atol=0.06)
    assert line.sample(3, y=1.0).shape == (3, 1)
    alone = line.sample(4000, random_state=1, y=[[np.nan]])
    assert alone.std() == pytest.approx(1.0, abs=0.06)


@pytest.fixture(scope="module")
def classes():
    rng = np.random.default_rng(0)
    y = pd.Series(rng.choice(["low", "high"], size=900, p=[0.7, 0.3]), name="level")
    centre = np.where(y == "low", -3.0, 3.0)
    return pd.DataFrame({"x": centre + rng.normal(size=900)}), y


def test_every_category_that_is_given_has_a_flow(classes):
    frame, y = classes
    density = FlowDensity("gaussian").fit(frame, y)
    x = pd.DataFrame({"x": [-3.0, 3.0]})
    np.testing.assert_allclose(
        density.score_samples(x, ["low", "high"]), norm.logpdf([0, 0]), atol=0.2
    )
    assert (density.score_samples(x, ["high", "low"]) < -6).all()
    # Without a class it is the sum over both.
    truth = norm.logpdf(0) + np.log([np.mean(y == "low"), np.mean(y == "high")])
    np.testing.assert_allclose(density.score_samples(x), truth, atol=0.2)
    np.testing.assert_allclose(density.score_samples(x, [None, None]), density.score_samples(x))
    drawn = density.sample(300, 0, y="low")
    assert isinstance(drawn, pd.DataFrame)
    assert np.mean(drawn["x"] < 0) > 0.97
    anyone = density.sample(2000, 0, y=[None])
    assert np.mean(anyone["x"] < 0) == pytest.approx(np.mean(y == "low"), abs=0.05)
    np.testing.assert_allclose(density.conditional_mean(["high", "low"]), [[3.0], [-3.0]], atol=0.2)
    with pytest.raises(ValueError, match="y within its support, column 'level' one of.*got middle"):
        density.score_samples(x, ["low", "middle"])
    assert set(density.flows_) == {"low", "high"}


@pytest.fixture(scope="module")
def mixed():
    """x is normal about a line in a number, of which each of four combinations has its own."""
    rng = np.random.default_rng(0)
    n = 1600
    level = rng.choice(["low", "high"], size=n, p=[0.7, 0.3])
    site = rng.choice(["a", "b"], size=n)
    number = rng.normal(size=n) + 2.0 * (site == "b")
    x = pd.DataFrame({"x": mixed_mean(level, site, number) + 0.5 * rng.normal(size=n)})
    y = pd.DataFrame({"level": level, "number": number, "site": site})
    return x, y, FlowDensity("gaussian").fit(x, y)


def mixed_mean(level, site, number):
    slope = np.where(np.equal(site, "a"), 1.0, -1.0)
    return np.where(np.equal(level, "low"), -3.0, 3.0) + slope * number


ASK = pd.DataFrame(
    {
        "level": ["low", "high", "low", "high"],
        "number": [0.5, 0.5, 1.5, 1.5],
        "site": ["a", "a", "b", "b"],
    }
)


def test_categories_beside_numbers_have_flows_of_their_own(mixed):
    """Nothing leaks between levels: one Gaussian of their codes is off by whole units."""
    _, _, density = mixed
    assert set(density.flows_) == {(one, two) for one in ("low", "high") for two in "ab"}
    truth = mixed_mean(ASK["level"], ASK["site"], ASK["number"])
    np.testing.assert_allclose(density.conditional_mean(ASK)[:, 0], truth, atol=0.12)
    at_mean = density.score_samples(pd.DataFrame({"x": truth}), ASK)
    np.testing.assert_allclose(at_mean, norm(0, 0.5).logpdf(0), atol=0.15)
    low, high = density.conditional_interval(ASK, 0.8)
    np.testing.assert_allclose((high - low)[:, 0], 2 * 0.5 * norm.ppf(0.9), atol=0.12)
    pickled = pickle.loads(pickle.dumps(density))
    np.testing.assert_array_equal(pickled.sample(2, 0, y=ASK), density.sample(2, 0, y=ASK))


def test_what_is_not_given_is_summed_over(mixed):
    """With the weights that the rest of y gives the classes: here the number tells the site."""
    x, _, density = mixed
    grid = pd.DataFrame({"x": np.linspace(-12.0, 12.0, 961)})
    for number in (-1.0, 1.0, 3.0, None):
        ask = pd.DataFrame({"level": ["high"] * 961, "number": number, "site": None})
        ask["number"] = ask["number"].astype(float)
        at = np.exp(density.score_samples(grid, ask))
        assert np.trapezoid(at, grid["x"]) == pytest.approx(1.0, abs=1e-3)
        site = np.array(["a", "b"])
        numbers = np.array([norm.pdf(number), norm.pdf(number - 2)]) if number else np.ones(2)
        if number:
            weights = numbers / numbers.sum()
            truth = weights @ norm(mixed_mean("high", site, number)[:, None], 0.5).pdf(
                grid["x"].to_numpy()
            )
            assert np.trapezoid(np.abs(at - truth), grid["x"]) < 0.3
    alone = np.exp(density.score_samples(grid))
    assert np.trapezoid(alone, grid["x"]) == pytest.approx(1.0, abs=1e-3)
    nothing = pd.DataFrame({"level": [None], "number": [np.nan], "site": [None]})
    np.testing.assert_allclose(
        np.exp(density.score_samples(grid[::96], pd.concat([nothing] * len(grid[::96])))),
        alone[::96],
        rtol=1e-6,
    )
    drawn = density.sample(4000, 0, y=nothing)["x"]
    assert drawn.mean() == pytest.approx(x["x"].mean(), abs=0.2)
    assert drawn.std() == pytest.approx(x["x"].std(), abs=0.2)
    ask = pd.DataFrame({"level": ["high"], "number": 3.0, "site": None})
    site = density.sample(3000, 0, y=ask)
    # Of number 3 the site is b in 98 of 100, and x about 0.
    share = norm.pdf(1) / (norm.pdf(1) + norm.pdf(3))
    assert np.mean(site["x"] < 3.0) == pytest.approx(share, abs=0.04)


def test_counts_beside_categories_are_summed_over_their_points():
    rng = np.random.default_rng(0)
    group, count = rng.choice(["a", "b"], size=800), rng.poisson(3.0, size=800)
    x = np.where(group == "a", 1.0, -1.0) * count + 0.3 * rng.normal(size=800)
    y = pd.DataFrame({"group": group, "count": count})
    density = FlowDensity("gaussian").fit(x[:, None], y)
    ask = pd.DataFrame({"group": ["a", "b"], "count": [4, 2]})
    np.testing.assert_allclose(density.conditional_mean(ask)[:, 0], [4.0, -2.0], atol=0.2)
    assert density.sample(5, y=ask).shape == (10, 1)
    unknown = pd.DataFrame({"group": ["a", None], "count": pd.array([None, 2], dtype="Int64")})
    assert np.isfinite(density.score_samples([[3.0], [-2.0]], unknown)).all()


def test_intervals_given_counts_hold_what_the_density_says():
    """They are of the mass of a count, spread over its unit interval, not of the interval's middle.

    The flow sees the count at a random point of it, which the slope of 2 makes half of the spread.
    """
    rng = np.random.default_rng(0)
    count = rng.poisson(3.0, size=1500)
    x = 2.0 * count[:, None] + 0.1 * rng.normal(size=(1500, 1))
    density = FlowDensity("gaussian", y_support="integer").fit(x, count)
    grid = np.linspace(-10, 22, 3201)
    for given in (2, 5):
        (low, high), ask = density.conditional_interval([given], 0.8), np.full(3201, given)
        mass = np.exp(density.score_samples(grid[:, None], ask)) * (grid[1] - grid[0])
        assert mass[grid < low[0, 0]].sum() == pytest.approx(0.1, abs=0.01)
        assert mass[grid > high[0, 0]].sum() == pytest.approx(0.1, abs=0.01)


@pytest.mark.parametrize("make", [np.asarray, np.ndarray.tolist, pd.Series])
def test_truth_values_that_are_given_are_classes(make):
    rng = np.random.default_rng(0)
    flag = rng.uniform(size=400) < 0.4
    x = np.where(flag, 3.0, -3.0)[:, None] + rng.normal(size=(400, 1))
    density = FlowDensity("gaussian").fit(x, make(flag))
    assert set(density.flows_) == {False, True}
    np.testing.assert_allclose(density.conditional_mean([True, False]), [[3.0], [-3.0]], atol=0.3)
    assert np.mean(density.sample(200, 0, y=True) > 0) > 0.97


def test_whole_numbers_that_are_given_may_be_classes():
    x, y = pairs(100)
    label = (y[:, 0] > 0).astype(int)
    with pytest.warns(UserWarning, match='column 0 of y are atoms.*y_support="category"'):
        FlowDensity("gaussian").fit(x, label)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        density = FlowDensity("gaussian", y_support="category").fit(x, label)
    assert set(density.flows_) == {0.0, 1.0}


def test_combinations_that_were_not_fitted_are_named(mixed):
    x, y, _ = mixed
    seen = ~((y["level"] == "low") & (y["site"] == "b"))
    density = FlowDensity("gaussian").fit(x[seen], y[seen])
    assert len(density.flows_) == 3
    with pytest.raises(ValueError, match="'level' and .*'site' of y .* got low, b in row 2"):
        density.score_samples(x.head(4), ASK)
    # A missing site can then be one alone.
    ask = ASK.head(1).assign(site=None)
    np.testing.assert_allclose(
        density.score_samples(x.head(1), ask), density.score_samples(x.head(1), ASK.head(1))
    )


def test_few_rows_of_a_combination_are_fitted_with_the_others(mixed):
    x, y, _ = mixed
    few = ~((y["level"] == "low") & (y["site"] == "b")) | (np.arange(len(y)) < 16)
    assert 0 < (few & (y["level"] == "low") & (y["site"] == "b")).sum() < 10
    density = FlowDensity("gaussian").fit(x[few], y[few])
    assert not density.flows_
    assert np.isfinite(density.score_samples(x.head(4), ASK)).all()
    rare = y.assign(site=np.where(np.arange(len(y)) < 4, "c", y["site"]))
    assert not FlowDensity("gaussian").fit(x, rare).flows_


def test_too_rare_a_category_joins_the_others(classes):
    frame, y = classes
    rare = y.where(np.arange(len(y)) > 1, "rare")
    density = FlowDensity("gaussian").fit(frame, rare)
    assert not density.flows_
    assert np.isfinite(density.score_samples(frame.head(2), rare.head(2))).all()


def test_a_trained_conditional_flow():
    x, y = pairs(600)
    density = FlowDensity("affine-coupling", n_layers=1, max_epochs=200).fit(x, y)
    fresh = pairs(1000, 3)
    truth = norm(SLOPE * fresh[1], NOISE).logpdf(fresh[0]).mean()
    assert truth - density.score(*fresh) / 1000 < 0.08
    assert len(density.history_["train"]) > 1
    with pytest.raises(ValueError, match="family='mixture'"):
        density.score_samples(x)
    low, high = density.conditional_interval(GIVEN)
    assert (low < SLOPE * GIVEN).all()
    assert (high > SLOPE * GIVEN).all()


def test_grid_search_and_pickle_go_through(line):
    x, y = pairs(200)
    search = GridSearchCV(FlowDensity("gaussian"), {"random_state": [0, 1]}, cv=2).fit(x, y)
    assert np.isfinite(search.best_score_)
    again = pickle.loads(pickle.dumps(line))
    np.testing.assert_array_equal(again.score_samples(x, y), line.score_samples(x, y))


def test_faults_of_y(line):
    x, y = pairs(50)
    for family in ("rbig", "diagonal"):
        with pytest.raises(ValueError, match=f"one of .*got '{family}'"):
            FlowDensity(family).fit(x, y)
    with pytest.raises(ValueError, match="for each of the 50 rows of X; got 49"):
        FlowDensity("gaussian").fit(x, y[:49])
    with pytest.raises(ValueError, match="Fit without y"):
        FlowDensity("gaussian").fit(x, np.ones(50))
    with pytest.raises(ValueError, match="got inf in row 2, column 0"):
        FlowDensity("gaussian").fit(x, np.where(np.arange(50) == 2, np.inf, y[:, 0]))
    with pytest.raises(ValueError, match="relation between column 0 of y"):
        FlowDensity("gaussian").fit(2 * y, y)
    with pytest.raises(ValueError, match="y with 1 columns; got 2"):
        line.score_samples(x, np.column_stack([y, y]))
    with pytest.raises(ValueError, match="Expected y, as the density was fitted given one"):
        line.sample(3)
    with pytest.raises(ValueError, match="q between 0 and 1"):
        line.conditional_quantiles(GIVEN, 1.0)
    with pytest.raises(ValueError, match=r"q between 0 and 1; got \['a'\]"):
        line.conditional_quantiles(GIVEN, ["a"])
    with pytest.raises(ValueError, match="coverage between 0 and 1; got 90"):
        line.conditional_interval(GIVEN, 90)
    with pytest.raises(ValueError, match="coverage between 0 and 1; got '0.9'"):
        line.conditional_interval(GIVEN, "0.9")
    with pytest.raises(ValueError, match=r"integer; got an array of shape \(3, 1\). Give y by"):
        line.sample(GIVEN)
    with pytest.raises(ValueError, match="columns in y; got none"):
        FlowDensity("gaussian").fit(x, pd.DataFrame(index=range(50)))
    days = [datetime.date(2020, 1, 1) + datetime.timedelta(days) for days in range(50)]
    for times in (days, np.array(days, "datetime64[ns]"), pd.Series(days)):
        with pytest.raises(ValueError, match="text in y; got .*days since a date"):
            FlowDensity("gaussian").fit(x, times)
    with pytest.raises(ValueError, match="in column 0 of y, which had numbers .*'b' in row 1"):
        line.score_samples(x[:2], np.array([1.0, "b"], object))
    two = pd.DataFrame({"p": y[:, 0], "q": np.sin(3 * y[:, 0]) + x[:, 0]})
    other = FlowDensity("gaussian").fit(x**2, two)
    with pytest.raises(ValueError, match="columns 'p', 'q' in this order; got 'q', 'p'"):
        other.score_samples(x, two[["q", "p"]])
    plain = FlowDensity("gaussian").fit(x)
    for ask in (lambda: plain.score_samples(x, y), lambda: plain.sample(1, y=y)):
        with pytest.raises(ValueError, match="Expected no y"):
            ask()
    with pytest.raises(ValueError, match="fitted with y"):
        plain.conditional_mean(y)
    named = FlowDensity("gaussian").fit(
        pd.DataFrame({"x": x[:, 0], "kind": np.where(x[:, 0] + y[:, 0] > 0, "a", "b")}), y
    )
    with pytest.raises(ValueError, match="got categories in column 'kind'"):
        named.conditional_mean(y)


def test_a_class_of_few_rows_is_named():
    label = np.random.default_rng(0).integers(0, 2, 200).astype(str)
    x = 6.0 * (label == "1") + np.random.default_rng(1).normal(size=200)
    label[:2] = "rare"
    with pytest.warns(UserWarning, match="2 rows whose y is 'rare'"):
        FlowDensity("gaussian").fit(x[:, None], label)
    y = pd.Series(label[2:].astype(int), dtype="category")
    density = FlowDensity("gaussian").fit(x[2:, None], y)
    np.testing.assert_allclose(density.conditional_mean([0, 1]).ravel(), [0, 6], atol=0.3)
