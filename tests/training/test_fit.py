"""Training: what it converges to, what it counts, when it stops and what it then returns."""

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
from flowjax.bijections import AbstractBijection, AdditiveCondition, Affine
from flowjax.distributions import Normal, Transformed, Uniform

import gauss_flows as gf
from gauss_flows.training import TrainingStoppedWarning, fit_gaussianization_flow, loop

QUIET = {"show_progress": False}


def standard_normal(n_dims):
    return paramax.non_trainable(Normal(jnp.zeros(n_dims), jnp.ones(n_dims)))


def affine_flow(n_dims=2):
    """Its maximum likelihood is the rows' mean and standard deviation."""
    return Transformed(standard_normal(n_dims), Affine(jnp.zeros(n_dims), jnp.ones(n_dims)))


def rows(n, n_dims=2, seed=0):
    scales = 1.0 + np.arange(n_dims)
    return np.random.default_rng(seed).normal(size=(n, n_dims)) * scales + 3.0


def mean_and_std(flow):
    bijection = paramax.unwrap(flow).bijection
    return np.asarray(bijection.loc), np.asarray(bijection.scale)


def advance_by_one():
    """An optimizer that adds 1 to every parameter, and so counts its steps."""
    return optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda updates, state, params=None: (jax.tree.map(jnp.ones_like, updates), state),
    )


class TestOptimum:
    def test_reaches_the_maximum_likelihood(self, precision):
        x = rows(200)
        flow, losses = fit_gaussianization_flow(
            jr.key(0), affine_flow(), x, learning_rate=0.1, max_epochs=600, val_prop=0, **QUIET
        )
        mean, std = mean_and_std(flow)
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
        mean, std = mean_and_std(flow)
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
            patience=math.inf,
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
            patience=math.inf,
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
            old, new = (eqx.filter(f.bijection, eqx.is_inexact_array) for f in (affine_flow(), flow))
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


class TestStopping:
    def test_patience(self):
        _, losses = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            rows(100),
            learning_rate=optax.constant_schedule(0.0),
            max_epochs=50,
            patience=4,
            **QUIET,
        )
        assert len(losses["train"]) == len(losses["val"]) == 4
        assert "stopped" not in losses

    @pytest.mark.parametrize("val_prop", [0, 0.2])
    def test_the_best_flow_is_never_worse_than_the_start(self, val_prop):
        options = {
            "optimizer": advance_by_one(),
            "max_epochs": 5,
            "val_prop": val_prop,
            "show_progress": False,
        }
        x = rows(100) * 0.01
        best, _ = fit_gaussianization_flow(jr.key(0), affine_flow(), x, **options)
        last, _ = fit_gaussianization_flow(
            jr.key(0), affine_flow(), x, return_best=False, **options
        )
        assert eqx.tree_equal(best, affine_flow())
        assert last.log_prob(x).mean() < best.log_prob(x).mean()

    def test_best_epoch_by_validation(self):
        """The optimizer walks past the optimum; the flow returned is where it was nearest."""
        x = np.random.default_rng(0).normal(size=(1000, 1)) * 5.0 + 5.0
        flow, losses = fit_gaussianization_flow(
            jr.key(0),
            Transformed(standard_normal(1), Affine(jnp.zeros(1), jnp.ones(1))),
            x,
            optimizer=advance_by_one(),
            max_steps=20,
            batch_size=1000,
            patience=math.inf,
            **QUIET,
        )
        assert flow.bijection.loc[0] == 1 + int(np.argmin(losses["val"]))
        assert 0 < np.argmin(losses["val"]) < 19

    def test_a_loss_that_overflows_names_its_step(self):
        with pytest.warns(TrainingStoppedWarning, match=r"loss was (inf|nan) at epoch 1, step 2 "):
            flow, losses = fit_gaussianization_flow(
                jr.key(0),
                affine_flow(),
                rows(100),
                optimizer=optax.sgd(1e30),
                clip_norm=None,
                batch_size=10,
                max_epochs=5,
                **QUIET,
            )
        assert "(step 2 of the run)" in losses["stopped"]
        assert losses["train"] == losses["val"] == []
        assert eqx.tree_equal(flow, affine_flow())

    @pytest.mark.parametrize("return_best", [True, False])
    def test_a_later_fault_keeps_the_epochs_before(self, return_best):
        flow = Transformed(standard_normal(1), _ShiftUpTo(jnp.zeros(1), limit=7.5))
        with pytest.warns(TrainingStoppedWarning, match=r"nan at epoch 3, step 1 \(step 9 "):
            flow, losses = fit_gaussianization_flow(
                jr.key(0),
                flow,
                rows(40, 1) + 100,
                optimizer=advance_by_one(),
                batch_size=10,
                val_prop=0,
                patience=math.inf,
                max_epochs=5,
                return_best=return_best,
                **QUIET,
            )
        assert len(losses["train"]) == 1 + return_best - return_best  # the first epoch's
        assert float(flow.bijection.shift[0]) == 4

    def test_a_gradient_that_is_not_finite(self):
        flow = Transformed(standard_normal(1), _RootShift(jnp.zeros(1)))
        with pytest.warns(TrainingStoppedWarning, match=r"gradient was not finite \(at loss"):
            _, losses = fit_gaussianization_flow(
                jr.key(0), flow, rows(20, 1), max_epochs=5, val_prop=0, **QUIET
            )
        assert "epoch 1, step 1" in losses["stopped"]

    def test_validation_loss_that_is_not_finite(self):
        """A row outside the support, among the training rows or held out, is found."""
        flow = Transformed(Uniform(jnp.zeros(1), jnp.ones(1)), Affine(jnp.zeros(1), jnp.ones(1)))
        x = np.full((10, 1), 0.5)
        x[3] = 7.0
        with pytest.warns(TrainingStoppedWarning, match="training rows was inf before the first"):
            returned, losses = fit_gaussianization_flow(jr.key(0), flow, x, val_prop=0, **QUIET)
        assert eqx.tree_equal(returned, flow)
        assert losses["train"] == []

    def test_keyboard_interrupt_returns_the_best_so_far(self, monkeypatch):
        calls, real = [], loop.run_epoch

        def interrupted(*args):
            calls.append(None)
            if len(calls) == 5:  # the start and three epochs have been run
                raise KeyboardInterrupt
            return real(*args)

        monkeypatch.setattr(loop, "run_epoch", interrupted)
        with pytest.warns(TrainingStoppedWarning, match="interrupted after epoch 3"):
            flow, losses = fit_gaussianization_flow(
                jr.key(0), affine_flow(), rows(100), max_epochs=10, **QUIET
            )
        assert len(losses["train"]) == 3
        assert losses["stopped"] == "interrupted after epoch 3."
        assert flow.log_prob(rows(100)).mean() > affine_flow().log_prob(rows(100)).mean()


