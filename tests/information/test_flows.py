"""Measures of flows, of rows with a flow as their map, and RBIG's route beside a density's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flowjax.bijections import Invert
from flowjax.distributions import Normal, Transformed

from gauss_flows.bijections import MixtureRosenblatt
from gauss_flows.information import (
    divergence,
    entropy,
    kl_divergence,
    negentropy,
    total_correlation,
)
from gauss_flows.information.dependence import check_routes
from gauss_flows.information.laparra import route
from gauss_flows.information.maps import fit_mixtures
from gauss_flows.numerics.estimate import Estimate
from information.laws import equicorrelated, is_honest

COVARIANCE = np.array([[1.0, 0.6], [0.6, 1.0]])
ENTROPY = 0.5 * np.linalg.slogdet(2 * np.pi * np.e * COVARIANCE)[1]
TOTAL = -0.5 * np.log(1 - 0.36)


@pytest.fixture(scope="module")
def flow():
    """A flow whose density is a normal law."""
    layer = MixtureRosenblatt.from_mixture(jnp.zeros(1), jnp.zeros((1, 2)), COVARIANCE[None])
    return Transformed(Normal(jnp.zeros(2), jnp.ones(2)), Invert(layer))


def rows(seed, n=800):
    return equicorrelated(seed, n, 2, 0.6)


def within(estimate, truth, widest):
    return abs(estimate.value - truth) < 4 * estimate.standard_error < widest


def test_a_flow_s_own_measures(flow):
    assert within(entropy(flow), ENTROPY, 0.05)
    assert within(negentropy(flow), 0.0, 0.05)
    assert within(total_correlation(flow), TOTAL, 0.1)


def test_rows_with_a_flow_as_their_map(flow):
    assert is_honest([entropy(flow, rows(s)) for s in range(5)], ENTROPY, 0.1)
    assert is_honest([total_correlation(flow, rows(s)) for s in range(5)], TOTAL, 0.1)
    # A map that fits badly does not mislead.
    other = [np.random.default_rng(s).normal(size=(2000, 2)) for s in range(3)]
    assert is_honest([total_correlation(flow, x) for x in other], 0.0, 0.1)


def test_divergences_from_and_of_flows(flow):
    normal = 0.5 * (2 - 2 - np.linalg.slogdet(COVARIANCE)[1])
    y = np.random.default_rng(0).normal(size=(3000, 2))
    assert within(kl_divergence(flow, flow), 0.0, 0.01) or kl_divergence(flow, flow).value == 0
    assert within(kl_divergence(rows(0), flow), 0.0, 0.2)
    assert within(kl_divergence(flow, y), normal, 0.3)


def test_a_flow_s_own_density_tells_what_rows_of_y_add(flow, monkeypatch):
    fitted = []

    def recorded(x, random_state):
        fitted.append(len(x))
        return fit_mixtures(x, random_state)

    monkeypatch.setattr(divergence, "N_SAMPLES", 500)
    monkeypatch.setattr(divergence, "fit_mixtures", recorded)
    kl_divergence(flow, np.random.default_rng(0).normal(size=(300, 2)))
    # Only the law of y has to be fitted.
    assert fitted == [300]


def test_rbig_s_route_is_the_total_correlation():
    found = [route(rows(s), 0) for s in range(4)]
    assert is_honest(found, TOTAL, 0.1)


def test_routes_that_differ_are_told():
    with pytest.warns(UserWarning, match="Two ways"):
        check_routes(Estimate(0.5, 0.01), Estimate(0.8, 0.01))
    check_routes(Estimate(0.5, 0.1), Estimate(0.8, 0.1))


def test_precision_of_the_process_does_not_change_the_figures(flow):
    x = rows(0, 300)
    value = entropy(flow, x)
    with jax.enable_x64(True):
        assert entropy(flow, x) == value


def test_flows_that_have_no_such_density_are_refused(flow):
    with pytest.raises(ValueError, match="2 columns"):
        entropy(flow, np.zeros((50, 3)))
    with pytest.raises(ValueError, match="only beside a flow"):
        entropy(rows(0), rows(1))
    with pytest.raises(ValueError, match="as many columns"):
        kl_divergence(flow, np.random.default_rng(0).normal(size=(100, 3)))
