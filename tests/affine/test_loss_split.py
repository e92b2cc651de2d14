"""What `affine_loss_split` finds is what quadrature knows, and its errors say how nearly."""

import numpy as np
import pytest

from affine.laws import mixture_rows, rows
from gauss_flows.affine import affine_loss_split, exact_affine_bound, rotation_matrix
from gauss_flows.datasets import WU, TwoGaussians, W
from gauss_flows.numerics.estimate import Estimate


@pytest.mark.parametrize("degrees", [46.409679, 60.0])
def test_what_it_leaves_of_the_mixture(degrees):
    """Where the active coordinate's law changes with p: its marginal law would show less."""
    angle = np.deg2rad(degrees)
    exact = exact_affine_bound(TwoGaussians(), angle)
    splits = [
        affine_loss_split(mixture_rows(1000, seed), 1, rotation_matrix(angle), n_folds=3)
        for seed in range(4)
    ]
    for part, truth in (("passive", exact.passive), ("conditional", exact.conditional)):
        estimates = [getattr(split, part) for split in splits]
        values = np.array([np.sum(estimate.value) for estimate in estimates])
        errors = np.array([np.sum(estimate.standard_error) for estimate in estimates])
        assert np.abs((values - truth) / errors).max() < 3
        # The mean of four runs is twice as near.
        assert abs(values.mean() - truth) < 1.3 * errors.mean()
        assert errors.mean() < 0.03
    values = [split.conditional.value[0] for split in splits]
    assert abs(np.mean(values) - exact.conditional) < 0.015


def test_the_split_adds_up_to_what_the_gain_leaves():
    """Passive and conditional parts are KL before the layer less Δ."""
    angle = np.deg2rad(60.0)
    exact = exact_affine_bound(TwoGaussians(), angle)
    split = affine_loss_split(mixture_rows(2000, 1), 1, rotation_matrix(angle), n_folds=3)
    assert abs(split.total.value - exact.kl_after) < 3 * split.total.standard_error < 0.08


def test_what_it_leaves_of_w_and_wu():
    split = affine_loss_split(rows(W(), 4000), 1, max_components=4, n_folds=2)
    assert abs(split.passive.value - 0.1993) < 4 * split.passive.standard_error
    assert abs(split.conditional.value[0]) < 0.05
    assert split.total_correlation.value == 0
    uniform = affine_loss_split(rows(WU(), 4000), 1, max_components=4, n_folds=2)
    assert 0.11 < uniform.conditional.value[0] < 0.19
    parts = uniform.passive.value + uniform.conditional.value.sum()
    assert abs(uniform.total.value - parts) < 1e-9


def test_it_leaves_nothing_of_normal_data():
    """No part of white data is clear of zero, above or below: the fits' optimism is removed."""
    ratios = []
    for seed in range(3):
        x = np.random.default_rng(seed).normal(size=(500, 4))
        split = affine_loss_split(x, 2, max_components=4, n_folds=2)
        for part in (split.passive, *map(Estimate, *split.conditional), split.total):
            assert abs(part.value) < 0.06
            ratios.append(part.value / part.standard_error)
        assert abs(split.total_correlation.value) < 0.01
    assert np.abs(ratios).max() < 3
    assert abs(np.mean(ratios)) < 1


def test_optimism_does_not_pass_for_structure():
    """Six columns of 200 rows: fits to all rows alone would find 0.02 nats in the passive ones."""
    tables = [np.random.default_rng(seed).normal(size=(200, 6)) for seed in range(4)]
    splits = [affine_loss_split(x, 3, max_components=1, n_folds=3) for x in tables]
    assert abs(np.mean([split.passive.value for split in splits])) < 0.012
    for split in splits:
        correlation = split.total_correlation
        assert abs(correlation.value) < 2.5 * correlation.standard_error < 0.25


def test_nothing_is_left_of_what_is_all_but_a_line():
    rng = np.random.default_rng(0)
    p = rng.normal(size=300)
    split = affine_loss_split(np.column_stack([p, p + 0.05 * rng.normal(size=300)]), 1, n_folds=3)
    assert abs(split.total.value) < 3 * split.total.standard_error < 0.12
    assert abs(split.conditional.value[0]) < 0.04


def test_what_it_leaves_of_correlated_active_coordinates():
    rng = np.random.default_rng(0)
    root = np.linalg.cholesky(np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.6], [0.0, 0.6, 1.0]]))
    split = affine_loss_split(rng.normal(size=(4000, 3)) @ root.T, 2, max_components=4, n_folds=2)
    assert abs(split.total_correlation.value - 0.2231435513) < 0.05
    assert np.abs(split.conditional.value).max() < 0.03
    assert abs(split.passive.value) < 0.03


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_folds": 1}, "n_folds to be an integer of at least 2"),
        ({"n_folds": None}, "n_folds to be an integer of at least 2; got None"),
        ({"n_folds": "a"}, "n_folds to be an integer of at least 2; got 'a'"),
        ({"n_folds": 201}, "at least 201 rows"),
        ({"max_components": 0}, "max_components"),
        ({"n_active": 2}, "n_active"),
    ],
)
def test_a_split_refuses_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        affine_loss_split(mixture_rows(200), **{"n_active": 1, **options})
    with pytest.raises(ValueError, match="at least 100 rows"):
        affine_loss_split(mixture_rows(99), 1)
