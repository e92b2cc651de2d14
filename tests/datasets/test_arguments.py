"""Arguments that make no density, or no question to one."""

import re

import jax.random as jr
import numpy as np
import pytest

from datasets.dataset_registry import DENSITIES
from gauss_flows.datasets import (
    Checkerboard,
    EightGaussians,
    Pinwheel,
    Rings,
    Spiral,
    Standardized,
    TwoGaussians,
    TwoMoons,
    UniformSquare,
    W,
)
from gauss_flows.datasets._quadrature import settled

NUMBER = "a finite number"
POSITIVE = "a finite number above 0"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TwoGaussians(1.0), "Expected delta of at least 0 and below 1; got 1.0."),
        (lambda: TwoGaussians(-0.1), "Expected delta of at least 0 and below 1; got -0.1."),
        (lambda: TwoGaussians(np.nan), f"Expected delta to be {NUMBER}; got nan."),
        (lambda: UniformSquare(0), f"Expected half_width to be {POSITIVE}; got 0."),
        (lambda: UniformSquare("1"), f"Expected half_width to be {POSITIVE}; got '1'."),
        (lambda: UniformSquare(True), f"Expected half_width to be {POSITIVE}; got True."),
        (lambda: TwoMoons(noise=-1.0), f"Expected noise to be {POSITIVE}; got -1.0."),
        (lambda: Rings(()), "Expected radii to be finite numbers above 0; got ()."),
        (lambda: Rings(1.0), "Expected radii to be finite numbers above 0; got 1.0."),
        (lambda: Rings((1.0, 0.0)), "Expected radii to be finite numbers above 0; got (1.0, 0.0)."),
        (lambda: Rings(noise=np.inf), f"Expected noise to be {POSITIVE}; got inf."),
        (lambda: Rings((1,), weights=(1, 2)), "Expected 1 weights, one a radius; got (1.0, 2.0)."),
        (lambda: Rings((1,), weights=(0,)), "Expected weights to be finite numbers above 0; got"),
        (lambda: Spiral(start=0.0), f"Expected start to be {POSITIVE}; got 0.0."),
        (lambda: Spiral(start=2, stop=2), "Expected stop above start = 2.0; got 2.0."),
        (lambda: Spiral(rate=np.inf), f"Expected rate to be {NUMBER}; got inf."),
        (lambda: EightGaussians(radius=None), f"Expected radius to be {POSITIVE}; got None."),
        (lambda: Checkerboard(-4.0), f"Expected half_width to be {POSITIVE}; got -4.0."),
        (lambda: Pinwheel(2), "Expected n_arms to be an integer of at least 3; got 2."),
        (lambda: Pinwheel(5.0), "Expected n_arms to be an integer of at least 3; got 5.0."),
        (lambda: Pinwheel(radial_std=0), f"Expected radial_std to be {POSITIVE}; got 0."),
        (lambda: Pinwheel(rate=np.nan), f"Expected rate to be {NUMBER}; got nan."),
        (lambda: Standardized("W"), "Expected density to be a Density; got 'W'."),
        (lambda: W().passive_log_prob(0.0, np.inf), f"Expected angle to be {NUMBER}; got inf."),
    ],
)
def test_parameters_are_checked(make, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        make()


@pytest.mark.parametrize("name", ["w", "spiral", "checkerboard"])
@pytest.mark.parametrize("n", [-1, 2.0, "3", True, None])
def test_numbers_of_rows_are_whole(name, n):
    with pytest.raises(ValueError, match=f"Expected n to be an integer of at least 0; got {n!r}."):
        DENSITIES[name].sample(jr.key(0), n)


@pytest.mark.parametrize("name", DENSITIES)
@pytest.mark.parametrize("shape", [(), (3,), (2, 1), (0,), (5, 2, 3)])
def test_points_have_two_coordinates(name, shape):
    message = re.escape(f"Expected x of shape (..., 2); got {shape}.")
    for density in (DENSITIES[name], DENSITIES[name].standardized()):
        with pytest.raises(ValueError, match=message):
            density.log_prob(np.zeros(shape))


@pytest.mark.parametrize("name", ["wu", "spiral", "checkerboard", "pinwheel"])
def test_no_rows_are_rows_too(name):
    empty = DENSITIES[name].sample(jr.key(0), 0)
    assert empty.shape == (0, 2)
    assert DENSITIES[name].log_prob(empty).shape == (0,)
    assert DENSITIES[name].log_prob([0, 1]).shape == ()


def test_quadrature_that_does_not_settle_is_an_error():
    with pytest.raises(ArithmeticError, match="Expected quadrature to settle"):
        settled(lambda order: 1.0 / order)
    with pytest.raises(ArithmeticError, match="Expected quadrature to settle"):
        settled(lambda order: float("nan"))
    assert settled(lambda order: 2.0 + 10.0**-order) == pytest.approx(2.0, abs=1e-9)


@pytest.mark.parametrize("key", [0, None, "key", np.zeros(2), jr.split(jr.key(0), 2)])
def test_a_key_is_a_key(key):
    with pytest.raises(ValueError, match="Expected key to be a random key such as jax.random.key"):
        W().sample(key, 3)


@pytest.mark.parametrize("key", [jr.key(0), jr.PRNGKey(0), np.asarray(jr.PRNGKey(0))])
def test_keys_of_both_kinds_are_taken(key):
    np.testing.assert_array_equal(W().sample(key, 3), W().sample(jr.key(0), 3))


@pytest.mark.parametrize("x", ["a", [["a", "b"]], None, [[1.0, 2.0], [3.0]], [[1j, 0]]])
def test_points_are_numbers(x):
    with pytest.raises(ValueError, match="Expected x to be an array of real numbers; got"):
        W().log_prob(x)
