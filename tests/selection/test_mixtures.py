"""The choice among joint mixtures."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.stats import multivariate_normal

from gauss_flows.rbig.blocks import log_normal, push
from gauss_flows.selection import fitting
from gauss_flows.selection.assemble import build_mixture_flow
from gauss_flows.selection.evaluate import log_density
from gauss_flows.selection.mixture_recipes import KernelRecipe, MixtureRecipe, MixtureTrial
from gauss_flows.selection.mixtures import _Search, try_mixtures

FOLDS = [np.arange(300) % 5 == fold for fold in range(5)]
COVARIANCE = np.array([[1.0, 0.6], [0.6, 1.0]])


def gaussian(n, seed=0):
    return np.random.default_rng(seed).multivariate_normal(np.zeros(2), COVARIANCE, size=n)


def clusters(n, seed=0):
    rng = np.random.default_rng(seed)
    return np.array([[-2.0, 0], [2, 0], [0, 3]])[rng.integers(3, size=n)] + 0.4 * rng.normal(
        size=(n, 2)
    )


def held_out_nats(trial, x, fresh):
    return log_density(build_mixture_flow(trial.fit(x, 0)), fresh)


def test_one_gaussian_is_enough_for_gaussian_rows():
    trial = try_mixtures(gaussian(300), FOLDS)
    fresh = gaussian(4000, 1)
    truth = multivariate_normal(np.zeros(2), COVARIANCE).logpdf(fresh)
    assert np.mean(truth - held_out_nats(trial, gaussian(300), fresh)) < 0.03


def test_clusters_get_their_components():
    trial = try_mixtures(clusters(300), FOLDS)
    assert trial.recipe.n_components >= 3
    fresh = clusters(4000, 1)
    centres = np.array([[-2.0, 0], [2, 0], [0, 3]])
    parts = [multivariate_normal(c, 0.16 * np.eye(2)).logpdf(fresh) for c in centres]
    truth = np.logaddexp.reduce(parts) - np.log(3)
    assert np.mean(truth - held_out_nats(trial, clusters(300), fresh)) < 0.06


def test_skewed_columns_get_their_marginals_first():
    x = np.exp(gaussian(300))
    x = (x - x.mean(0)) / x.std(0)
    assert try_mixtures(x, FOLDS).marginals_first


def test_the_number_asked_for_is_kept():
    assert try_mixtures(gaussian(300), FOLDS, n_components=4).recipe.n_components == 4


@pytest.mark.parametrize("marginals_first", [False, True])
def test_folds_are_scored_by_what_was_fitted_without_them(marginals_first):
    x = clusters(300)
    trial = try_mixtures(x, FOLDS)
    recipe = MixtureRecipe(3, 1.0, 0.0)
    fold = FOLDS[0]
    alone = MixtureTrial(marginals_first, recipe, np.zeros(1))
    expected = log_density(build_mixture_flow(alone.fit_once(x[~fold], 0)), x[fold])
    found = _Search(x, FOLDS, 0).tried(marginals_first, recipe).log_density[: fold.sum()]
    # The search stops its climbs earlier, and the flow holds its numbers in single precision.
    np.testing.assert_allclose(found, expected, atol=0.2)
    assert abs(np.mean(found - expected)) < 0.02
    assert len(trial.log_density) == 300


@pytest.mark.parametrize("marginals_first", [False, True])
def test_the_flow_is_the_mixture(x64, marginals_first):
    x = clusters(300)
    fitted = MixtureTrial(marginals_first, MixtureRecipe(3, 1.0, 0.0), np.zeros(1)).fit(x, 0)
    flow = build_mixture_flow(fitted)
    rows, log_det = (x, 0.0) if fitted.block is None else push(fitted.block, x)
    expected = fitted.mixture.log_density(rows) + log_det
    np.testing.assert_allclose(flow.log_prob(x), expected, rtol=1e-9, atol=1e-9)
    z = np.asarray(jax.vmap(flow.bijection.inverse)(jnp.asarray(x)))
    assert np.abs(z.mean(0)).max() < 0.2
    assert log_normal(z).mean() == pytest.approx(-np.log(2 * np.pi) - 1, abs=0.2)


def test_the_fit_is_the_mean_of_several():
    x = clusters(300)
    trial = MixtureTrial(False, MixtureRecipe(5, 1.0, 0.0), np.zeros(1))
    parts = [np.exp(trial.fit_once(x, seed).log_density(x)) for seed in range(10)]
    assert not np.allclose(parts[0], parts[1])
    np.testing.assert_allclose(np.exp(trial.fit(x, 0).log_density(x)), np.mean(parts, axis=0))


def test_a_start_that_went_wrong_is_left_out_of_the_mean(monkeypatch):
    """Two components in one cluster are far less likely than one in each."""
    x = np.random.default_rng(0).normal(size=(400, 2)) + np.repeat(
        [[-9.0, 0.0], [9.0, 0.0]], 200, 0
    )
    x /= 9.0
    recipe, fit, called = MixtureRecipe(2, 1.0, 0.0), MixtureRecipe.fit, []

    def sometimes_wrong(self, rows, seed, *options):
        called.append(seed)
        return fit(self._replace(n_components=1 if len(called) == 3 else 2), rows, seed, *options)

    monkeypatch.setattr(MixtureRecipe, "fit", sometimes_wrong)
    fitted = MixtureTrial(False, recipe, np.zeros(1)).fit(x, 0)
    one = fit(recipe, x, 0)
    assert len(called) == 10
    assert len(fitted.mixture.means) == 9 * len(one.means)
    np.testing.assert_allclose(fitted.log_density(x).mean(), one.log_density(x).mean(), atol=1e-3)


def test_the_mean_has_no_more_components_than_can_be_asked():
    x = clusters(2000)
    for number, starts in ((3, 10), (100, 6), (400, 1)):
        trial = MixtureTrial(False, MixtureRecipe(number, 4.0, 0.0), np.zeros(1))
        # Beside each start's components two for rows far away.
        assert len(trial.fit(x, 0).mixture.means) == starts * (number + 2)


def test_a_few_rows_get_no_kernels():
    for n in (6, 9, 11, 40):
        fit = fitting.fit_flow(gaussian(n), fitting.Settings(), lambda _: None)
        assert "kernel" not in str(fit.recipe)


def test_a_density_with_edges_gets_kernels():
    rng = np.random.default_rng(0)
    square = rng.uniform(-1, 1, size=(2500, 2)) + 2 * rng.integers(2, size=(2500, 1)) * [3, 1]
    held_back = [np.arange(2500) % 5 == 0]
    trial = try_mixtures(square / square.std(0), held_back)
    assert isinstance(trial.recipe, KernelRecipe)
    assert trial.recipe.n_components == 400
    assert 0.02 < trial.recipe.bandwidth < 0.2
    assert not isinstance(try_mixtures(clusters(300), FOLDS).recipe, KernelRecipe)


def test_a_kernel_density_is_scored_as_it_is_fitted():
    x, fold = clusters(300), FOLDS[0]
    recipe = KernelRecipe(40, 0.2)
    alone = MixtureTrial(True, recipe, np.zeros(1))
    expected = log_density(build_mixture_flow(alone.fit(x[~fold], 0)), x[fold])
    found = _Search(x, FOLDS, 0).tried(True, recipe).log_density[: fold.sum()]
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_every_trial_is_handed_out_as_soon_as_it_is_scored():
    found = []
    best = try_mixtures(clusters(300), FOLDS, found=found)
    assert any(trial is best for trial in found)
    assert max(trial.log_density.mean() for trial in found) == best.log_density.mean()


def test_the_default_takes_the_mixture_where_it_is_best():
    settings = fitting.Settings(max_epochs=0)
    fit = fitting.fit_flow(clusters(300), settings, lambda _: None)
    assert fit.family == "mixture"
    assert "mixture of" in str(fit.recipe)
    assert fit.candidates[0].log_density.value == max(
        one.log_density.value for one in fit.candidates
    )


def test_what_is_clearly_behind_after_a_fold_is_not_fitted_to_the_others(monkeypatch):
    """One Gaussian for three clusters is; three components again, of another strength, are not."""
    search, asked = _Search(clusters(300), FOLDS, 0), []
    best = search.tried(False, MixtureRecipe(3, 1.0, 0.0))
    fit = MixtureRecipe.fit

    def counting(self, *arguments):
        asked.append(self.n_components)
        return fit(self, *arguments)

    monkeypatch.setattr(MixtureRecipe, "fit", counting)
    assert search.better(best, False, MixtureRecipe(1, 1.0, 0.0)) is best
    search.better(best, False, MixtureRecipe(3, 1.1, 0.0))
    assert asked == [1] + [3] * 5


def test_one_gaussian_takes_its_whole_share():
    x = gaussian(300)
    mixture = MixtureRecipe(1, 1.0, 0.5).fit(x, 0)
    expected = 0.5 * np.cov(x.T) + 0.5 * np.diag(x.var(0, ddof=1))
    np.testing.assert_allclose(mixture.covariances[0], expected * 300 / 301, rtol=1e-12)


def test_among_outliers_every_component_keeps_some_of_the_whole_s_width():
    """Rows within 1e-3 of a plane but for a tenth spread around it: without them it is narrow."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 4))
    x[60:, 3] = x[60:, :3].sum(1) + 1e-3 * rng.normal(size=540)
    x = (x - x.mean(0)) / x.std(0)
    held = fitting.held_back_folds(x, 0)
    recipes = [
        try_mixtures(x, held, n_components=3, is_contaminated=among).recipe
        for among in (False, True)
    ]
    floors = [recipe.floor for recipe in recipes if isinstance(recipe, MixtureRecipe)]
    assert floors[0] < 1 == floors[1]
