"""Training: what it converges to, and what it counts."""

import math
import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import paramax
import pytest
from flowjax.bijections import AdditiveCondition
from flowjax.distributions import Transformed

import gauss_flows as gf
from gauss_flows.training import fit_gaussianization_flow
from training.affine_flow import QUIET, advance_by_one, affine_flow, rows, standard_normal


def _mean_and_std(flow):
    bijection = paramax.unwrap(flow).bijection
    return np.asarray(bijection.loc), np.asarray(bijection.scale)


class TestOptimum:
    def test_reaches_the_maximum_likelihood(self, precision):
        x = rows(200)
        flow, losses = fit_gaussianization_flow(
            jr.key(0), affine_flow(), x, learning_rate=0.1, max_epochs=600, val_prop=0, **QUIET
        )
        mean, std = _mean_and_std(flow)
        assert mean.dtype == precision
        np.testing.assert_allclose(mean, x.mean(0), rtol=1e-4)
        np.testing.assert_allclose(std, x.std(0), rtol=1e-4)
        entropy = np.log(x.std(0)).sum() + math.log(2 * math.pi * math.e)
        assert losses["train"][-1] == pytest.approx(entropy, abs=1e-5)

    def test_weights_and_rows_of_zero_weight(self):
        x, weight = rows(100), np.random.default_rng(1).uniform(size=100)
        weight[::7] = 0
        x[0] = 1e6  # does not count
        flow, _ = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            x,
            sample_weight=weight,
            learning_rate=0.1,
            max_epochs=600,
            val_prop=0,
            **QUIET,
        )
        mean, std = _mean_and_std(flow)
        expected = np.average(x, axis=0, weights=weight)
        spread = np.sqrt(np.average((x - expected) ** 2, axis=0, weights=weight))
        np.testing.assert_allclose(mean, expected, rtol=1e-3)
        np.testing.assert_allclose(std, spread, rtol=1e-3)

    def test_condition(self):
        """x = A c + noise: the fitted matrix is the least-squares one."""
        rng = np.random.default_rng(0)
        condition = rng.normal(size=(300, 2))
        x = condition @ rng.normal(size=(2, 3)) + 0.1 * rng.normal(size=(300, 3))
        linear = eqx.nn.Linear(2, 3, use_bias=False, key=jr.key(0))
        flow = Transformed(standard_normal(3), AdditiveCondition(linear, (3,), (2,)))
        flow, _ = fit_gaussianization_flow(
            jr.key(0),
            flow,
            x,
            condition=condition,
            learning_rate=0.1,
            max_epochs=500,
            val_prop=0,
            **QUIET,
        )
        expected = np.linalg.lstsq(condition, x, rcond=None)[0].T
        np.testing.assert_allclose(flow.bijection.module.weight, expected, atol=1e-3)

    def test_leaves_what_is_not_trainable(self):
        flow, _ = fit_gaussianization_flow(
            jr.key(0), affine_flow(), rows(50), max_epochs=3, **QUIET
        )
        assert eqx.tree_equal(flow.base_dist, affine_flow().base_dist)

    @pytest.mark.parametrize("n_rows", [1, 2, 5, 17])
    def test_few_rows(self, n_rows):
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "val_prop=0.1 is too small")
            flow, losses = fit_gaussianization_flow(
                jr.key(0), affine_flow(), rows(n_rows), max_epochs=20, **QUIET
            )
        assert np.isfinite(losses["train"]).all()
        assert len(losses["val"]) == (20 if n_rows == 17 else 0)
        assert jnp.isfinite(flow.log_prob(rows(n_rows))).all()

    @pytest.mark.parametrize("make", [gf.gaussianization_flow, gf.affine_coupling_flow])
    def test_our_flows_improve(self, make):
        x = rows(400)
        x = (x - x.mean(0)) / x.std(0)
        x[:, 1] += x[:, 0] ** 2
        start = make(jr.key(0), n_dims=2, n_layers=2)
        flow, losses = fit_gaussianization_flow(jr.key(1), start, x, max_epochs=60, **QUIET)
        assert flow.log_prob(x).mean() > start.log_prob(x).mean() + 0.2
        assert min(losses["val"]) < losses["val"][0]


