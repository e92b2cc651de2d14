"""The base mixture against its moments."""

import numpy as np
import pytest

from gaussianization.marginals import base_mixture

SIZES = [1, 2, 3, 8, 13, 32]


@pytest.mark.parametrize("n_components", SIZES)
def test_it_has_mean_zero_and_variance_one(n_components):
    log_weights, means, log_scales = base_mixture(n_components)
    weights = np.exp(log_weights)
    mean = weights @ means
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-14)
    np.testing.assert_allclose(mean, 0, atol=1e-14)
    second_moment = weights @ (means**2 + np.exp(2 * log_scales))
    np.testing.assert_allclose(second_moment - mean**2, 1, rtol=1e-14)


@pytest.mark.parametrize("n_components", SIZES)
def test_components_are_distinct_and_the_widest_has_unit_scale(n_components):
    components = base_mixture(n_components)[1:].T
    assert len(np.unique(components.round(6), axis=0)) == n_components
    assert np.max(components[:, 1]) == 0
