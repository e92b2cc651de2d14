"""Exact conditionals along a rotation."""

from itertools import product

import jax
import numpy as np
import pytest
from scipy.special import betainc
from scipy.stats import beta

from datasets.dataset_registry import panels
from gauss_flows.datasets import WU, TwoGaussians, UniformSquare, W

ANGLES = np.radians([0.0, 10.0, 45.0, 60.0, 90.0, 135.0, -30.0, 250.0])
UNIFORM = 0.1764852083


def split_rule(density, angle):
    """Nodes between the breaks, so dense at each that a logarithm's pole does no harm."""
    breaks = density.passive_breaks(angle)
    t, weights = panels(0.0, 1.0, 8, 32)
    size = np.diff(breaks)[:, None]
    p = (breaks[:-1, None] + size * betainc(4, 4, t)).ravel()
    weights = (size * weights * beta.pdf(t, 4, 4)).ravel()
    weights = weights * np.exp(density.passive_log_prob(p, angle))
    return p[weights > 0], weights[weights > 0]


def delta(density, angle=0.0):
    p, weights = split_rule(density, angle)
    mean, variance = density.conditional_moments(p, angle)
    return 0.5 * weights @ (mean**2 + variance - 1 - np.log(variance))


def rotated(p, a, angle):
    """The point that the rotation takes to (p, a)."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.stack([cos * p + sin * a, cos * a - sin * p], axis=-1)


@pytest.mark.parametrize(
    ("density", "degrees", "truth"),
    [
        (TwoGaussians(), 0.0, 0.7127015),
        (TwoGaussians(), 60.0, 0.7650497),
        (TwoGaussians(), 90.0, 0.0),
        (TwoGaussians(), 46.409679, 0.8794488863),
        (UniformSquare(), 45.0, 0.3693992207),
        (UniformSquare(np.sqrt(3)), 45.0, 0.1534264097),
        (W(), 0.0, 0.6321036493),
        (WU(), 0.0, 0.6321036493),
    ],
)
def test_what_an_affine_layer_gains(density, degrees, truth):
    digits = len(str(truth).split(".")[1])
    assert delta(density, np.radians(degrees)) == pytest.approx(truth, abs=10.0**-digits + 1e-9)


@pytest.mark.parametrize(
    ("density", "degrees"), [(TwoGaussians(), 46.409679), (UniformSquare(), 45.0)]
)
def test_where_it_gains_most(density, degrees):
    best, *others = (
        delta(density, np.radians(degrees + step)) for step in (0.0, -1, -0.01, 0.01, 1)
    )
    assert best > max(others)


@pytest.mark.parametrize("density", [TwoGaussians(), TwoGaussians(0.6), UniformSquare(0.7)])
@pytest.mark.parametrize("angle", ANGLES)
def test_moments_add_up_to_those_of_the_density(density, angle):
    p, weights = split_rule(density, angle)
    assert weights.sum() == pytest.approx(1, abs=1e-12)
    mean, variance = density.conditional_moments(p, angle)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    covariance = turn @ density.covariance() @ turn.T
    found = [weights @ p**2, weights @ (p * mean), weights @ (mean**2 + variance)]
    assert np.allclose(found, covariance[[0, 0, 1], [0, 1, 1]], atol=1e-10)
    assert weights @ mean == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize(
    ("density", "angle"),
    [(W(), 0.0), *product([TwoGaussians(), TwoGaussians(0.6), TwoGaussians(0.0)], ANGLES)],
)
def test_smooth_conditionals_are_slices_of_the_density(x64, density, angle):
    p = np.array([[-1.3, -0.4, 0.0], [0.01, 0.5, 1.9]])
    a, weights = panels(-9.0, 9.0, 90)
    log_p = np.asarray(density.log_prob(rotated(p[..., None], a, angle)))
    marginal = np.exp(log_p) @ weights
    conditional = np.exp(log_p) / marginal[..., None]
    mean = conditional @ (a * weights)
    variance = conditional @ (a**2 * weights) - mean**2
    entropy = -(conditional * (log_p - np.log(marginal)[..., None])) @ weights
    assert np.allclose(density.passive_log_prob(p, angle), np.log(marginal), atol=1e-10)
    found = density.conditional_moments(p, angle)
    assert np.allclose(found, [mean, variance], atol=1e-10)
    negentropy = 0.5 * np.log(2 * np.pi * np.e * variance) - entropy
    assert np.allclose(density.conditional_negentropy(p, angle), negentropy, atol=1e-10)
    wrong = 1.001 * found[1]
    assert not np.allclose(wrong, variance, atol=1e-10)


@pytest.mark.parametrize("angle", ANGLES)
def test_chords_of_the_square_end_on_its_edges(angle):
    density = UniformSquare(0.7)
    p, _ = split_rule(density, angle)
    mean, variance = density.conditional_moments(p, angle)
    for side in (-1, 1):
        ends = rotated(p, mean + side * np.sqrt(3 * variance), angle)
        assert np.allclose(np.abs(ends).max(-1), 0.7, atol=1e-12)
    length = 2 * np.sqrt(3 * variance)
    assert np.allclose(density.passive_log_prob(p, angle), np.log(length / 1.4**2), atol=1e-10)
    assert np.allclose(density.conditional_negentropy(p, angle), UNIFORM, atol=1e-10)


@pytest.mark.parametrize(
    ("density", "angle"),
    [(W(), 0.0), (WU(), 0.0), *product([TwoGaussians(), UniformSquare()], ANGLES)],
)
def test_breaks_hold_the_mass_in_order(density, angle):
    breaks = density.passive_breaks(angle)
    assert (np.diff(breaks) > 1e-12).all()
    assert breaks.dtype == np.float64
    outside = density.passive_log_prob(breaks[[0, -1]] * 1.001, angle)
    assert (outside < -35).all()


def test_the_square_s_kinks_are_breaks():
    for degrees, truth in ((0, [-1, 1]), (90, [-1, 1]), (45, [-np.sqrt(2), 0, np.sqrt(2)])):
        assert np.allclose(UniformSquare().passive_breaks(np.radians(degrees)), truth)
    slanted = UniformSquare().passive_breaks(np.radians(30))
    assert np.allclose(slanted[2:], [(np.sqrt(3) - 1) / 2, (np.sqrt(3) + 1) / 2])


def test_the_pieces_of_the_divergence_add_up():
    """KL to N(0, I) = passive's divergence + gain + what is left, at every angle."""
    for density in (TwoGaussians(), UniformSquare(), W(), WU()):
        for angle in ANGLES if isinstance(density, TwoGaussians | UniformSquare) else [0.0]:
            p, weights = split_rule(density, angle)
            log_p = density.passive_log_prob(p, angle)
            passive = weights @ (log_p + 0.5 * np.log(2 * np.pi) + 0.5 * p**2)
            left = weights @ density.conditional_negentropy(p, angle)
            total = passive + delta(density, angle) + left
            assert total == pytest.approx(density.kl_to_normal(), abs=1e-8)


