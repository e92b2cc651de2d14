"""Which rows are fitted and which held out: what is said of it is what is done."""

import warnings

import jax.random as jr
import numpy as np
import pytest

from gauss_flows.training import fit_gaussianization_flow, loop, split_rows
from training.affine_flow import QUIET, affine_flow, rows


def losses_of_the_start(x, key, **options):
    """The losses of one epoch in which nothing moves."""
    _, losses = fit_gaussianization_flow(
        key, affine_flow(), x, learning_rate=lambda step: 0.0, max_epochs=1, **options, **QUIET
    )
    return losses["train"][0], losses["val"][0]


def mean_loss(x, weight=None):
    return -np.average(affine_flow().log_prob(x), weights=weight)


class TestSplitRows:
    @pytest.mark.parametrize(
        ("n_rows", "val_prop", "n_held_out"),
        [(10, 0.0, 0), (10, 0.1, 1), (10, 0.15, 2), (5, 0.1, 0), (1, 0.9, 0), (100, 0.999, 99)],
    )
    def test_every_row_is_in_one_part(self, n_rows, val_prop, n_held_out):
        fitted, held_out = split_rows(jr.key(3), n_rows, val_prop)
        assert len(held_out) == n_held_out
        assert sorted([*fitted, *held_out]) == list(range(n_rows))

    @pytest.mark.parametrize("seed", [0, 1])
    def test_they_are_the_trainer_s(self, seed):
        x, key = rows(137), jr.key(seed)
        fitted, held_out = split_rows(key, 137, 0.2)
        train, val = losses_of_the_start(x, key, val_prop=0.2)
        assert train == pytest.approx(mean_loss(x[fitted]), rel=1e-5)
        assert val == pytest.approx(mean_loss(x[held_out]), rel=1e-5)
        assert abs(mean_loss(x[held_out]) - mean_loss(x)) > 1e-3 * abs(val)

    def test_another_key_another_split_in_either_style(self):
        first, second = (split_rows(jr.key(seed), 100, 0.3)[1] for seed in (0, 1))
        assert set(first) != set(second)
        assert np.array_equal(first, split_rows(jr.PRNGKey(0), 100, 0.3)[1])

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((0, 10, 0.1), "Expected a jax random key; got 0"),
            ((jr.key(0), 0, 0.1), "Expected n_rows to be at least 1; got 0"),
            ((jr.key(0), 10, 1.0), r"Expected val_prop in \[0, 1\); got 1.0"),
        ],
    )
    def test_faults_are_named(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            split_rows(*arguments)


def test_the_loss_of_held_out_rows_is_weighted():
    x, key = rows(90), jr.key(2)
    weight = np.random.default_rng(3).exponential(size=90)
    _, held_out = split_rows(key, 90, 0.3)
    _, val = losses_of_the_start(x, key, val_prop=0.3, sample_weight=weight)
    assert val == pytest.approx(mean_loss(x[held_out], weight[held_out]), rel=1e-5)
    assert abs(mean_loss(x[held_out]) - val) > 1e-3 * abs(val)


def test_rows_without_weight_are_left_out_before_the_split():
    x, key = rows(50), jr.key(4)
    weight = np.where(np.arange(50) % 5 == 0, 0.0, 1.0)
    _, held_out = split_rows(key, 40, 0.25)
    _, val = losses_of_the_start(x, key, val_prop=0.25, sample_weight=weight)
    assert val == pytest.approx(mean_loss(x[weight > 0][held_out]), rel=1e-5)


class TestShareThatComesToNoRow:
    @pytest.mark.parametrize(("n_rows", "words"), [(1, "1 row "), (5, "5 rows ")])
    def test_is_told_once(self, n_rows, words):
        with pytest.warns(UserWarning, match="val_prop") as caught:
            fit_gaussianization_flow(jr.key(0), affine_flow(), rows(n_rows), max_epochs=3, **QUIET)
        messages = [str(one.message) for one in caught if "val_prop" in str(one.message)]
        assert len(messages) == 1
        assert messages[0].startswith(f"val_prop=0.1 is too small for {words}and holds none out")
        assert "the training rows choose the best epoch" in messages[0]
        assert "\n" not in messages[0]

    @pytest.mark.parametrize(("n_rows", "val_prop"), [(5, 0), (5, 0.0), (5, 0.2), (6, 0.1)])
    def test_nothing_is_said_where_none_is_asked_for_or_one_is_held_out(self, n_rows, val_prop):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit_gaussianization_flow(
                jr.key(0), affine_flow(), rows(n_rows), max_epochs=2, val_prop=val_prop, **QUIET
            )


def test_every_epoch_shuffles_anew(monkeypatch):
    deals, real = [], loop.run_epoch

    def run_epoch(*args):
        deals.append(np.asarray(args[4].rows))
        return real(*args)

    monkeypatch.setattr(loop, "run_epoch", run_epoch)
    fit_gaussianization_flow(
        jr.key(0), affine_flow(), rows(40), max_epochs=4, batch_size=10, val_prop=0, **QUIET
    )
    epochs = deals[1:]  # the start is evaluated first
    assert len(epochs) == 4
    for i, deal in enumerate(epochs):
        assert sorted(deal.ravel()) == list(range(40))
        assert not any(np.array_equal(deal, other) for other in epochs[:i])
