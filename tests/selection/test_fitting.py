"""What is chosen on held-back rows does not see them."""

import numpy as np
import pytest

from gauss_flows.rbig.blocks import Recipe
from gauss_flows.selection import fitting, recipes
from gauss_flows.selection.evaluate import log_density


@pytest.mark.parametrize("recipe", [Recipe(False, 2), Recipe(True, 2)], ids=str)
def test_folds_are_scored_by_what_was_fitted_without_them(recipe):
    x = np.random.default_rng(0).normal(size=(120, 2)) @ np.array([[1.0, 0.5], [0.0, 1.0]])
    folds = [np.arange(120) % 3 == fold for fold in (0, 1)]
    poisoned = x.copy()
    poisoned[folds[0] & (np.arange(120) % 2 == 0)] = 40.0  # every other row of the first fold
    healthy = ~np.isin(np.flatnonzero(folds[0]), np.flatnonzero((poisoned != x).all(1)))
    for n_blocks in (1, 2):
        one, other = (
            recipes.try_recipes(rows, [recipe], folds, n_blocks, exactly=True)[0].log_density
            for rows in (x, poisoned)
        )
        assert len(one) == 80
        np.testing.assert_allclose(one[:40][healthy], other[:40][healthy], rtol=1e-12)
        assert not np.isclose(one[:40][~healthy], other[:40][~healthy]).any()


@pytest.mark.parametrize(
    ("n_rows", "n_folds"), [(103, 5), (4000, 5), (4001, 4), (10_000, 2), (10_001, 1), (10**6, 1)]
)
def test_folds_hold_back_a_fifth_each(n_rows, n_folds):
    folds = fitting.held_back_folds(np.arange(float(n_rows))[:, None], 0)
    assert len(folds) == n_folds
    assert np.sum(folds, axis=0).max() == 1
    assert all(abs(fold.sum() - n_rows / 5) < 1 for fold in folds)


def test_folds_hold_back_every_row_of_a_small_table_once():
    folds = fitting.held_back_folds(np.arange(103.0)[:, None], 0)
    np.testing.assert_array_equal(np.sum(folds, axis=0), np.ones(103))


def test_copies_of_a_row_are_held_back_together():
    x = np.random.default_rng(0).normal(size=(60, 2))
    x[3, 0] = np.nan
    folds = fitting.held_back_folds(np.repeat(x, 3, axis=0), 0)
    for fold in folds:
        assert fold.sum() == 36
        np.testing.assert_array_equal(fold, np.repeat(fold[::3], 3))
    # Of so few that differ there would be no folds.
    few = fitting.held_back_folds(np.repeat(x[:4], 25, axis=0), 0)
    assert [fold.sum() for fold in few] == [20] * 5


def test_copies_do_not_make_a_fit_worse_than_one_gaussian():
    x = np.repeat(np.random.default_rng(0).normal(size=(150, 3)), 3, axis=0)
    fit = fitting.fit_flow(x, fitting.Settings(max_epochs=0), lambda _: None)
    gaussian = fitting.fit_flow(x, fitting.Settings("gaussian"), lambda _: None)
    fresh = np.random.default_rng(1).normal(size=(4000, 3))
    loss = log_density(gaussian.flow, fresh) - log_density(fit.flow, fresh)
    assert loss.mean() < 0.1
