"""What is chosen on held-back rows does not see them."""

import numpy as np
import pytest

from gauss_flows.rbig import blocks
from gauss_flows.rbig.blocks import Recipe
from gauss_flows.selection import fitting, recipes
from gauss_flows.training import fit as trainer


@pytest.mark.parametrize("recipe", [Recipe(False, 2), Recipe(True, 2)], ids=str)
def test_folds_are_scored_by_what_was_fitted_without_them(recipe):
    x = np.random.default_rng(0).normal(size=(120, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    folds = [np.arange(120) % 3 == fold for fold in (0, 1)]
    poisoned = x.copy()
    poisoned[folds[0] & (np.arange(120) % 2 == 0)] = 40.0  # every other row of the first fold
    healthy = ~np.isin(np.flatnonzero(folds[0]), np.flatnonzero((poisoned != x).all(1)))
    grown = [recipes._fold_scores(rows, recipe, folds) for rows in (x, poisoned)]
    for _ in range(2):
        one, other = (next(scores) for scores in grown)
        np.testing.assert_allclose(one[:40][healthy], other[:40][healthy], rtol=1e-12)
        assert not np.isclose(one[:40][~healthy], other[:40][~healthy]).any()


def test_folds_hold_back_every_row_of_a_small_table_once():
    np.testing.assert_array_equal(np.sum(fitting.held_back_folds(103, 0), axis=0), np.ones(103))


SETTINGS = fitting.Settings("diagonal", n_layers=1, n_components=1, max_epochs=1)


def test_training_starts_from_the_rows_that_it_fits(monkeypatch):
    """A start fitted to the rows that end the training would be too good there to improve on."""
    grown, trained = [], []

    def grow(x, *rest):
        grown.append(x)
        return blocks.grow(x, *rest)

    def train(run, progress, *_, **__):
        trained.append(np.asarray(run.train.x))
        return progress, None

    monkeypatch.setattr(fitting, "grow", grow)
    monkeypatch.setattr(trainer, "train", train)
    x = np.random.default_rng(0).normal(size=(60, 2)).astype(np.float32).astype(np.float64)
    fitting._train("diagonal", recipes.Trial(Recipe(True, 1), 1, np.zeros(1)), x, SETTINGS)
    (rows,), (fitted_rows,) = grown, trained
    assert len(rows) == 51
    np.testing.assert_array_equal(np.unique(rows, axis=0), np.unique(fitted_rows, axis=0))


def test_family_is_chosen_by_rows_that_it_does_not_see(monkeypatch):
    seen, told = [], []

    def train(family, trial, x, settings):
        seen.append(x)
        return fitting._start(family, blocks.grow(x, trial.recipe, 1), settings), {}

    def grow(x, *rest):
        seen.append(x)
        return blocks.grow(x, *rest)

    monkeypatch.setattr(fitting, "_train", train)
    monkeypatch.setattr(fitting, "grow", grow)
    x = np.random.default_rng(0).normal(size=(60, 2))
    held = np.arange(60) == 7  # one row, whose gain has no standard error
    trial = recipes.Trial(Recipe(True, 1), 1, np.zeros(1))
    fitting._choose_family(x, held, trial, None, SETTINGS._replace(family="auto"), told.append)
    assert told[-1] in ("diagonal: gains 0.00 ± ? nats", "diagonal: gains -0.00 ± ? nats")
    assert len(seen) == 2
    for rows in seen:
        np.testing.assert_array_equal(rows, x[~held])
