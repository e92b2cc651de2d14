"""Logistic mixtures against fifty digits, closed forms and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.nn import log_sigmoid
from jax.scipy.special import logsumexp, ndtri

from gauss_flows.numerics import logistic_mixture
from numerics import derivative_checks as derivatives
from numerics import mixture_checks as checks
from numerics import mixture_reference as reference

FAMILY = "logistic"
# All of both tails, the bulk, and the median from both sides.
SCORES = np.r_[np.linspace(-1, 1, 12), np.linspace(-0.1, 0.1, 9), 0.002, -1e-5, 1e-8]
DERIVATIVE_SCORES = np.array([-0.95, -0.2, -0.03, -0.006, 0.01, 0.06, 0.3, 0.9])
MIXTURE = (np.log([0.2, 0.7, 0.1]), np.array([-1.5, 0.3, 2.0]), np.log([0.3, 0.6, 1.1]))
GAP = (np.log([0.4, 0.6]), np.array([-40.0, 55.0]), np.log([0.5, 0.8]))


def scores(precision):
    return 0.9995 * checks.REACH[precision] * SCORES


@pytest.mark.parametrize("n_components", [1, 3, 12, 32])
def test_random_mixtures_match_the_reference(precision, n_components):
    mixtures = reference.random_mixtures(n_components, 6, n_components)
    checks.check_against_reference(FAMILY, precision, mixtures, scores(precision))


@pytest.mark.parametrize("n_components", [2, 4])
def test_two_modes_with_a_gap_match_the_reference(precision, n_components):
    mixtures = reference.gap_mixtures(n_components, 6, n_components)
    checks.check_against_reference(FAMILY, precision, mixtures, scores(precision))


@pytest.mark.parametrize("mixture", [MIXTURE, GAP], ids=["overlapping", "gap"])
def test_derivatives_match_the_reference(precision, mixture):
    scores = checks.REACH[precision] * DERIVATIVE_SCORES
    derivatives.check_derivatives(FAMILY, precision, mixture, scores, checks.MAP)


def test_derivatives_of_log_probabilities_match_the_reference(precision):
    mixture = MIXTURE if precision == "float64" else GAP
    scores = checks.REACH[precision] * DERIVATIVE_SCORES
    derivatives.check_derivatives(FAMILY, precision, mixture, scores, checks.LOG_PROBABILITIES)


@pytest.mark.parametrize(
    ("n_components", "names"), [(3, checks.OUTPUTS), (32, checks.MAP)], ids=["all", "many"]
)
def test_a_million_scales_out_everything_is_finite(precision, n_components, names):
    several = reference.random_mixtures, reference.gap_mixtures
    mixtures = [
        np.concatenate(p) for p in zip(*(m(7, 4, n_components) for m in several), strict=True)
    ]
    derivatives.check_far_out(FAMILY, precision, mixtures, names)


def test_every_finite_point_has_finite_values(precision):
    checks.check_every_finite_point(FAMILY, precision, MIXTURE)


def test_one_outlier_does_not_poison_a_batch(precision):
    derivatives.check_outlier_is_harmless(FAMILY, precision, MIXTURE)


def test_one_component_is_a_sigmoid(x64):
    x = jnp.linspace(-300, 300, 101)
    one = [jnp.zeros((1, 1)), jnp.full((1, 1), 0.3), jnp.full((1, 1), np.log(1.7))]
    u = (x - 0.3) / 1.7
    for sign, name in ((1, "log_cdf"), (-1, "log_survival")):
        found = getattr(logistic_mixture, name)(x, *one)
        np.testing.assert_allclose(found, log_sigmoid(sign * u), rtol=1e-12)
    density = log_sigmoid(u) + log_sigmoid(-u) - np.log(1.7)
    np.testing.assert_allclose(logistic_mixture.log_density(x, *one), density, rtol=1e-12)


def test_z_grows_as_the_square_root_far_out(precision):
    # log Φ(−z) = −u gives z² ≈ 2u − log(4πu), whatever the other components do.
    x = jnp.asarray([1e4, 1e6, 1e8], precision)
    mixture = [jnp.asarray(p, precision) for p in MIXTURE]
    z, _ = jax.vmap(logistic_mixture.gaussianize, (0, None, None, None))(x, *mixture)
    log_tail = (np.asarray(x, float) - MIXTURE[1][2]) / np.exp(MIXTURE[2][2]) - MIXTURE[0][2]
    np.testing.assert_allclose(z**2, 2 * log_tail - np.log(4 * np.pi * log_tail), rtol=1e-5)


def plain(x, logits, means, log_scales):
    """z and log_det in log space from JAX's own functions: right where |z| is moderate."""
    log_weights = jax.nn.log_softmax(logits)
    u = (x - means) * jnp.exp(-log_scales)
    log_cdf = logsumexp(log_weights + log_sigmoid(u))
    log_survival = logsumexp(log_weights + log_sigmoid(-u))
    z = jnp.where(log_cdf < log_survival, ndtri(jnp.exp(log_cdf)), -ndtri(jnp.exp(log_survival)))
    log_density = logsumexp(log_weights + log_sigmoid(u) + log_sigmoid(-u) - log_scales)
    return z, log_density + 0.5 * z**2 + 0.5 * jnp.log(2 * jnp.pi)


def test_derivative_rules_match_automatic_differentiation(x64):
    derivatives.check_rules(FAMILY, plain, MIXTURE, np.linspace(-4.0, 6.0, 18))


@pytest.mark.parametrize("n_components", [3, 32])
def test_leading_axes_broadcast(n_components):
    checks.check_broadcasting(FAMILY, (5, 4), (4,), n_components)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_vmap_equals_broadcasting(own):
    checks.check_vmap(FAMILY, MIXTURE, 7, own)