class TestEpoch:
    @pytest.mark.parametrize("batch_size", [1, 100, 512, 5000])
    def test_every_row_counts_once(self, batch_size):
        """At a rate of zero the mean over the batches is the mean over the rows."""
        x = rows(137)
        weight = np.random.default_rng(2).uniform(size=137)
        _, losses = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            x,
            sample_weight=weight,
            learning_rate=lambda step: 0.0,
            batch_size=batch_size,
            max_epochs=1,
            val_prop=0,
            **QUIET,
        )
        expected = -np.average(affine_flow().log_prob(x), weights=weight)
        assert losses["train"][0] == pytest.approx(expected, rel=1e-5)

    def test_validation_is_the_loss_of_the_held_out_rows(self):
        """Training and validation loss together make up the loss of all rows."""
        x = rows(1000)
        _, losses = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            x,
            learning_rate=lambda step: 0.0,
            batch_size=64,
            max_epochs=1,
            val_prop=0.3,
            **QUIET,
        )
        total = 0.7 * losses["train"][0] + 0.3 * losses["val"][0]
        assert total == pytest.approx(-float(affine_flow().log_prob(x).mean()), rel=1e-5)
        assert losses["train"][0] != losses["val"][0]

    @pytest.mark.parametrize(
        ("options", "n_steps"),
        [
            ({"max_epochs": 3}, 3 * 4),
            ({"max_steps": 7}, 7),
            ({"max_steps": 7, "max_epochs": 1}, 4),
            ({"max_steps": 3}, 3),
        ],
    )
    def test_number_of_steps(self, options, n_steps):
        flow, losses = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            rows(100),
            optimizer=advance_by_one(),
            batch_size=25,
            val_prop=0,
            return_best=False,
            **options,
            **QUIET,
        )
        np.testing.assert_array_equal(flow.bijection.loc, n_steps)
        assert len(losses["train"]) == math.ceil(n_steps / 4)

    def test_default_length_is_enough_steps_for_a_small_table(self):
        flow, _ = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            rows(60),
            optimizer=advance_by_one(),
            return_best=False,
            **QUIET,
        )
        np.testing.assert_array_equal(flow.bijection.loc, 2000)

    def test_clip_norm(self):
        """One step of plain descent is as long as the clipped gradient."""
        for clip_norm, expected in [(0.25, 0.25), (None, None)]:
            flow, _ = fit_gaussianization_flow(
                jr.key(0),
                affine_flow(),
                rows(50) * 100,
                optimizer=optax.sgd(1.0),
                clip_norm=clip_norm,
                max_steps=1,
                val_prop=0,
                return_best=False,
                **QUIET,
            )
            old, new = (
                eqx.filter(f.bijection, eqx.is_inexact_array) for f in (affine_flow(), flow)
            )
            length = optax.tree.norm(jax.tree.map(jnp.subtract, new, old))
            if expected is None:
                assert length > 100
            else:
                assert length == pytest.approx(expected, rel=1e-4)

    def test_a_gradient_near_overflow_is_clipped_and_not_lost(self):
        """The squares of such a gradient overflow in float32; its norm does not."""
        x = np.full((20, 2), 1e11)  # squared in the loss, cubed for the scale
        flow, losses = fit_gaussianization_flow(
            jr.key(0), affine_flow(), x, max_epochs=2, val_prop=0, **QUIET
        )
        assert "stopped" not in losses
        assert jnp.isfinite(flow.bijection.loc).all()

    def test_optimizer_that_promotes_or_keeps_odd_state(self):
        noisy = optax.chain(optax.add_noise(1e-3, 0.5, jr.key(3)), optax.adam(1e-2))
        plateau = optax.chain(optax.adam(1e-2), optax.contrib.reduce_on_plateau())
        for optimizer in (noisy, plateau):
            _, losses = fit_gaussianization_flow(
                jr.key(0), affine_flow(), rows(40), optimizer=optimizer, max_epochs=30, **QUIET
            )
            assert losses["val"][-1] < losses["val"][0]
