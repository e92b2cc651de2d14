"""Theorem 1 and Lemma 2 by quadrature, against the paper's laws."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from affine.laws import BEST_DEGREES, BEST_GAIN
from gauss_flows.affine import exact_affine_bound, exact_dependence
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


def test_angles_that_are_not_known_are_refused():
    with pytest.raises(ValueError, match="angle"):
        exact_affine_bound(W(), 0.3)
    with pytest.raises(ValueError, match="exact conditionals"):
        exact_affine_bound(TwoMoons(), 0.0)
