"""Gaussian mixtures against fifty digits, closed forms and automatic differentiation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.special import log_ndtr, logsumexp, ndtri

from gauss_flows.numerics.gaussian_mixture import gaussianize
from gauss_flows.numerics.quick_jit import quick_jit
from numerics import derivative_checks as derivatives
from numerics import mixture_checks as checks
from numerics import mixture_reference as reference

FAMILY = "gaussian"
# All of both tails, the bulk, and the median from both sides.
SCORES = np.r_[np.linspace(-1, 1, 12), np.linspace(-0.1, 0.1, 9), 0.002, -1e-5, 1e-8]
DERIVATIVE_SCORES = np.array([-0.95, -0.2, -0.03, -0.006, 0.01, 0.06, 0.3, 0.9])
MIXTURE = (np.log([0.2, 0.7, 0.1]), np.array([-1.5, 0.3, 2.0]), np.log([0.4, 1.0, 1.7]))
GAP = (np.log([0.4, 0.6]), np.array([-20.0, 25.0]), np.log([0.7, 1.3]))


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


def test_inside_the_gap(precision):
    # Where the density of a mode has underflowed many times over, z and log_det have not.
    mixture = [jnp.asarray(p, precision)[None, None] for p in GAP]
    x = jnp.linspace(-19, 24, 44, dtype=precision)[None]
    values = jax.jit(checks.functions(FAMILY))(x, *mixture)
    ratios = checks.excess(values, checks.truth(FAMILY, x, mixture), precision)
    assert max(ratios.values()) <= 1, ratios


def clipped(x, *mixture):
    """The public implementations' map: F kept away from 0 and 1, then Φ⁻¹."""
    values = checks.functions(FAMILY)(x, *mixture)
    eps = jnp.finfo(x.dtype).eps
    z = ndtri(jnp.clip(jnp.exp(values["log_cdf"]), eps, 1 - eps))
    return values | {"z": z, "log_det": values["log_density"] + 0.5 * z**2 + 0.918938533204672742}


def test_a_clip_is_rejected(precision):
    mixtures = reference.random_mixtures(0, 2, 3)
    arguments = FAMILY, precision, mixtures, scores(precision)
    checks.check_against_reference(*arguments)
    with pytest.raises(AssertionError, match="z"):
        checks.check_against_reference(*arguments, everything=clipped)


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


def test_one_component_is_affine(precision):
    # Over the whole reach and, evenly in the logarithm, down to the smallest distances.
    distances = np.r_[np.linspace(0, 40, 51), np.geomspace(1e-7, 1, 50)]
    x = jnp.asarray(np.r_[-distances, distances] * 1.7, precision)
    one = [jnp.full((1, 1), value, precision) for value in (0.0, 0.0, np.log(1.7))]
    z, log_det = gaussianize(x, *one)
    expected = np.asarray(x, float) / np.exp(float(one[2][0, 0]))
    tolerance = checks.TOLERANCE[precision]
    assert np.all(np.abs(z - expected) <= tolerance * np.abs(expected))
    assert np.all(np.abs(log_det + float(one[2][0, 0])) <= tolerance * np.maximum(1, expected**2))


def plain(x, logits, means, log_scales):
    """z and log_det in log space from JAX's own functions: right where |z| is moderate."""
    log_weights = jax.nn.log_softmax(logits)
    u = (x - means) * jnp.exp(-log_scales)
    log_cdf = logsumexp(log_weights + log_ndtr(u))
    log_survival = logsumexp(log_weights + log_ndtr(-u))
    z = jnp.where(log_cdf < log_survival, ndtri(jnp.exp(log_cdf)), -ndtri(jnp.exp(log_survival)))
    half_log_2pi = 0.5 * jnp.log(2 * jnp.pi)
    log_density = logsumexp(log_weights - 0.5 * u**2 - half_log_2pi - log_scales)
    return z, log_density + 0.5 * z**2 + half_log_2pi


def test_derivative_rules_match_automatic_differentiation(x64):
    derivatives.check_rules(FAMILY, plain, MIXTURE, np.linspace(-3.5, 5.0, 18))


@pytest.mark.parametrize("n_components", [3, 32])
@pytest.mark.parametrize(
    ("shape", "leading"), [((4,), ()), ((5, 4), (4,)), ((5, 4), (5, 1)), ((4,), (5, 4))]
)
def test_leading_axes_broadcast(n_components, shape, leading):
    checks.check_broadcasting(FAMILY, shape, leading, n_components)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
def test_vmap_equals_broadcasting(own):
    checks.check_vmap(FAMILY, MIXTURE, 7, own)


def test_reverse_mode_twice(x64):
    # As a penalty on the gradient of log_det takes it.
    mixture = [jnp.asarray(p) for p in MIXTURE]

    def log_det_slope(x, means):
        return jax.grad(lambda x: gaussianize(x, mixture[0], means, mixture[2])[1])(x)

    penalty = jax.jit(jax.grad(lambda x, means: log_det_slope(x, means) ** 2, (0, 1)))
    x, means = jnp.asarray(0.3), mixture[1]
    of_x, of_means = penalty(x, means)
    slope, step = jax.jit(log_det_slope), 1e-6
    differences = [
        (slope(x, means + e) ** 2 - slope(x, means - e) ** 2) / (2 * step)
        for e in step * jnp.eye(3)
    ]
    np.testing.assert_allclose(of_means, np.array(differences), rtol=1e-6)
    difference = (slope(x + step, means) ** 2 - slope(x - step, means) ** 2) / (2 * step)
    np.testing.assert_allclose(of_x, difference, rtol=1e-6)


def test_second_derivatives_however_the_compiler_rounds(x64):
    """Unoptimised code computes the largest bump twice, with and without a fused multiply-add."""

    def second(x, *mixture):
        return jax.vmap(jax.jacfwd(jax.jacfwd(lambda row: gaussianize(row, *mixture)[1].sum())))(x)

    rng = np.random.default_rng(0)
    rows, (log_weights, means, log_scales) = rng.normal(size=(16, 3)), rng.normal(size=(3, 3, 3))
    arguments = rows, jax.nn.log_softmax(log_weights), means, 0.3 * log_scales
    found = quick_jit(second, runs_once=True)(*arguments)
    np.testing.assert_allclose(found, jax.jit(second)(*arguments), rtol=1e-9, atol=1e-12)
