"""Fits that come to nothing, and what they leave."""

import warnings

import numpy as np
import pytest

from gauss_flows.estimators import FlowDensity, FlowOutlierDetector, Gaussianizer, base

X = np.random.default_rng(0).normal(size=(60, 2))
ESTIMATORS = [Gaussianizer, FlowDensity, FlowOutlierDetector]


@pytest.fixture
def interrupted(monkeypatch):
    """A user who presses Ctrl-C before anything has been tried."""

    def stop(*_, **__):
        raise KeyboardInterrupt

    def arm():
        monkeypatch.setattr(base, "fit_flow", stop)

    return arm


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_an_interrupt_at_once_leaves_nothing(estimator, interrupted):
    interrupted()
    fitted = estimator("gaussian")
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(X)
    assert set(vars(fitted)) == set(fitted.get_params())


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_a_refit_that_comes_to_nothing_leaves_the_former_fit(estimator, interrupted):
    fitted = estimator("gaussian").fit(X)
    former = fitted.score_samples(X)
    with pytest.raises(ValueError, match="Expected finite values in X"):
        fitted.fit(np.full((60, 3), np.inf))
    interrupted()
    with pytest.raises(KeyboardInterrupt):
        fitted.fit(np.column_stack([X, X[::-1] + 100])[:, :3])
    np.testing.assert_array_equal(fitted.score_samples(X), former)
    assert fitted.n_features_in_ == 2


def test_a_refit_given_y_that_comes_to_nothing_leaves_the_former_fit():
    fitted = FlowDensity("gaussian").fit(X[:, :1], X[:, 1])
    former = fitted.score_samples(X[:, :1], X[:, 1])
    with pytest.raises(ValueError, match="one row of y for each"):
        fitted.fit(X, X[:50, 0])
    np.testing.assert_array_equal(fitted.score_samples(X[:, :1], X[:, 1]), former)


def test_a_refit_without_y_forgets_it():
    fitted = FlowDensity("gaussian").fit(X[:, :1], X[:, 1]).fit(X)
    assert fitted.y_coder_ is None
    np.testing.assert_array_equal(
        fitted.score_samples(X), FlowDensity("gaussian").fit(X).score_samples(X)
    )


def test_a_refit_keeps_the_output_asked_for():
    fitted = Gaussianizer("gaussian").set_output(transform="pandas").fit(X)
    assert hasattr(fitted.fit(X).transform(X), "columns")


def test_a_detector_says_once_what_there_is_to_say_of_a_column():
    table = np.column_stack([X, np.random.default_rng(1).poisson(0.3, 60)])
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        FlowOutlierDetector("gaussian").fit(table)
    messages = [str(warning.message) for warning in told]
    assert 1 <= len(messages) <= 2
    assert all("column 2" in message for message in messages)