def test_negentropies_of_w_and_wu():
    p = np.linspace(-2, 2, 5)
    assert np.array_equal(W().conditional_negentropy(p), np.zeros(5))
    assert np.allclose(WU().conditional_negentropy(p), UNIFORM, atol=1e-10)
    assert WU().conditional_negentropy(0.3).shape == ()


@pytest.mark.parametrize("density", [W(), WU()])
def test_w_knows_its_own_axes_only(density):
    name = type(density).__name__
    for ask in (
        lambda: density.passive_log_prob(0.0, 0.1),
        lambda: density.conditional_moments(0.0, 0.1),
        lambda: density.conditional_negentropy(0.0, 0.1),
        lambda: density.passive_breaks(0.1),
    ):
        with pytest.raises(ValueError, match=f"Expected angle to be 0, because {name} knows"):
            ask()


@pytest.mark.parametrize("density", [W(), WU(), UniformSquare()])
def test_nothing_is_conditional_on_what_cannot_be(density):
    outside = np.array([-2.1, 2.1])
    assert np.isneginf(density.passive_log_prob(outside)).all()
    assert np.isnan(density.conditional_moments(outside)).all()
    assert np.isnan(density.conditional_negentropy(outside)).all()


def test_separated_components_and_many_rows():
    density = TwoGaussians(0.9999)
    p = np.linspace(-3, 3, 3000)
    negentropy = density.conditional_negentropy(p, np.pi / 2)
    variance = density.conditional_moments(p, np.pi / 2)[1]
    # At right angles p says nothing, and two components far apart hold one bit.
    truth = 0.5 * np.log(variance / (1 - 0.9999**2)) - np.log(2)
    assert np.allclose(negentropy, truth, atol=1e-10)


def test_conditionals_are_in_float64_whatever_jax_s_precision():
    with jax.enable_x64(False):
        mean, variance = TwoGaussians().conditional_moments(np.float32(0.5), 0.7)
    assert mean.dtype == variance.dtype == np.float64
