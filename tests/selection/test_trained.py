"""What trained flows start from, what they are trained on, and who judges them."""

import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import gauss_flows as gf
from gauss_flows.rbig import blocks
from gauss_flows.rbig.blocks import Recipe
from gauss_flows.selection import contest, recipes, trained
from gauss_flows.selection.assemble import build_coupled_mixture_flow, build_mixture_flow
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.mixture_recipes import KernelRecipe, MixtureRecipe, MixtureTrial
from gauss_flows.selection.recipes import Trial
from gauss_flows.selection.settings import AfterMixture, Settings
from gauss_flows.training import fit as trainer

SETTINGS = Settings("diagonal", n_layers=1, n_components=1, max_epochs=1)
START = Trial(Recipe(True, 1), 1, np.zeros(2))
KERNELS = MixtureTrial(False, KernelRecipe(100, 0.1), np.zeros(2))
MIXTURE = MixtureTrial(False, MixtureRecipe(3, 1.0, 0.0), np.zeros(2))


def rows(n, seed=0):
    # Single precision, so that the trainer's rows can be told from the others.
    return np.random.default_rng(seed).normal(size=(n, 2)).astype(np.float32).astype(np.float64)


@pytest.mark.parametrize("held", [None, np.arange(60) % 4 == 1], ids=["at random", "named"])
def test_training_starts_from_the_rows_that_it_fits(monkeypatch, held):
    """A start fitted to the rows that end the training would be too good there to improve on."""
    grown, fitted, ending = [], [], []

    def grow(x, *rest):
        grown.append(x)
        return blocks.grow(x, *rest)

    def train(run, progress, *_, **__):
        fitted.append(np.asarray(run.train.x))
        ending.append(np.asarray(run.evaluation.x).reshape(-1, 2))
        return progress, None

    monkeypatch.setattr(trained, "grow", grow)
    monkeypatch.setattr(trainer, "train", train)
    x = rows(60)
    trained.train("diagonal", START, x, SETTINGS, held)
    np.testing.assert_array_equal(np.unique(grown[0], axis=0), np.unique(fitted[0], axis=0))
    assert len(grown[0]) == (51 if held is None else 45)
    if held is not None:
        np.testing.assert_array_equal(np.unique(ending[0], axis=0), np.unique(x[held], axis=0))


def test_a_flow_is_judged_on_rows_that_it_was_not_fitted_to(monkeypatch):
    seen, told = [], []

    def train(family, start, x, settings, held):
        seen.append(held)
        return trained.start_of(family, blocks.grow(x[~held], start.recipe, 1), settings), {}

    monkeypatch.setattr(contest, "train", train)
    x = rows(60)
    held = np.arange(60) == 7  # one row, whose gain has no standard error
    start = recipes.try_recipes(x, [START.recipe], [held], 1)[0]
    best = contest.closed_form_contender(held, start)
    after, _ = contest.challenge(best, "diagonal", start, x, held, SETTINGS, told.append)
    assert after is best
    assert told[-1] in ("diagonal: gains 0.00 ± ? nats", "diagonal: gains -0.00 ± ? nats")
    assert len(seen) == 1
    np.testing.assert_array_equal(seen[0], held)


@pytest.mark.parametrize("start", [Recipe(False, None), MixtureRecipe(3, 1.0, 0.0)])
def test_a_closed_form_is_judged_as_its_flow_would_be(start):
    x, held = rows(300) ** 3, np.arange(300) % 5 == 0
    if isinstance(start, Recipe):
        start = recipes.try_recipes(x, [start], [held, np.arange(300) % 5 == 1], 3)[0]
    else:
        start = MixtureTrial(True, start, np.zeros(60))
    first = contest.closed_form_contender(held, start)
    found = contest.from_all_starts(first, x, held, SETTINGS)
    flow = contest.fit_closed_form(start, x[~held], SETTINGS, []).flow
    # The flow holds its numbers in single precision.
    np.testing.assert_allclose(found.score, log_density(flow, x[held]), rtol=1e-3, atol=1e-3)


def challenging(n, best, mixture, n_dims=2):
    x = np.zeros((n, n_dims))
    return [family for family, _ in contest.challengers(x, best, START, mixture, Settings())]


