"""Gaussian mixtures against fifty digits, closed forms and automatic differentiation."""

import jax
import jax.numpy as jnp
from numerics import mixture_checks as checks
from numerics import mixture_reference as reference
import numpy as np
import pytest
from jax.scipy.special import log_ndtr, logsumexp, ndtri

from gauss_flows.numerics import gaussian_mixture
from gauss_flows.numerics.gaussian_mixture import gaussianize, quantile

FAMILY = "gaussian"
# All of both tails, the bulk, and the median from both sides.
SCORES = np.r_[np.linspace(-1, 1, 12), np.linspace(-0.1, 0.1, 9), 0.002, -1e-5, 1e-8]
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
    reach = checks.REACH[precision]
    points = np.array([-0.95 * reach, -5.0, -1.2, -0.2, 0.3, 2.0, 7.0, 0.9 * reach])
    checks.check_derivatives(FAMILY, precision, mixture, points)


@pytest.mark.parametrize("n_components", [1, 3, 32])
def test_a_million_scales_out_everything_is_finite(precision, n_components):
    for make in (reference.random_mixtures, reference.gap_mixtures):
        checks.check_far_out(FAMILY, precision, make(7, 4, n_components))


def test_one_outlier_does_not_poison_a_batch(precision):
    checks.check_outlier_is_harmless(FAMILY, precision, MIXTURE)


def test_one_component_is_affine(precision):
    x = jnp.linspace(-40, 40, 101, dtype=precision) * 1.7 + 0.3
    one = [jnp.full((1, 1), value, precision) for value in (0.0, 0.3, np.log(1.7))]
    z, log_det = gaussianize(x, *one)
    expected = (np.asarray(x, float) - float(one[1][0, 0])) / np.exp(float(one[2][0, 0]))
    tolerance = checks.TOLERANCE[precision]
    floor = checks.FLOOR[precision]
    assert np.all(np.abs(z - expected) <= tolerance * np.maximum(np.abs(expected), floor))
    assert np.all(np.abs(log_det + float(one[2][0, 0])) <= tolerance * np.maximum(1, expected**2))


def plain(x, logits, means, log_scales):
    """z and log_det in log space from JAX's own functions: right where |z| is moderate."""
    log_weights = jax.nn.log_softmax(logits)
    u = (x - means) * jnp.exp(-log_scales)
    log_cdf = logsumexp(log_weights + log_ndtr(u))
    log_survival = logsumexp(log_weights + log_ndtr(-u))
    z = jnp.where(
        log_cdf < log_survival, ndtri(jnp.exp(log_cdf)), -ndtri(jnp.exp(log_survival))
    )
    half_log_2pi = 0.5 * jnp.log(2 * jnp.pi)
    log_density = logsumexp(log_weights - 0.5 * u**2 - half_log_2pi - log_scales)
    return z, log_density + 0.5 * z**2 + half_log_2pi


def both_losses(x, *parameters):
    """One number of each implementation in which every derivative of z and log_det takes part."""
    ours = checks.with_logits(gaussianize)

    def loss(function, arguments):
        z, log_det = function(*arguments)
        return jnp.sin(z) + log_det * z

    return loss(ours, (x, *parameters)), loss(plain, (x, *parameters))


@pytest.mark.parametrize("mode", [jax.jacfwd, jax.jacrev, jax.hessian])
def test_derivative_rules_match_automatic_differentiation(x64, mode):
    x = jnp.linspace(-3.5, 5.0, 18)
    mixture = [jnp.asarray(p) for p in MIXTURE]
    derivative = mode(both_losses, argnums=(0, 1, 2, 3))
    ours, expected = jax.jit(jax.vmap(derivative, (0, None, None, None)))(x, *mixture)
    for found, wanted in zip(jax.tree.leaves(ours), jax.tree.leaves(expected), strict=True):
        assert np.any(wanted != 0)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-10)


def test_second_derivatives_match_finite_differences(x64):
    arguments = [jnp.asarray(p) for p in (0.7, *MIXTURE)]
    flat, unravel = jax.flatten_util.ravel_pytree(arguments)

    def loss(flat):
        return both_losses(*unravel(flat))[0]

    gradient, hessian = jax.jit(jax.grad(loss)), jax.jit(jax.hessian(loss))(flat)
    step = 1e-5 * jnp.eye(len(flat))
    rows = [(gradient(flat + e) - gradient(flat - e)) / 2e-5 for e in step]
    np.testing.assert_allclose(hessian, np.array(rows), rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(hessian, hessian.T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("n_components", [3, 32])
@pytest.mark.parametrize(
    ("shape", "leading"),
    [((), ()), ((4,), ()), ((4,), (4,)), ((5, 4), (4,)), ((5, 4), (5, 1)), ((4,), (5, 4))],
)
def test_leading_axes_broadcast(n_components, shape, leading):
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape))
    mixture = [jnp.asarray(rng.normal(size=(*leading, n_components))) for _ in range(3)]
    mixture[0] = jax.nn.log_softmax(mixture[0])
    full = np.broadcast_shapes(shape, leading)
    whole = [jnp.broadcast_to(p, (*full, n_components)) for p in mixture]
    z, log_det = gaussianize(x, *mixture)
    expected = gaussianize(jnp.broadcast_to(x, full), *whole)
    assert z.shape == log_det.shape == full
    np.testing.assert_allclose(z, expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(log_det, expected[1], rtol=1e-5, atol=1e-6)
    back = quantile(jnp.broadcast_to(z, full) if full != shape else z, *mixture)
    np.testing.assert_allclose(back, jnp.broadcast_to(x, full), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("n_rows", [1, 7, 3000])
def test_vmap_equals_broadcasting(n_rows, own):
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(n_rows, 2)))
    mixture = [jnp.asarray(p + 0.1 * rng.normal(size=(n_rows if own else 1, 2, 3)))
               for p in MIXTURE]
    mixture[0] = jax.nn.log_softmax(mixture[0])
    axes = (0, *[0 if own else None] * 3)
    given = mixture if own else [p[0] for p in mixture]
    for name in ("log_density", "log_cdf", "log_survival"):
        function = getattr(gaussian_mixture, name)
        found, expected = jax.vmap(function, axes)(x, *given), function(x, *mixture)
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    found, expected = jax.vmap(gaussianize, axes)(x, *given), gaussianize(x, *mixture)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
