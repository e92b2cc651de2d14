"""Choosing p(x | y): the exact conditional of a mixture, and what may take its place."""

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gauss_flows.rbig.joint_mixture import JointMixture
from gauss_flows.selection import conditional
from gauss_flows.selection.conditional import conditional_mixture_flow, fit_conditional
from gauss_flows.selection.evaluate import log_density, to_data
from gauss_flows.selection.fitting import Settings
from gauss_flows.selection.mixture_recipes import FittedMixture, MixtureRecipe, MixtureTrial

ROOTS = np.random.default_rng(0).normal(size=(2, 3, 3))
MIXTURE = JointMixture(
    np.log([0.4, 0.6]),
    np.array([[-1.0, 0.0, 1.0], [1.0, 2.0, -1.0]]),
    ROOTS @ np.swapaxes(ROOTS, 1, 2) + 0.3 * np.eye(3),
)
ONE_GAUSSIAN = Settings("auto", n_components=1, keep_interrupted=True)


def bent(n=1200, seed=0):
    """A mean and a spread that no joint Gaussian has."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 1))
    return np.abs(y) + (0.1 + 0.2 * (y > 0)) * rng.normal(size=(n, 1)), y


def test_the_flow_is_the_mixtures_own_conditional():
    x = np.random.default_rng(1).normal(size=(5, 3))
    flow = conditional_mixture_flow(FittedMixture(None, MIXTURE), 1)
    joint, alone = (
        np.logaddexp.reduce(
            [
                w + multivariate_normal(m[part], s[part, part]).logpdf(x[:, part])
                for w, m, s in zip(*MIXTURE, strict=True)
            ],
            axis=0,
        )
        for part in (slice(None), slice(0, 1))
    )
    np.testing.assert_allclose(log_density(flow, x[:, 1:], x[:, :1]), joint - alone, atol=1e-5)


def test_with_marginals_first_the_condition_is_gaussianized_too():
    x = np.exp(np.random.default_rng(2).multivariate_normal([0, 0], [[1, 0.7], [0.7, 1]], 600))
    fitted = MixtureTrial(True, MixtureRecipe(2, 1.0, 0.0), np.zeros(1)).fit(x, 0)
    flow = conditional_mixture_flow(fitted, 1)
    found = log_density(flow, x[:50, 1:], x[:50, :1])
    np.testing.assert_allclose(found, fitted.conditional_log_density(x[:50], 1), atol=1e-4)
    z = np.linspace(-2, 2, 50)[:, None]
    rows = np.column_stack([x[:50, 0], to_data(flow, z, x[:50, :1])])
    again = np.array([-0.5, 0.0, 0.5])
    assert np.isfinite(rows).all()
    assert np.isfinite(fitted.conditional_log_density(rows, 1)).all()
    assert (np.diff(to_data(flow, again[:, None], np.ones((3, 1))), axis=0) > 0).all()


def trained(start):
    """A training that gives a mixture of so many components, the fit of which it notes."""
    fits = []

    def train(family, x, y, settings, held):
        fits.append((family, len(x), held.sum()))
        joint = np.column_stack([y, x])[~held]
        trial = MixtureTrial(False, MixtureRecipe(start, 1.0, 0.0), np.zeros(1))
        return conditional_mixture_flow(trial.fit(joint, 0), 1), {"train": [0.0]}

    return train, fits


def test_auto_takes_the_trained_flow_where_it_gains(monkeypatch):
    x, y = bent()
    train, fits = trained(8)
    monkeypatch.setattr(conditional, "_train", train)
    found = fit_conditional(x, y, ONE_GAUSSIAN, lambda _: None)
    assert found.family == "spline-coupling"
    assert fits == [("spline-coupling", 1200, 240)]
    assert found.history == {"train": [0.0]}
    assert len(found.candidates) == 3


def test_auto_keeps_the_mixture_where_nothing_is_gained(monkeypatch):
    x, y = bent()
    train, fits = trained(1)
    monkeypatch.setattr(conditional, "_train", train)
    found = fit_conditional(x, y, ONE_GAUSSIAN, lambda _: None)
    assert found.family == "mixture"
    assert len(fits) == 1


@pytest.mark.parametrize("options", [{"n_rows": 500}, {"max_epochs": 0}])
def test_auto_trains_nothing_on_few_rows_or_without_epochs(monkeypatch, options):
    train, fits = trained(8)
    monkeypatch.setattr(conditional, "_train", train)
    x, y = bent(options.pop("n_rows", 1200))
    found = fit_conditional(x, y, ONE_GAUSSIAN._replace(**options), lambda _: None)
    assert (found.family, fits) == ("mixture", [])


def test_an_interrupt_keeps_the_mixture_for_those_who_want_it(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    x, y = bent()
    monkeypatch.setattr(conditional, "_train", interrupted)
    fit = fit_conditional(x, y, ONE_GAUSSIAN, lambda _: None)
    assert fit.family == "mixture"
    assert fit.candidates[0].name.endswith("one Gaussian")
    assert fit.history["stopped"].startswith("interrupted")
    with pytest.raises(KeyboardInterrupt):
        fit_conditional(x, y, ONE_GAUSSIAN._replace(keep_interrupted=False), lambda _: None)


@pytest.mark.parametrize("after", [0, 7])
def test_so_does_one_in_the_search(monkeypatch, after):
    fit, calls = MixtureRecipe.fit, []

    def sometimes(self, *arguments):
        calls.append(self)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return fit(self, *arguments)

    monkeypatch.setattr(MixtureRecipe, "fit", sometimes)
    x, y = bent(300)
    found = fit_conditional(x, y, Settings(keep_interrupted=True), lambda _: None)
    assert found.history["stopped"].startswith("interrupted")
    assert np.isfinite(log_density(found.flow, x, y)).all()


def test_the_number_of_components_is_chosen_for_the_conditional():
    # y alone is two clusters, which x does not depend on: one Gaussian is enough for x given y.
    rng = np.random.default_rng(3)
    y = np.where(rng.random((400, 1)) < 0.5, -1.0, 1.0) + 0.1 * rng.normal(size=(400, 1))
    x = rng.normal(size=(400, 1))
    found = fit_conditional(x, y, Settings("mixture"), lambda _: None)
    truth = -0.5 * np.log(2 * np.pi * np.e)
    assert found.candidates[0].log_density.value > truth - 0.08