class TestRepeats:
    def test_same_key_same_result_other_key_another(self):
        fits = [
            fit_gaussianization_flow(
                jr.key(seed), affine_flow(), rows(100), max_epochs=3, batch_size=10, **QUIET
            )
            for seed in (0, 0, 1)
        ]
        assert eqx.tree_equal(*fits[:2])
        assert fits[0][1] != fits[2][1]

    def test_a_second_fit_does_not_compile(self):
        """New key, data, rate, clip and optimizer object; same shapes."""
        compiled = []

        def listen(name, *args, **kwargs):
            if "backend_compile" in name:
                compiled.append(name)

        def fit(seed, **options):
            fit_gaussianization_flow(
                jr.key(seed),
                gf.gaussianization_flow(jr.key(seed), n_dims=2, n_layers=2, n_components=3),
                rows(100, seed=seed),
                max_epochs=2,
                batch_size=30,
                **options,
                **QUIET,
            )

        jax.monitoring.register_event_duration_secs_listener(listen)
        fit(0, learning_rate=1e-3, clip_norm=1.0)
        fit(0, optimizer=optax.adamw(1e-3, weight_decay=0.1))
        gf.gaussianization_flow(jr.key(3), n_dims=2, n_layers=2, n_components=3)
        assert compiled
        compiled.clear()
        fit(1, learning_rate=2e-3, clip_norm=5.0)
        fit(2, learning_rate=optax.linear_schedule(1e-3, 0.0, 7))
        fit(3, optimizer=optax.adamw(1e-3, weight_decay=0.1))
        schedules = [name for name in compiled if name]
        assert len(schedules) <= 3, compiled  # the new schedule itself, evaluated

    def test_progress_bar_shows_both_losses(self, capsys):
        fit_gaussianization_flow(jr.key(0), affine_flow(), rows(100), max_epochs=3)
        shown = capsys.readouterr().err
        assert "train" in shown
        assert "val" in shown
        assert "nats" in shown
        fit_gaussianization_flow(jr.key(0), affine_flow(), rows(100), max_epochs=3, **QUIET)
        assert capsys.readouterr().err == ""

    def test_no_warning_of_its_own(self):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            fit_gaussianization_flow(
                jr.key(0), affine_flow(), rows(20, seed=3), max_epochs=2, **QUIET
            )


class _ShiftUpTo(AbstractBijection):
    """A shift whose density is NaN once the shift has passed a limit."""

    shift: jax.Array
    limit: float = eqx.field(static=True)
    shape: tuple[int, ...] = (1,)
    cond_shape: None = None

    def transform_and_log_det(self, x, condition=None):
        return x + self._shift(), jnp.zeros(())

    def inverse_and_log_det(self, y, condition=None):
        return y - self._shift(), jnp.zeros(())

    def _shift(self):
        return jnp.where(self.shift > self.limit, jnp.nan, self.shift)


class _RootShift(AbstractBijection):
    """A shift by a root, whose slope at zero is infinite though the loss is finite."""

    square: jax.Array
    shape: tuple[int, ...] = (1,)
    cond_shape: None = None

    def transform_and_log_det(self, x, condition=None):
        return x + jnp.sqrt(self.square), jnp.zeros(())

    def inverse_and_log_det(self, y, condition=None):
        return y - jnp.sqrt(self.square), jnp.zeros(())
