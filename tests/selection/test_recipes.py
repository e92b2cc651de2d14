"""Recipes for blocks, compared in one fold and in all."""

import numpy as np

from gauss_flows.rbig.blocks import Recipe
from gauss_flows.selection.compare import gains, is_clearly_behind, lead
from gauss_flows.selection.recipes import try_recipes

FOLDS = [np.arange(400) % 5 == fold for fold in range(5)]


def skewed():
    """Marginals first make these columns Gaussian; rotated ones are a mixture of the two."""
    z = np.random.default_rng(0).normal(size=(400, 3))
    x = np.exp(z)
    return (x - x.mean(0)) / x.std(0)


def test_what_is_clearly_behind_in_one_fold_is_not_grown_in_the_others():
    told = []
    single, behind, best = try_recipes(
        skewed(),
        [Recipe(False, 1), Recipe(False, None), Recipe(True, None)],
        FOLDS,
        4,
        tell=told.append,
    )
    assert (single.n_folds, behind.n_folds, best.n_folds) == (5, 1, 5)
    assert [len(trial.log_density) for trial in (single, behind, best)] == [400, 80, 400]
    assert lead(best.log_density, behind.log_density).value > 0.1
    assert "in 1 fold" in told[1]
    assert "in 5 folds" in told[2]


def test_a_rival_far_ahead_leaves_every_recipe_with_one_fold():
    x = skewed()
    recipes = [Recipe(False, None), Recipe(True, None)]
    trials = try_recipes(x, recipes, FOLDS, 2, rival=np.full(400, 50.0))
    assert [trial.n_folds for trial in trials] == [1, 1]
    # A rival that is no better changes nothing.
    alone = try_recipes(x, recipes, FOLDS, 2)
    beside = try_recipes(x, recipes, FOLDS, 2, rival=np.full(400, -50.0))
    for one, other in zip(alone, beside, strict=True):
        np.testing.assert_array_equal(one.log_density, other.log_density)


def test_folds_are_compared_as_far_as_both_have_them():
    old = np.array([0.0, 0.0, 0.0, 0.0, 100.0, 100.0])
    new = np.array([1.0, 1.1, 0.9, 1.0])
    assert lead(new, old).value == 1.0
    assert gains(new, old)
    assert is_clearly_behind(old, new)
    assert not gains(old, new)


def test_a_difference_within_two_errors_is_not_clear():
    noise = np.random.default_rng(0).normal(size=100)
    noise -= noise.mean()
    error = noise.std(ddof=1) / 10
    assert not is_clearly_behind(noise - 1.9 * error, np.zeros(100))
    assert is_clearly_behind(noise - 2.1 * error, np.zeros(100))
