"""The estimators' own promises: densities, units, names, faults, pipelines, interrupts."""

import pickle

import numpy as np
import pandas as pd
import pytest
from scipy.stats import kstest, multivariate_normal, norm
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from gauss_flows.estimators import FlowDensity, FlowOutlierDetector, Gaussianizer
from gauss_flows.selection import contest

COVARIANCE = np.array([[1.0, 0.6], [0.6, 1.0]])
UNITS = np.array([1e3, 1e-3])


def rows(n=400, seed=0):
    """A correlated log-normal in two very different units."""
    rng = np.random.default_rng(seed)
    return UNITS * np.exp(0.5 * rng.multivariate_normal(np.zeros(2), COVARIANCE, size=n))


def log_density(x):
    logs = 2 * np.log(x / UNITS)
    jacobian = np.log(2 / x).sum(1)
    return multivariate_normal(np.zeros(2), COVARIANCE).logpdf(logs) + jacobian


@pytest.fixture(scope="module")
def fitted():
    return Gaussianizer(max_epochs=0).fit(rows())


def test_the_default_learns_a_skewed_density(fitted):
    fresh = rows(4000, 1)
    assert np.mean(log_density(fresh) - fitted.score_samples(fresh)) < 0.06
    assert fitted.family_ in ("mixture", "rbig")
    gaussian = Gaussianizer("gaussian").fit(rows())
    assert fitted.score(fresh) > gaussian.score(fresh) + 0.1


def test_transforms_to_a_normal_and_back(fitted):
    fresh = rows(2000, 1)
    z = fitted.transform(fresh)
    assert min(kstest(column, "norm").statistic for column in z.T) < 0.05
    assert np.abs(np.cov(z.T) - np.eye(2)).max() < 0.15
    np.testing.assert_allclose(fitted.inverse_transform(z), fresh, rtol=1e-6)


def test_samples_come_in_the_tables_units(fitted):
    drawn = fitted.sample(4000, random_state=3)
    for column, truth in zip(drawn.T, rows(4000, 5).T, strict=True):
        assert kstest(column, truth).statistic < 0.06
    np.testing.assert_array_equal(drawn, fitted.sample(4000, random_state=3))
    assert not np.array_equal(drawn, fitted.sample(4000, random_state=4))


def test_kernel_density_conventions():
    x = rows()
    density = FlowDensity("gaussian").fit(x)
    assert density.score(x) == pytest.approx(density.score_samples(x).sum())
    assert density.sample(7).shape == (7, 2)


def test_one_gaussian_is_its_maximum_likelihood_fit():
    x = rows()
    found = Gaussianizer("gaussian").fit(x).score_samples(x)
    u = x / UNITS
    truth = multivariate_normal(u.mean(0), np.cov(u.T)).logpdf(u) - np.log(UNITS).sum()
    far = np.abs((x - x.mean(0)) / x.std(0)).max(1) > 2  # where the share for far rows shows
    # The pooled covariance counts as one row, and one row in n + 1 is kept for far ones.
    assert np.abs(found - truth)[~far].max() < 0.05


def test_outliers_are_the_share_asked_for_and_the_farthest():
    x = np.concatenate([rows(190), UNITS * np.array([[30.0, 30.0]] * 10 + np.arange(10)[:, None])])
    detector = FlowOutlierDetector("mixture", contamination=0.05).fit(x)
    found = detector.predict(x)
    assert np.sum(found == -1) == 10
    np.testing.assert_array_equal(found == -1, detector.decision_function(x) < 0)
    np.testing.assert_allclose(
        detector.decision_function(x), detector.score_samples(x) - detector.offset_
    )


def test_data_frames_keep_their_names(fitted):
    frame = pd.DataFrame(rows(), columns=["mass", "length"])
    gaussianizer = Gaussianizer("gaussian").set_output(transform="pandas").fit(frame)
    z = gaussianizer.transform(frame)
    assert list(z.columns) == ["gaussianizer0", "gaussianizer1"]
    assert list(gaussianizer.feature_names_in_) == ["mass", "length"]
    with pytest.raises(ValueError, match="feature names should match"):
        gaussianizer.transform(frame[["length", "mass"]])


