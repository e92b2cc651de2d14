"""When training stops, what it then returns, and that it repeats itself."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flowjax.bijections import AbstractBijection, Affine
from flowjax.distributions import Transformed, Uniform

import gauss_flows as gf
from gauss_flows.training import TrainingStoppedWarning, fit_gaussianization_flow, loop
from training.affine_flow import QUIET, advance_by_one, affine_flow, rows, standard_normal


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

    def test_without_patience_every_epoch_is_run(self):
        _, losses = fit_gaussianization_flow(
            jr.key(0),
            affine_flow(),
            rows(100),
            learning_rate=optax.constant_schedule(0.0),
            max_epochs=50,
            **QUIET,
        )
        assert len(losses["train"]) == 50

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
                optimizer=optax.sgd(-1e30),
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
        flow = Transformed(standard_normal(1), _ShiftUpTo(jnp.zeros(1), limit=9.5))
        expected = r"loss was inf at epoch 3, step 3 \(step 11 of the run\)"
        with pytest.warns(TrainingStoppedWarning, match=expected):
            flow, losses = fit_gaussianization_flow(
                jr.key(0),
                flow,
                rows(40, 1) + 100,
                optimizer=advance_by_one(),
                batch_size=10,
                val_prop=0,
                max_epochs=5,
                return_best=return_best,
                **QUIET,
            )
        assert len(losses["train"]) == 2
        assert float(flow.bijection.shift[0]) == 8

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
                compiled.append(kwargs)

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
        try:
            schedules = [optax.linear_schedule(rate, 0.0, 7) for rate in (1e-3, 2e-3)]
            fit(0, learning_rate=1e-3, clip_norm=1.0)
            fit(0, optimizer=optax.adamw(1e-3, weight_decay=0.1))
            fit(0, learning_rate=schedules[0])
            assert compiled
            compiled.clear()
            fit(1, learning_rate=2e-3, clip_norm=None)
            fit(2, optimizer=optax.adamw(1e-3, weight_decay=0.1))
            fit(3, learning_rate=schedules[1])
            assert not compiled
        finally:
            jax.monitoring.unregister_event_duration_listener(listen)

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
