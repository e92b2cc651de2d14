"""Theorem 1 and Lemma 2 by quadrature, against the paper's laws."""

import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from affine.laws import BEST_DEGREES, BEST_GAIN, rows
from gauss_flows.affine import exact_affine_bound, exact_dependence, rotation_matrix
from gauss_flows.datasets import WU, TwoGaussians, TwoMoons, UniformSquare, W

UNIT_SQUARE = UniformSquare(3**0.5)
NEGENTROPY_OF_UNIFORM = 0.1764852083


def bound(density, degrees=0.0):
    return exact_affine_bound(density, np.deg2rad(degrees))


def test_w():
    b = bound(W())
    expected = (0.8314144880, 0.6321036493, 0.1993108388, 2.0116826172)
    np.testing.assert_allclose((b.kl_before, b.gain, b.kl_after, b.nll), expected, atol=1e-8)
    assert abs(b.conditional) < 1e-10


def test_wu():
    b = bound(WU())
    np.testing.assert_allclose((b.kl_before, b.kl_after), (1.0078996963, 0.3757960471), atol=1e-8)
    assert abs(b.conditional - NEGENTROPY_OF_UNIFORM) < 1e-8
    p = np.linspace(-1.9, 1.9, 7)
    np.testing.assert_allclose(WU().conditional_negentropy(p), NEGENTROPY_OF_UNIFORM, atol=1e-8)


@pytest.mark.parametrize(
    ("degrees", "gain"),
    [
        (0.0, 0.7127015),
        (60.0, 0.7650497),
        (90.0, 0.0),
        (BEST_DEGREES, BEST_GAIN),
        (180.0 - BEST_DEGREES, BEST_GAIN),
    ],
)
def test_the_mixture_of_example_4(degrees, gain):
    assert abs(bound(TwoGaussians(), degrees).gain - gain) < 1e-6


def test_the_mixture_s_best_angle():
    best = minimize_scalar(
        lambda degrees: -bound(TwoGaussians(), degrees).gain,
        bounds=(20.0, 80.0),
        method="bounded",
        options={"xatol": 1e-7},
    )
    assert abs(best.x - BEST_DEGREES) < 1e-5
    assert abs(-best.fun - BEST_GAIN) < 1e-9


@pytest.mark.parametrize(
    ("square", "before", "gain"),
    [
        (UniformSquare(1.0), 0.7849160386, 0.3693992207),
        (UNIT_SQUARE, 0.3529704166, 0.1534264097),
        (UniformSquare().standardized(), 0.3529704166, 0.1534264097),
    ],
)
def test_the_square(square, before, gain):
    b = bound(square, 45.0)
    np.testing.assert_allclose((b.kl_before, b.gain), (before, gain), atol=1e-8)
    assert all(bound(square, degrees).gain < b.gain for degrees in (0.0, 30.0, 44.0, 46.0))


@pytest.mark.parametrize(
    ("density", "degrees"),
    [
        (W(), 0.0),
        (WU(), 0.0),
        (TwoGaussians(), 17.0),
        (TwoGaussians(0.5), 71.0),
        (UniformSquare(1.0), 33.0),
        (UNIT_SQUARE, 90.0),
        (W().standardized(), 0.0),
        (TwoGaussians(0.5).standardized(), 71.0),
        (TwoGaussians(0.5).standardized().standardized(), 90.0),
    ],
)
def test_the_parts_add_up(density, degrees):
    """Two integrals that share no integrand."""
    b = bound(density, degrees)
    assert abs(b.passive + b.conditional - b.kl_after) < 1e-9
    assert abs(b.kl_before - b.gain - b.kl_after) < 1e-12


def test_what_is_independent_after_the_layer():
    assert abs(exact_dependence(W())) < 1e-9
    assert abs(exact_dependence(WU())) < 1e-6
    assert abs(exact_dependence(TwoGaussians(), np.pi / 2)) < 1e-9


def test_what_is_not():
    assert abs(exact_dependence(TwoGaussians(), np.deg2rad(BEST_DEGREES)) - 0.0214) < 5e-5


def test_standardised_conditionals_are_those_of_the_samples():
    density = TwoGaussians(0.5).standardized()
    x = rows(density, 200_000) @ rotation_matrix(0.8).T
    p = np.array([-1.0, 0.2, 1.3])
    mean, variance = density.conditional_moments(p, 0.8)
    for centre, m, v in zip(p, mean, variance, strict=True):
        near = x[np.abs(x[:, 0] - centre) < 0.1, 1]
        assert abs(near.mean() - m) < 4 * np.sqrt(v / len(near)) + 0.005
        assert abs(near.var() / v - 1) < 0.06


def test_angles_may_be_jax_s():
    angle = jnp.asarray(0.3)
    assert exact_affine_bound(UNIT_SQUARE, angle) == exact_affine_bound(UNIT_SQUARE, float(angle))
    assert exact_dependence(UNIT_SQUARE, angle) == exact_dependence(UNIT_SQUARE, float(angle))
    np.testing.assert_array_equal(rotation_matrix(angle), rotation_matrix(float(angle)))


@pytest.mark.parametrize("angle", ["a", None, np.nan, np.inf, True, 1j, [0.3], np.zeros(2)])
def test_other_angles_are_refused(angle):
    for function in (rotation_matrix, lambda angle: exact_affine_bound(UNIT_SQUARE, angle)):
        with pytest.raises(ValueError, match="Expected angle to be a finite number"):
            function(angle)


def test_angles_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="angle"):
        exact_affine_bound(W(), 0.3)
    for unknown in (TwoMoons(), TwoMoons().standardized(), W, "W", None):
        for function in (exact_affine_bound, exact_dependence):
            with pytest.raises(ValueError, match="exact conditionals"):
                function(unknown)
