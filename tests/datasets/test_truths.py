"""Figures known from elsewhere, and log-densities in many digits."""

import jax.numpy as jnp
import mpmath as mp
import numpy as np
import pytest
from scipy.special import xlogy
from scipy.stats import multivariate_normal
from sklearn.datasets import make_moons

from datasets import density_checks as checks
from datasets.dataset_registry import DENSITIES, Altered, panels
from gauss_flows.datasets import (
    WU,
    Checkerboard,
    EightGaussians,
    Pinwheel,
    Rings,
    Spiral,
    TwoGaussians,
    TwoMoons,
    UniformSquare,
    W,
)


@pytest.mark.parametrize(
    ("density", "kl"),
    [
        (W(), 0.8314144880),
        (WU(), 1.0078996963),
        (UniformSquare(), 0.7849160386),
        (UniformSquare(np.sqrt(3)), 0.3529704166),
        (TwoGaussians(0.0), 0.0),
    ],
)
def test_divergences_from_the_standard_normal(density, kl):
    assert density.kl_to_normal() == pytest.approx(kl, abs=1.5e-10)


def test_entropies_in_the_limits_that_have_closed_forms():
    normal = np.log(2 * np.pi * np.e)
    assert Checkerboard().entropy() == pytest.approx(5 * np.log(2))
    far_apart = 2 * np.log(0.01) + normal
    assert TwoGaussians(0.999999).entropy() == pytest.approx(
        np.log(2) + normal + np.log1p(-(0.999999**2)), abs=1e-9
    )
    assert EightGaussians(4.0, 0.01).entropy() == pytest.approx(far_apart + np.log(8), abs=1e-9)
    assert EightGaussians(1e-3, 1.0).entropy() == pytest.approx(normal, abs=1e-6)
    assert Rings((1e-4,), 1.0).entropy() == pytest.approx(normal, abs=1e-7)
    # Wide components about one point: the arms of a round pinwheel do not overlap when narrow.
    assert Pinwheel(3, 0.02, 0.02).entropy() == pytest.approx(
        normal + 2 * np.log(0.02) + np.log(3), abs=1e-9
    )
    assert Pinwheel(rate=3.0).entropy() == Pinwheel(rate=-0.5).entropy()
    # A curve with little noise: its length, and the noise across it.
    across = 0.5 * normal + np.log(0.002)
    assert Rings((1.0,), 0.002).entropy() == pytest.approx(np.log(2 * np.pi) + across, abs=1e-5)


def test_the_ring_s_total_correlation():
    ring = Rings(radii=(1.0,), noise=0.05)
    angle = np.pi * (np.arange(4000) + 0.5) / 4000
    x, weights = panels(-1.5, 1.5, 120)
    p = np.exp(-0.5 * ((x[:, None] - np.cos(angle)) / 0.05) ** 2).mean(1)
    p /= 0.05 * np.sqrt(2 * np.pi)
    marginal = -weights @ xlogy(p, p)
    assert weights @ p == pytest.approx(1)
    assert 2 * marginal - ring.entropy() == pytest.approx(1.1583, abs=5e-5)


def curve_log_density(curves, low, high, noise, x):
    """Log-density of smeared curves in 30 digits; the peak is taken out before integrating."""
    x, noise = [mp.mpf(float(v)) for v in x], mp.mpf(noise)
    pieces = mp.linspace(low, high, 81)

    def squared(curve, t):
        a, b = curve(t)
        return (x[0] - a) ** 2 + (x[1] - b) ** 2

    least = min(squared(curve, t) for curve in curves for t in pieces)
    near = 250 * noise**2 + least
    total = mp.mpf(0)
    for curve in curves:
        far = [squared(curve, t) > near + mp.mpf(2) for t in pieces]
        for i in range(80):
            if not (far[i] and far[i + 1]):
                total += mp.quad(
                    lambda t, curve=curve: mp.exp((least - squared(curve, t)) / (2 * noise**2)),
                    pieces[i : i + 2],
                    maxdegree=5,
                )
    scale = len(curves) * (mp.mpf(high) - low) * 2 * mp.pi * noise**2
    return float(mp.log(total / scale) - least / (2 * noise**2))


def moons(noise):
    curves = [
        lambda t: (mp.cos(t), mp.sin(t)),
        lambda t: (1 - mp.cos(t), mp.mpf("0.5") - mp.sin(t)),
    ]
    return curves, mp.mpf(0), mp.pi, noise


def arms(noise):
    curves = [
        lambda t, sign=sign: (sign * t * mp.cos(2.5 * t), sign * t * mp.sin(2.5 * t))
        for sign in (1, -1)
    ]
    return curves, mp.mpf("0.5"), mp.mpf("3.5"), noise


@pytest.mark.parametrize(
    ("density", "reference", "points"),
    [
        (
            TwoMoons(),
            moons(0.05),
            [[0.7, 0.7], [0, 0], [0, -1], [0.5, 0.25], [-1.2, -0.1], [1, 0.5], [-1, 0], [4, -3]],
        ),
        (TwoMoons(0.3), moons(0.3), [[0.7, 0.7], [0, 0], [0, -1], [0.5, 0.25], [30, -40]]),
        (Spiral(), arms(0.08), [[0, 0], [0.16, 0.48], [1.3, 0.2], [-2.1, 2.7], [-0.9, 0.4]]),
        (Spiral(noise=0.3), arms(0.3), [[0, 0], [1.3, 0.2], [-2.0, -0.4], [6, 3]]),
    ],
)
def test_curves_with_noise_in_many_digits(x64, density, reference, points):
    with mp.workdps(30):
        truth = [curve_log_density(*reference, point) for point in points]
    assert np.allclose(density.log_prob(jnp.asarray(points, float)), truth, rtol=1e-11, atol=1e-10)
    assert not np.allclose(
        Altered(density, "mass 1.01").log_prob(jnp.asarray(points, float)), truth, rtol=1e-6
    )


