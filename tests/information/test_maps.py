"""The two mixtures whose latents neighbours are looked for among."""

import jax
import jax.random as jr
import numpy as np
import pytest
from sklearn.mixture import GaussianMixture

from gauss_flows.datasets import TwoMoons
from gauss_flows.information.log_density import mean_log_density
from gauss_flows.information.maps import fit_mixtures

N_ROWS = 1000


def moons():
    with jax.enable_x64(True):
        return np.asarray(TwoMoons().sample(jr.key(0), N_ROWS))


def test_sizes_are_those_of_bic_and_of_a_smaller_penalty():
    x = moons()
    sparse, rich = fit_mixtures(x, 0)
    rows = np.linalg.solve(np.linalg.cholesky(np.cov(x.T, bias=True)), (x - x.mean(0)).T).T
    sizes = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
    bics, others = [], []
    for size in sizes:
        fitted = GaussianMixture(size, random_state=0, max_iter=200).fit(rows)
        n_parameters = 6 * size - 1
        misfit = -2 * fitted.score(rows) * N_ROWS
        bics.append(misfit + n_parameters * np.log(N_ROWS))
        others.append(misfit + 4.25 * n_parameters)
    assert sparse.n_components == sizes[np.argmin(bics)]
    assert rich.n_components == sizes[np.argmin(others)]
    assert 1 < sparse.n_components < rich.n_components


def test_of_a_smooth_density_the_richer_one_s_latents_count():
    x = moons()
    sparse, rich = fit_mixtures(x, 0)
    found = mean_log_density(x)
    # The support stays BIC's account of its own mixture.
    own = sparse.push(x)[1].mean() - sparse.n_parameters * np.log(N_ROWS) / (2 * N_ROWS)
    assert found.support == pytest.approx(own, abs=1e-12)
    away = [np.square(found.rows - density.push(x)[1]).mean() for density in (sparse, rich)]
    assert away[1] < away[0]


def test_a_normal_law_has_one_map():
    sparse, rich = fit_mixtures(np.random.default_rng(0).normal(size=(800, 3)), 0)
    assert sparse is rich
    assert sparse.n_components == 1
