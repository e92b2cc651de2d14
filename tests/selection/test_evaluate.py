"""Draws, z and densities of a flow whose truth is known."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flowjax.bijections import Affine, Invert
from flowjax.distributions import StandardNormal, Transformed
from scipy.stats import kstest, norm

from gauss_flows.selection.evaluate import draw, log_density, to_latent

LOC, SCALE = np.array([5.0, -300.0]), np.array([0.1, 40.0])


@pytest.fixture(scope="module")
def flow():
    to_latent = Affine(jnp.asarray(-LOC / SCALE), jnp.asarray(1 / SCALE))
    return Transformed(StandardNormal((2,)), Invert(to_latent))


def test_draws_have_the_flow_s_location_spread_and_shape(flow):
    x = draw(flow, 20_000, 0)
    np.testing.assert_allclose((x.mean(0) - LOC) / SCALE, 0, atol=5 / np.sqrt(20_000))
    # The standard deviation of 20 000 normal draws is within half a percent of theirs.
    np.testing.assert_allclose(x.std(0), SCALE, rtol=5 / np.sqrt(40_000))
    for column, loc, scale in zip(x.T, LOC, SCALE, strict=True):
        assert kstest(column, norm(loc, scale).cdf).pvalue > 1e-3
    assert abs(np.corrcoef(x.T)[0, 1]) < 5 / np.sqrt(20_000)


def test_first_rows_do_not_depend_on_their_number(flow):
    np.testing.assert_array_equal(draw(flow, 20_000, 3)[:5], draw(flow, 5, 3))


def test_latents_and_densities_are_the_flow_s_in_double_precision(flow):
    x = LOC + SCALE * np.array([[0.0, 1.0], [-2.0, 0.5]])
    np.testing.assert_allclose(to_latent(flow, x), [[0.0, 1.0], [-2.0, 0.5]], atol=1e-4)
    truth = norm(LOC, SCALE).logpdf(x).sum(1)
    np.testing.assert_allclose(log_density(flow, x), truth, atol=1e-4)
    assert log_density(flow, x).dtype == np.float64


def test_draws_that_are_not_finite_are_refused():
    flow = Transformed(StandardNormal((1,)), Affine(jnp.zeros(1), jnp.array([jnp.inf])))
    with jax.enable_x64(True), pytest.raises(ValueError, match="not finite"):
        draw(flow, 3, 0)
