"""Algorithm 1 and the ascent on SO(D)."""

import numpy as np
import pytest
from scipy.linalg import expm
from scipy.stats import special_ortho_group

from affine.laws import BEST_DEGREES, BEST_GAIN, mixture_rows
from gauss_flows.affine import (
    affine_gain,
    conditional_moments,
    optimal_affine_subspace,
    rotation_matrix,
)
from gauss_flows.affine.subspace import _Search


def degrees_off(rotation):
    """Of a rotation of the plane, from the nearer of the mixture's two best angles."""
    angle = np.rad2deg(np.arctan2(rotation[1, 0], rotation[0, 0])) % 180
    return min(abs(angle - BEST_DEGREES), abs(angle - (180 - BEST_DEGREES)))


def test_the_mixture_s_angle_from_few_rows():
    found = [
        optimal_affine_subspace(mixture_rows(256, seed), 1, n_candidates=24, max_steps=6)
        for seed in range(20)
    ]
    assert np.mean([degrees_off(best.rotation) for best in found]) <= 4.0


def test_the_mixture_s_angle_and_gain_from_many():
    best = optimal_affine_subspace(mixture_rows(8192), 1)
    assert degrees_off(best.rotation) < 1.5
    assert abs(best.gain.value - BEST_GAIN) < 4 * best.gain.standard_error < 0.05
    assert best.candidates.shape == (32, 2, 2)
    assert best.gain.value >= best.candidate_gains.max() - 0.003


def test_the_climb_goes_up():
    x = mixture_rows(1500)
    start = rotation_matrix(np.deg2rad(25.0))
    still = optimal_affine_subspace(x, 1, candidates=start, n_starts=0)
    climbed = optimal_affine_subspace(x, 1, candidates=start, n_starts=1)
    np.testing.assert_allclose(still.rotation, start, atol=1e-12)
    assert still.gain == affine_gain(x, 1, start)
    assert climbed.gain.value > still.gain.value + 0.02
    assert degrees_off(climbed.rotation) < 5


def test_the_climb_follows_the_gain_s_gradient():
    """The likelihood gain with the moments held, by differences, in every plane of rotation."""
    x = planted(1000, special_ortho_group.rvs(3, random_state=1))
    moments = conditional_moments(x[:, :2], x[:, 2:])
    search = _Search(x, 1, "auto", 0, np.zeros(len(x), int), [])
    found = search.direction(np.eye(3))

    def gain(turn):
        y = x @ turn.T
        variance = np.asarray(moments.variance(y[:, :2]), float)
        square = (y[:, 2:] - np.asarray(moments.mean(y[:, :2]), float)) ** 2 / variance
        return 0.5 * np.mean(y[:, 2:] ** 2 - square - np.log(variance))

    slopes = np.zeros((3, 3))
    for i, j in ((0, 1), (0, 2), (1, 2)):
        plane = np.zeros((3, 3))
        plane[i, j], plane[j, i] = 1.0, -1.0
        slopes[i, j] = (gain(expm(0.02 * plane)) - gain(expm(-0.02 * plane))) / 0.04
        slopes[j, i] = -slopes[i, j]
    expected = slopes / np.linalg.norm(slopes) * np.sqrt(2.0)
    np.testing.assert_allclose(found, expected, atol=0.05)


def planted(n, turn, seed=0):
    """Three coordinates, of which the last depends on the first, behind a rotation."""
    rng = np.random.default_rng(seed)
    y = rng.normal(size=(n, 3))
    y[:, 2] = 0.8 * np.sin(y[:, 0]) + np.exp(0.5 * y[:, 1] - 1.0) * y[:, 2]
    return y @ turn


def test_a_planted_rotation_is_climbed_to():
    turn = special_ortho_group.rvs(3, random_state=2)
    x = planted(800, turn)
    truth = affine_gain(x, 1, turn).value
    best = optimal_affine_subspace(x, 1, n_candidates=8, n_starts=1, max_steps=12)
    assert best.gain.value > best.candidate_gains.max()
    assert best.gain.value > 0.9 * truth
    fresh = planted(2000, turn, seed=1)
    assert affine_gain(fresh, 1, best.rotation).value > 0.85 * truth


def so4_moments(p):
    """Mean and log-deviation of two active coordinates given two passive ones."""
    first, second = p.T
    mean = np.stack([np.sin(first), 0.6 * np.cos(second)], axis=1)
    return mean, np.stack([-0.9 + 0.5 * np.tanh(second), -0.8 + 0.4 * np.cos(first)], axis=1)


def so4_rows(n, turn, seed):
    rng = np.random.default_rng(seed)
    p = rng.normal(size=(n, 2))
    mean, log_deviation = so4_moments(p)
    return np.hstack([p, mean + np.exp(log_deviation) * rng.normal(size=(n, 2))]) @ turn


