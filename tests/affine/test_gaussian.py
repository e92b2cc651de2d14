"""Gaussian data: closed forms against algebra and simulation."""

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.stats import special_ortho_group

from gauss_flows.affine import (
    affine_gain,
    affine_gain_gaussian,
    coupling_contraction,
    gaussian_kl,
    marginal_contraction,
    rotation_matrix,
    whitening_gain_bound,
)
from gauss_flows.affine.gaussian import whitening_contraction_bound


def random_covariance(n_dims, seed, spread=1.0):
    rng = np.random.default_rng(seed)
    turn = special_ortho_group.rvs(n_dims, random_state=seed)
    return turn @ np.diag(np.exp(spread * rng.normal(size=n_dims))) @ turn.T


def after_layer(cov, n_active):
    """The covariance that the best affine coupling leaves."""
    n_passive = len(cov) - n_active
    passive, cross, active = cov[:n_passive, :n_passive], cov[:n_passive, n_passive:], cov
    conditional = active[n_passive:, n_passive:] - cross.T @ np.linalg.solve(passive, cross)
    deviation = np.sqrt(np.diag(conditional))
    left = np.zeros_like(cov)
    left[:n_passive, :n_passive] = passive
    left[n_passive:, n_passive:] = conditional / np.outer(deviation, deviation)
    return left


@pytest.mark.parametrize(("n_dims", "n_active"), [(2, 1), (3, 1), (3, 2), (6, 3)])
def test_the_gain_is_the_drop_in_divergence(n_dims, n_active):
    for seed in range(5):
        cov = random_covariance(n_dims, seed)
        turn = special_ortho_group.rvs(n_dims, random_state=100 + seed)
        turned = turn @ cov @ turn.T
        drop = gaussian_kl(turned) - gaussian_kl(after_layer(turned, n_active))
        assert abs(affine_gain_gaussian(cov, n_active, turn) - drop) < 1e-10


def test_one_layer_can_whiten_two_coordinates():
    cov = np.diag([2.5, 0.3])
    turn = rotation_matrix(np.deg2rad(55.661843))
    gain = affine_gain_gaussian(cov, 1, turn)
    assert abs(gain - 0.5438410362) < 1e-9
    assert abs(gaussian_kl(cov) - gain) < 1e-9
    best = minimize_scalar(
        lambda angle: -affine_gain_gaussian(cov, 1, rotation_matrix(angle)),
        bounds=(0.5, 1.5),
        method="bounded",
        options={"xatol": 1e-9},
    )
    assert abs(np.rad2deg(best.x) - 55.661843) < 1e-4


def test_what_active_coordinates_have_in_common_remains():
    cov = np.eye(3)
    cov[1, 2] = cov[2, 1] = 0.6
    assert abs(affine_gain_gaussian(cov, 2)) < 1e-12
    assert abs(gaussian_kl(cov) - 0.2231435513) < 1e-8


def near_white(n_dims, seed, size=1e-3):
    """I + εS with S symmetric and without a trace."""
    rng = np.random.default_rng(seed)
    s = rng.normal(size=(n_dims, n_dims))
    s = s + s.T
    return np.eye(n_dims) + size * (s - np.trace(s) / n_dims * np.eye(n_dims))


@pytest.mark.parametrize(("n_dims", "n_active"), [(2, 1), (3, 1), (4, 2), (6, 3)])
def test_contraction_of_random_layers(n_dims, n_active):
    cov = near_white(n_dims, n_dims)
    start = gaussian_kl(cov)
    coupling, marginal = [], []
    for seed in range(4000):
        turn = special_ortho_group.rvs(n_dims, random_state=seed)
        turned = turn @ cov @ turn.T
        coupling.append(1.0 - affine_gain_gaussian(cov, n_active, turn) / start)
        deviation = np.sqrt(np.diag(turned))
        marginal.append(gaussian_kl(turned / np.outer(deviation, deviation)) / start)
    for left, factor in (
        (coupling, coupling_contraction(n_dims, n_active)),
        (marginal, marginal_contraction(n_dims)),
    ):
        error = np.std(left) / np.sqrt(len(left))
        assert abs(np.mean(left) - factor) < 4 * error + 2e-3
        assert error < 0.01


@pytest.mark.parametrize(("n_dims", "n_active", "spread"), [(2, 1, 0.3), (4, 2, 0.5), (6, 2, 1.0)])
def test_the_bound_holds_and_is_of_the_right_size(n_dims, n_active, spread):
    cov = random_covariance(n_dims, 7, spread)
    turns = special_ortho_group.rvs(n_dims, size=1000, random_state=1)
    gains = [affine_gain_gaussian(cov, n_active, turn) for turn in turns]
    least = whitening_gain_bound(cov, n_active)
    assert 0 < least < np.mean(gains) - 3 * np.std(gains) / np.sqrt(len(gains))


def test_the_bound_is_tight_to_second_order_but_for_the_diagonal():
    n_dims, n_active = 6, 3
    cov = near_white(n_dims, 3)
    between = 2 * n_active * (n_dims - n_active) / ((n_dims + 2) * (n_dims - 1))
    ratio = whitening_gain_bound(cov, n_active) / gaussian_kl(cov)
    assert abs(ratio - between) < 0.02