def test_pipeline_grid_search_clone_and_pickle(fitted):
    x = rows(120)
    pipeline = make_pipeline(StandardScaler(), Gaussianizer("gaussian"))
    search = GridSearchCV(
        pipeline, {"gaussianizer__random_state": [0, 1]}, cv=2, error_score="raise"
    ).fit(x)
    assert np.isfinite(search.best_score_)
    again = pickle.loads(pickle.dumps(fitted))
    np.testing.assert_array_equal(again.score_samples(x), fitted.score_samples(x))
    assert clone(fitted).get_params() == fitted.get_params()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"family": "planar"}, "one of .*got 'planar'"),
        ({"n_components": 0}, "n_components to be an integer of at least 1, or None; got 0"),
        ({"n_layers": -1}, "n_layers to be an integer of at least 1, or None; got -1"),
        ({"n_layers": "3"}, "n_layers to be an integer of at least 1, or None; got '3'"),
        ({"n_layers": 2.5}, "n_layers to be an integer of at least 1, or None; got 2.5"),
        ({"max_epochs": -1}, "max_epochs to be an integer of at least 0, or None; got -1"),
        ({"max_epochs": True}, "max_epochs to be an integer of at least 0, or None; got True"),
        ({"n_components": 500}, "400 rows and n_components=500"),
    ],
)
def test_faults_of_parameters(options, message):
    with pytest.raises(ValueError, match=message):
        Gaussianizer(**options).fit(rows())


def test_faults_of_data():
    frame = pd.DataFrame(rows(), columns=["mass", "length"])
    broken = frame.copy()
    broken.loc[3, "length"] = np.inf
    with pytest.raises(ValueError, match=r"got inf in row 3, column 'length'"):
        Gaussianizer().fit(broken)
    with pytest.raises(ValueError, match=r"got inf in row 3, column 1"):
        Gaussianizer("gaussian").fit(rows()).score_samples(broken.to_numpy())
    with pytest.raises(ValueError, match=r"relation between column 'mass' and column 'twice'"):
        Gaussianizer().fit(frame.assign(twice=frame["mass"] + frame["length"]))
    with pytest.raises(ValueError, match="at least two columns"):
        Gaussianizer("mixture-coupling").fit(frame[["mass"]])
    with pytest.raises(ValueError, match="columns in X; got none in a frame of 30 rows"):
        FlowDensity().fit(pd.DataFrame(index=range(30)))
    with pytest.raises(ValueError, match="2 columns of z; got 3"):
        Gaussianizer("gaussian").fit(frame).inverse_transform(np.zeros((2, 3)))
    with pytest.raises(ValueError, match=r"contamination in \(0, 0.5\]; got 0.7"):
        FlowOutlierDetector(contamination=0.7).fit(frame)


@pytest.mark.parametrize(
    ("n_samples", "got"),
    [("3", "'3'"), (2.5, "2.5"), (0, "0"), ([[1.0], [2.0]], r"an array of shape \(2, 1\)")],
)
def test_faults_of_the_number_of_samples(fitted, n_samples, got):
    with pytest.raises(ValueError, match=f"n_samples to be a positive integer; got {got}"):
        fitted.sample(n_samples)


def test_a_mixture_of_one_column_is_a_density():
    rng = np.random.default_rng(0)
    x = rng.choice([-2.0, 2.0], size=(800, 1)) + 0.5 * rng.normal(size=(800, 1))
    density = FlowDensity("mixture").fit(x)
    grid = np.linspace(-6, 6, 2001)
    found = np.exp(density.score_samples(grid[:, None]))
    truth = (norm(-2, 0.5).pdf(grid) + norm(2, 0.5).pdf(grid)) / 2
    assert density.family_ == "mixture"
    assert np.trapezoid(found, grid) == pytest.approx(1.0, abs=2e-3)
    assert np.trapezoid(np.abs(found - truth), grid) < 0.1
    assert np.mean(density.sample(4000, 0) > 0) == pytest.approx(np.mean(x > 0), abs=0.05)


def test_a_mixture_of_one_column_that_others_repeat():
    x = rows()[:, :1]
    with pytest.warns(UserWarning, match="column 1 is constant, column 2 repeats column 0"):
        density = FlowDensity("mixture", n_components=2).fit(np.hstack([x, 0 * x, x]))
    alone = FlowDensity("mixture", n_components=2).fit(x)
    np.testing.assert_allclose(
        density.score_samples(np.hstack([x, 0 * x, x])), alone.score_samples(x)
    )


def test_an_interrupted_training_keeps_the_best_so_far(monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(contest, "train", interrupted)
    x = rows()
    found = Gaussianizer().fit(x)
    assert found.family_ in ("mixture", "rbig")
    assert np.isfinite(found.score(x))
