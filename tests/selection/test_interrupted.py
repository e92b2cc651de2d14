"""A fit that is interrupted ends with the best flow so far, or not at all."""

import gc
import sys
import time

import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gauss_flows.estimators import FlowDensity
from gauss_flows.selection import (
    contest,
    fitting,
    interrupts,
    mixture_recipes,
    recipes,
    trained,
)
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.incomplete import fit_incomplete


def table(n=320):
    rng = np.random.default_rng(0)
    x = np.where(rng.random((n, 1)) < 0.5, -1, 1) + 0.3 * rng.normal(size=(n, 2))
    return (x - x.mean(0)) / x.std(0)


def interrupt(monkeypatch, place, name, after):
    """Raise KeyboardInterrupt once the function has been called so often."""
    original, calls = getattr(place, name), []

    def function(*arguments, **options):
        calls.append(name)
        if len(calls) == after + 1:
            raise KeyboardInterrupt
        return original(*arguments, **options)

    monkeypatch.setattr(place, name, function)
    return calls


def quick(monkeypatch):
    """Take a start for a trained flow."""

    def train(family, start, x, settings, held=None):
        return trained._fit_start(family, start, x, settings), {"train": [1.0], "val": [1.0]}

    monkeypatch.setattr(contest, "train", train)
    # The mean of a mixture's fits is hard to beat by a start alone.
    monkeypatch.setattr(contest, "gains", lambda new, old: True)


SETTINGS = fitting.Settings(n_components=2)
STAGES = {
    "the first mixture": (mixture_recipes.MixtureRecipe, "fit", 0, "gaussian"),
    "a later mixture": (mixture_recipes.MixtureRecipe, "fit", 12, "mixture"),
    "the first block": (recipes, "next_block", 0, "mixture"),
    "a later block": (recipes, "next_block", 8, ("mixture", "rbig")),
    "the first training": (contest, "train", 0, ("mixture", "rbig")),
    "the first score": (contest, "log_density", 0, ("mixture", "rbig")),
    "the last training": (contest, "train", 1, "diagonal"),
    "the last score": (contest, "log_density", 1, "diagonal"),
}


@pytest.mark.parametrize("stage", STAGES)
def test_the_best_flow_so_far_is_kept(monkeypatch, stage):
    place, name, after, family = STAGES[stage]
    quick(monkeypatch)
    calls = interrupt(monkeypatch, place, name, after)
    # Of so many rows two families are trained.
    x, told = table(1_000 if "last" in stage else 320), []
    fit = fitting.fit_flow(x, SETTINGS._replace(keep_interrupted=True), told.append)
    assert len(calls) > after
    assert told[-1].startswith("interrupted")
    assert fit.family in family
    # Not far from one Gaussian at least.
    gaussian = multivariate_normal(x.mean(0), np.cov(x.T)).logpdf(x).mean()
    assert log_density(fit.flow, x).mean() > gaussian - 0.1
    assert fit.history["stopped"].startswith("interrupted")


@pytest.mark.parametrize("stage", ["a later mixture", "a later block", "the last training"])
def test_without_leave_to_keep_it_the_interrupt_is_raised(monkeypatch, stage):
    place, name, after, _ = STAGES[stage]
    quick(monkeypatch)
    interrupt(monkeypatch, place, name, after)
    with pytest.raises(KeyboardInterrupt):
        fitting.fit_flow(table(1_000), SETTINGS, lambda _: None)


def test_one_column_and_a_named_family_are_kept_too(monkeypatch):
    interrupt(monkeypatch, recipes, "next_block", 0)
    x = table()[:, :1]
    fit = fitting.fit_flow(x, fitting.Settings("rbig", keep_interrupted=True), lambda _: None)
    assert fit.family == "gaussian"
    assert log_density(fit.flow, x).mean() == pytest.approx(
        -0.5 * np.log(2 * np.pi * np.e), abs=0.1
    )


def test_by_class_one_interrupt_ends_all_searches(monkeypatch):
    calls = interrupt(monkeypatch, mixture_recipes.MixtureRecipe, "fit", 12)
    x = table()
    kind = np.array(["a", "b", "c"])[np.arange(len(x)) % 3]
    density = FlowDensity("mixture").fit(x, kind)
    assert density.family_ == "a: mixture, b: gaussian, c: gaussian"
    stopped = [history["stopped"] for history in density.history_.values()]
    assert [text[:11] for text in stopped] == ["interrupted"] * 3
    assert len(calls) < 50
    assert np.isfinite(density.score_samples(x, kind)).all()


def test_with_gaps_one_interrupt_ends_both_searches(monkeypatch):
    interrupt(monkeypatch, mixture_recipes.MixtureRecipe, "fit", 12)
    x = table()
    x[::9, 1] = np.nan
    settings = fitting.Settings("rbig", keep_interrupted=True)
    fit = fit_incomplete(x, settings, lambda _: None)
    assert (fit.family, fit.history["stopped"][:11]) == ("mixture", "interrupted")


def test_an_interrupt_that_python_drops_arrives_again(interruptible):
    """One that falls into a callback of the garbage collector is dropped."""

    def callback(phase, _):
        if phase == "start" and not fallen:
            fallen.append(phase)
            raise KeyboardInterrupt

    def work():
        with interrupts.returning():
            gc.collect()
            for _ in range(500):
                time.sleep(0.01)

    fallen = []
    gc.callbacks.append(callback)
    try:
        with pytest.raises(KeyboardInterrupt):
            work()
    finally:
        gc.callbacks.remove(callback)
    assert fallen


def test_other_faults_that_python_drops_are_reported_as_ever(monkeypatch):
    class Faulty:
        def __del__(self):
            raise ValueError

    seen = []
    monkeypatch.setattr(sys, "unraisablehook", seen.append)
    with interrupts.returning():
        Faulty()
    assert [fault.exc_type for fault in seen] == [ValueError]
    assert sys.unraisablehook == seen.append