def random_gains(cov, n_active, n_turns=2000):
    """Mean gain over random rotations, and its standard error."""
    turns = special_ortho_group.rvs(len(cov), size=n_turns, random_state=1)
    gains = [affine_gain_gaussian(cov, n_active, turn) for turn in turns]
    return np.mean(gains), np.std(gains) / np.sqrt(n_turns)


def test_the_bound_knows_what_a_wrong_scale_costs():
    """At λ̄ ≠ 1 with equal eigenvalues it is the gain itself."""
    for scale in (0.3, 2.5):
        cov = scale * np.eye(4)
        assert abs(whitening_gain_bound(cov, 2) - affine_gain_gaussian(cov, 2)) < 1e-12


@pytest.mark.parametrize(("n_dims", "n_active"), [(2, 1), (4, 1), (4, 2), (6, 3)])
@pytest.mark.parametrize("spread", [0.05, 0.5, 1.5])
def test_what_a_random_layer_leaves_is_below_the_bound(n_dims, n_active, spread):
    cov = random_covariance(n_dims, 11, spread)
    cov *= n_dims / np.trace(cov)
    start = gaussian_kl(cov)
    gain, error = random_gains(cov, n_active)
    factor = whitening_contraction_bound(start, n_dims, n_active)
    assert 1 - (gain + 3 * error) / start < factor < 1
    # What is known of S alone says no more than the eigenvalues do.
    assert whitening_gain_bound(cov, n_active) >= (1 - factor) * start - 1e-12


@pytest.mark.parametrize(("n_dims", "n_active"), [(2, 1), (5, 2), (16, 8)])
def test_the_bound_s_factor_grows_from_the_near_white_one(n_dims, n_active):
    sizes = np.geomspace(1e-8, 5, 100)
    factors = [whitening_contraction_bound(size, n_dims, n_active) for size in sizes]
    between = 2 * n_active * (n_dims - n_active) / ((n_dims + 2) * (n_dims - 1))
    # All but the diagonal, which the bound leaves out.
    assert abs(factors[0] - (1 - between)) < 1e-3
    assert factors[0] > coupling_contraction(n_dims, n_active)
    assert (np.diff(factors) > 0).all()
    assert factors[-1] < 1


def test_layers_of_random_rotations_whiten_as_fast_as_the_bound_says():
    n_dims, n_active, n_layers = 4, 2, 8
    left = []
    for seed in range(200):
        cov = random_covariance(n_dims, 5, 0.6)
        cov /= np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
        start = gaussian_kl(cov)
        for turn in special_ortho_group.rvs(n_dims, size=n_layers, random_state=seed):
            cov = after_layer(turn @ cov @ turn.T, n_active)
            cov /= np.sqrt(np.outer(np.diag(cov), np.diag(cov)))
        left.append(gaussian_kl(cov) / start)
    factor = whitening_contraction_bound(start, n_dims, n_active) ** n_layers
    assert np.mean(left) + 3 * np.std(left) / np.sqrt(len(left)) < factor


def test_data_that_are_not_normal_gain_at_least_as_much():
    """Δ of uniform coordinates, turned evenly, against the bound and the normal law's."""
    rng = np.random.default_rng(0)
    spread = np.array([1.6, 0.4])
    x = rng.uniform(-np.sqrt(3), np.sqrt(3), size=(4000, 2)) * np.sqrt(spread)
    gains = [
        affine_gain(x, 1, rotation_matrix(angle)) for angle in np.pi * (np.arange(24) + 0.5) / 24
    ]
    error = np.mean([gain.standard_error for gain in gains])
    mean = np.mean([gain.value for gain in gains])
    assert mean > whitening_gain_bound(np.diag(spread), 1) - 2 * error
    assert mean > random_gains(np.diag(spread), 1)[0] - 2 * error


@pytest.mark.parametrize("kl", [0.0, -1.0, np.inf, np.nan, "a", None, True])
def test_bad_divergences_are_refused(kl):
    with pytest.raises(ValueError, match="kl to be a finite number above 0"):
        whitening_contraction_bound(kl, 3, 1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 2.0], [2.0, 1.0]], 1), "positive definite"),
        (([[1.0, 0.5], [0.0, 1.0]], 1), "symmetric"),
        (([[1.0, np.nan], [np.nan, 1.0]], 1), "row 0, column 1"),
        ((np.eye(3), 3), "n_active from 1 to 2"),
        ((np.eye(3), 0), "n_active from 1 to 2"),
        ((np.ones(3), 1), r"shape \(D, D\)"),
        (("a", 1), r"shape \(D, D\), of real numbers"),
        ((1j * np.eye(2), 1), r"shape \(D, D\), of real numbers"),
        (([[1.0], [0.0, 1.0]], 1), r"shape \(D, D\), of real numbers"),
        ((np.eye(1), 1), "two columns"),
        ((np.eye(2), 1, [[1.0, 1.0], [0.0, 1.0]]), "orthogonal"),
        ((np.eye(3), 1, np.eye(2)), r"shape \(3, 3\)"),
    ],
)
def test_bad_arguments_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        affine_gain_gaussian(*arguments)


@pytest.mark.parametrize("n_dims", [1, 0, 2.5, True, "a", None, np.nan, np.inf])
def test_bad_sizes_are_refused(n_dims):
    with pytest.raises(ValueError, match="n_dims"):
        marginal_contraction(n_dims)
    with pytest.raises(ValueError, match="n_dims"):
        coupling_contraction(n_dims, 1)
