"""Rotations chosen from data: orthogonal, and found where they are known."""

import re

import jax
import numpy as np
import pytest
from scipy.stats import norm

from gauss_flows.rbig.rotations import choose_rotation, sliced_directions

NAMES = ("pca", "ica", "random", "sliced")


def random_rotation(seed, d):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]


def total_distance(directions, x):
    normal = norm.ppf((np.arange(len(x)) + 0.5) / len(x))[:, None]
    return np.mean((np.sort(x @ np.asarray(directions).T, axis=0) - normal) ** 2, axis=0).sum()


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("d", [1, 2, 5])
def test_every_rotation_is_orthogonal_and_repeatable(precision, name, d):
    x = np.random.default_rng(0).gamma(2.0, size=(400, d))
    weight = np.random.default_rng(1).uniform(size=400)
    for sample_weight in (None, weight):
        one, same = (
            choose_rotation(name, x, random_state=3, sample_weight=sample_weight).matrix.tree
            for _ in range(2)
        )
        assert np.allclose(one @ one.T, np.eye(d), atol=2e-6)
        assert np.array_equal(one, same)


@pytest.mark.parametrize("name", ["random", "sliced"])
def test_another_seed_gives_another_rotation(name):
    x = np.random.default_rng(0).normal(size=(300, 4))
    one, other = (choose_rotation(name, x, random_state=s).matrix.tree for s in (0, 1))
    assert not np.allclose(one, other, atol=1e-2)


def test_sliced_finds_the_one_direction_that_is_not_normal(precision):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3000, 6))
    x[:, 0] = rng.choice([-1.0, 1.0], 3000) + 0.05 * rng.normal(size=3000)
    turn = random_rotation(1, 6)
    for seed in range(3):
        directions = np.asarray(sliced_directions(x @ turn.T, random_state=seed))
        assert np.allclose(directions @ directions.T, np.eye(6), atol=1e-5)
        assert abs(directions[0] @ turn[:, 0]) > 0.99


def test_sliced_is_further_from_normal_than_random_directions():
    rng = np.random.default_rng(2)
    x = rng.gamma(1.0, size=(2000, 5)) - 1.0
    x = x @ random_rotation(3, 5).T
    found = total_distance(sliced_directions(x), x)
    others = [total_distance(random_rotation(seed, 5), x) for seed in range(50)]
    sources = total_distance(random_rotation(3, 5).T, x)
    assert found > max(others)
    assert found > 0.95 * sources


def test_long_tables_are_searched_by_a_sample_of_the_weights():
    """One row in a hundred has weight: a sample of the rows would hardly see them."""
    rng = np.random.default_rng(4)
    x = rng.normal(size=(50_000, 2))
    x[::100, 1] = rng.choice([-1.0, 1.0], 500)
    weight = np.where(np.arange(50_000) % 100 == 0, 1.0, 1e-12)
    for seed in range(3):
        options = {"random_state": seed, "sample_weight": weight}
        assert abs(choose_rotation("sliced", x, **options).matrix.tree[0, 1]) > 0.99
        assert np.allclose(weight @ x / weight.sum(), 0, atol=0.2)


def test_independent_components_are_those_of_the_weighted_rows():
    rng, sources = np.random.default_rng(6), np.random.default_rng(7).uniform(-1, 1, (6000, 2))
    turns = [random_rotation(seed, 2) for seed in (1, 4)]
    x = np.where(np.arange(6000)[:, None] % 10 == 0, *(sources @ turn for turn in turns))
    first = np.arange(6000) % 10 == 0
    for weight, turn in zip((first + 1e-9, ~first + 1e-9), turns, strict=True):
        found = choose_rotation("ica", x, sample_weight=weight * rng.uniform(0.9, 1.1, 6000))
        mixed = np.abs(found.matrix.tree @ turn.T)
        assert np.allclose(np.sort(mixed.ravel()), [0, 0, 1, 1], atol=0.1), mixed
    assert not np.allclose(np.sort(np.abs(turns[0] @ turns[1].T).ravel()), [0, 0, 1, 1], atol=0.3)


@pytest.mark.parametrize("random_state", [None, -1, 0.5, "0", True])
def test_seeds_are_whole_numbers(random_state):
    x = np.random.default_rng(0).normal(size=(50, 2))
    message = f"Expected random_state to be an integer of at least 0; got {random_state!r}."
    for search in (
        lambda: choose_rotation("pca", x, random_state=random_state),
        lambda: sliced_directions(x, random_state=random_state),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            search()


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match=r"one of \('pca', 'ica', 'random', 'sliced'\); got 'foo'"):
        choose_rotation("foo", np.eye(3))  # pyright: ignore[reportArgumentType]


def test_a_second_search_does_not_compile(caplog):
    x = np.random.default_rng(5).normal(size=(300, 3))
    sliced_directions(x)
    with jax.log_compiles():
        sliced_directions(x + 1, random_state=1)
    assert not [r for r in caplog.records if "Finished XLA compilation" in r.getMessage()]