def so4_gain():
    """Δ at the planted rotation in nats, by Gauss-Hermite quadrature over p."""
    points, weights = np.polynomial.hermite_e.hermegauss(40)
    p = np.stack(np.meshgrid(points, points, indexing="ij"), axis=-1).reshape(-1, 2)
    mean, log_deviation = so4_moments(p)
    gain = 0.5 * (mean**2 + np.exp(2 * log_deviation) - 1) - log_deviation
    return np.outer(weights, weights).ravel() @ gain.sum(1) / weights.sum() ** 2


def test_the_climb_on_so4_finds_what_no_candidate_shows():
    """Equation 23 in general: two passive and two active coordinates behind a rotation."""
    turn = special_ortho_group.rvs(4, random_state=0)
    truth = so4_gain()
    assert abs(truth - 1.0486651502) < 1e-9
    options = {"candidates": "random", "n_candidates": 6, "n_starts": 1, "max_steps": 10}
    best = optimal_affine_subspace(so4_rows(800, turn, 0), 2, **options)
    assert best.gain.value > best.candidate_gains.max() + 3 * best.gain.standard_error
    assert abs(best.gain.value / truth - 1) < 0.1
    # On rows that chose nothing, at moments fitted to others of them.
    fresh = so4_rows(3000, turn, 100)
    y = fresh @ best.rotation.T
    moments = conditional_moments(y[:800, :2], y[:800, 2:])
    p, a = y[800:, :2], y[800:, 2:]
    mean, variance = np.asarray(moments.mean(p)), np.asarray(moments.variance(p))
    held = 0.5 * np.sum(a**2 - (a - mean) ** 2 / variance - np.log(variance), axis=1)
    assert 0.9 * truth < held.mean() < truth + 3 * held.std() / np.sqrt(len(held))


@pytest.mark.parametrize("candidates", ["random", "pca", "ica", ("pca", "random")])
def test_sets_of_candidates_are_rotations(candidates):
    x = planted(300, np.eye(3))
    best = optimal_affine_subspace(
        x, 1, candidates=candidates, n_candidates=3, n_starts=0, method="fourier"
    )
    for matrix in (*best.candidates, best.rotation):
        np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-10)
        assert abs(np.linalg.det(matrix) - 1) < 1e-10
    n_named = {"random": 3, "pca": 2, "ica": 2}
    names = (candidates,) if isinstance(candidates, str) else candidates
    assert len(best.candidates) == sum(n_named[name] for name in names)
    assert best.candidate_gains.argmax() == np.argmax(
        [np.array_equal(matrix, best.rotation) for matrix in best.candidates]
    )


def test_the_seed_decides():
    x = planted(200, np.eye(3))
    options = {"n_candidates": 2, "n_starts": 0, "candidates": "random"}
    first, again, other = (
        optimal_affine_subspace(x, 1, random_state=seed, **options) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first.candidates, again.candidates)
    assert np.abs(first.candidates - other.candidates).max() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": "best"}, "candidates among"),
        ({"candidates": "angles"}, "two columns"),
        ({"candidates": np.ones((1, 3, 3))}, "candidate 0"),
        ({"candidates": ()}, "candidates among .* got none"),
        ({"candidates": ["pca", np.eye(3)]}, "among .* not both"),
        ({"candidates": ["pca", None]}, "among .* not both"),
        ({"candidates": 5}, r"shape \(C, 3, 3\)"),
        ({"candidates": len}, "candidates among .* got <built-in"),
        ({"candidates": np.eye(2)}, r"shape \(C, 3, 3\)"),
        ({"n_candidates": 0}, "n_candidates"),
        ({"n_starts": -1}, "n_starts"),
        ({"n_starts": float("inf")}, "n_starts to be an integer of at least 0; got inf"),
        ({"n_starts": "a"}, "n_starts to be an integer of at least 0; got 'a'"),
        ({"max_steps": None}, "max_steps to be an integer of at least 0; got None"),
        ({"max_steps": 1.5}, "max_steps"),
        ({"method": "spline"}, "one passive coordinate"),
        ({"random_state": -1}, "random_state"),
    ],
)
def test_bad_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        optimal_affine_subspace(planted(100, np.eye(3)), 1, **options)


def test_bad_data_are_refused():
    with pytest.raises(ValueError, match="n_active from 1 to 2"):
        optimal_affine_subspace(planted(100, np.eye(3)), 3)
    x = planted(100, np.eye(3))
    x[4, 1] = np.inf
    with pytest.raises(ValueError, match="row 4"):
        optimal_affine_subspace(x, 1)