@pytest.mark.parametrize("best", [MIXTURE, KERNELS])
def test_few_rows_are_not_trained_on(best):
    few, some, many = (challenging(n, best, best, n_dims=5) for n in (200, 500, 2000))
    assert (few, some, many) == ([], ["diagonal"], ["mixture-coupling", "diagonal"])


def test_of_few_columns_only_edges_and_tails_are_trained():
    better = START._replace(log_density=MIXTURE.log_density + np.array([1.0, 1.1]))
    assert challenging(2000, MIXTURE, MIXTURE) == []
    assert challenging(2000, START, None) == ["diagonal", "mixture-coupling"]
    assert challenging(2000, KERNELS, KERNELS) == ["mixture-coupling", "diagonal"]
    found = contest.challengers(np.zeros((2000, 2)), better, better, MIXTURE, Settings())
    assert [family for family, _ in found] == ["diagonal", "mixture-coupling"]


@pytest.mark.parametrize("settings", [Settings(n_components=3), Settings(max_epochs=50)])
def test_whoever_names_the_components_or_asks_for_training_gets_it(settings):
    found = contest.challengers(np.zeros((2000, 2)), MIXTURE, START, MIXTURE, settings)
    assert [family for family, _ in found] == ["mixture-coupling", "diagonal"]


def test_couplings_need_fewer_components_than_the_mixture_they_follow():
    for trial, number in ((MIXTURE, 1), (KERNELS, 13)):
        start = trained.fewer_components(AfterMixture(trial))
        assert start.mixture.recipe.n_components == number
        assert isinstance(start.mixture.recipe, MixtureRecipe)


def test_couplings_after_a_mixture_start_close_to_it_and_are_saved(tmp_path):
    x = rows(300)
    fitted = MIXTURE.fit_once(x, 0)
    flow = build_coupled_mixture_flow(jr.key(0), fitted, n_layers=2)
    near = log_density(flow, x) - log_density(build_mixture_flow(fitted), x)
    assert np.abs(near.mean()) < 0.1
    gf.save(flow, tmp_path / "flow.gf")
    again = gf.load(tmp_path / "flow.gf")
    np.testing.assert_array_equal(again.log_prob(jnp.asarray(x)), flow.log_prob(jnp.asarray(x)))


def test_couplings_after_a_mixture_learn_what_it_lacks():
    """A sharp edge takes many Gaussians; couplings make it of few."""
    x = np.random.default_rng(0).uniform(-1.7, 1.7, size=(900, 2))
    x[:, 1] = (x[:, 1] + x[:, 0] ** 2 - 1) / 1.5
    start = AfterMixture(MIXTURE)
    settings = Settings(max_epochs=25)
    flow, history = trained.train("mixture-coupling", start, x, settings)
    assert min(history["val"]) < history["val"][0]
    fresh = np.random.default_rng(1).uniform(-1.7, 1.7, size=(2000, 2))
    fresh[:, 1] = (fresh[:, 1] + fresh[:, 0] ** 2 - 1) / 1.5
    mixture = build_mixture_flow(MIXTURE.fit(x, 0))
    assert log_density(flow, fresh).mean() > log_density(mixture, fresh).mean() + 0.05


@pytest.mark.parametrize("lead", [-0.5, 0.5])
def test_a_mixture_s_other_starts_are_fitted_only_where_something_gains(monkeypatch, lead):
    x, held = rows(60), np.arange(60) < 12
    fitted, start = [], MIXTURE._replace(log_density=np.linspace(-1.0, 0.0, 12))
    score = start.log_density + lead * np.linspace(0.9, 1.1, 12)

    class FromAllStarts:
        @staticmethod
        def log_density(judged):
            return start.log_density + 1.0  # more than any lead here

    monkeypatch.setattr(MixtureTrial, "fit", lambda *_: fitted.append(1) or FromAllStarts())
    monkeypatch.setattr(contest, "train", lambda *_: (None, {}))
    monkeypatch.setattr(contest, "log_density", lambda *_: score)
    first = contest.closed_form_contender(held, start)
    after, _ = contest.challenge(first, "diagonal", START, x, held, SETTINGS, lambda _: None)
    assert len(fitted) == (lead > 0)
    # Fitted from all of them the closed form wins after all.
    assert after.family == "mixture"
    assert after.has_all_starts == (lead > 0)