def test_far_from_the_spiral_the_error_is_relative(x64):
    fine = Spiral(noise=0.08)
    t = np.linspace(0.5, 3.5, 400_001)
    for angle in np.linspace(0, np.pi, 7):
        for distance in (7.0, 30.0, 1e3):
            x = distance * np.array([np.cos(angle), np.sin(angle)])
            arm = np.stack([t * np.cos(2.5 * t), t * np.sin(2.5 * t)])
            squares = np.concatenate([((x[:, None] - s * arm) ** 2).sum(0) for s in (1, -1)]) / (
                2 * 0.08**2
            )
            least = squares.min()
            truth = np.log(np.mean(np.exp(least - squares)) / (2 * np.pi * 0.08**2)) - least
            assert float(fine.log_prob(x)) == pytest.approx(truth, rel=1e-4)


def test_rings_are_circles_of_normals(x64):
    angle = 2 * np.pi * np.arange(2000) / 2000
    density = Rings((0.5, 2.0), 0.1, weights=(1, 3))
    x = np.array([[0.0, 0.0], [0.5, 0.1], [-1.2, 1.5], [0.0, 2.5], [1e-200, 0.0]])
    p = sum(
        share
        * np.mean(
            [
                multivariate_normal(r * np.array([np.cos(a), np.sin(a)]), 0.01).pdf(x)
                for a in angle[::4]
            ],
            axis=0,
        )
        for r, share in ((0.5, 0.25), (2.0, 0.75))
    )
    assert np.allclose(density.log_prob(x), np.log(p), rtol=1e-10)


def test_the_spiral_is_the_seed_s(x64):
    """The seed's own recipe, in NumPy; its standardized rows fit the density as they should."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0.5, 3.5, 4000)
    arm = (rng.integers(0, 2, 4000) * 2 - 1)[:, None]
    xy = arm * np.stack([t * np.cos(2.5 * t), t * np.sin(2.5 * t)], axis=1)
    xy = xy + 0.08 * rng.standard_normal((4000, 2))
    surprise = -np.asarray(Spiral().log_prob(xy))
    assert abs(surprise.mean() - Spiral().entropy()) < 4 * surprise.std() / np.sqrt(4000)
    standard = Spiral().standardized()
    surprise = -np.asarray(standard.log_prob((xy - xy.mean(0)) / xy.std(0)))
    assert abs(surprise.mean() - standard.entropy()) < 0.06


def test_the_moons_are_scikit_learn_s(x64):
    x, _ = make_moons(6000, noise=0.05, random_state=0)
    surprise = -np.asarray(TwoMoons().log_prob(x))
    assert abs(surprise.mean() - TwoMoons().entropy()) < 4 * surprise.std() / np.sqrt(6000)
    assert np.allclose(x.mean(0), TwoMoons().mean(), atol=4e-3)
    assert np.allclose(np.cov(x.T), TwoMoons().covariance(), atol=0.01)


def test_the_pinwheel_is_the_usual_one_along_its_arms(x64):
    """Twisted by the radius or by the coordinate along the arm: on the arm these are one."""
    density = Pinwheel()
    along = np.array([0.5, 1.0, 1.4])
    for k in range(5):
        angle = 2 * np.pi * k / 5 + 0.25 * np.exp(along)
        x = along[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        peak = -0.5 * ((along - 1) / 0.3) ** 2 - np.log(5 * 2 * np.pi * 0.3 * 0.1)
        assert np.allclose(density.log_prob(x), peak, atol=2e-2)


@pytest.mark.parametrize("name", DENSITIES)
def test_standardized(x64, name):
    density = DENSITIES[name]
    standard = density.standardized()
    deviation = np.sqrt(np.diagonal(density.covariance()))
    x = checks.few_points(density).astype(np.float64)
    z = (x - density.mean()) / deviation
    log_prob = density.log_prob(x) + np.log(deviation).sum()
    assert np.allclose(standard.log_prob(z), log_prob, rtol=1e-10)
    assert not np.allclose(standard.log_prob(z), density.log_prob(x), atol=1e-3)
    assert np.array_equal(standard.mean(), np.zeros(2))
    assert np.array_equal(np.diagonal(standard.covariance()), np.ones(2))
    assert standard.entropy() == pytest.approx(density.entropy() + np.log(1 / deviation).sum())
    twice = standard.standardized()
    assert np.allclose(twice.log_prob(z), standard.log_prob(z), rtol=1e-12)
    assert twice.entropy() == standard.entropy()
    assert hash(standard) == hash(density.standardized())
    assert standard == density.standardized()


@pytest.mark.parametrize("name", ["wu", "square", "checkerboard", "moons"])
def test_standardized_samples_stay_on_the_support(name):
    checks.check_samples(DENSITIES[name].standardized(), seed=1)


@pytest.mark.parametrize("fault", ["mean", "covariance", "entropy"])
def test_wrong_moments_spoil_the_standardized(fault):
    with pytest.raises(AssertionError):
        checks.check_samples(Altered(DENSITIES["two_gaussians"], fault).standardized())
