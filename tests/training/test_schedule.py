"""Learning rates, the deal of rows into batches, and when two optimizers are the same."""

import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gauss_flows.training.epoch import deal_rows
from gauss_flows.training.schedule import learning_rates, one_cycle
from gauss_flows.training.static_optimizer import StaticOptimizer


class TestOneCycle:
    def test_rises_to_the_peak_and_falls_to_nothing(self):
        rates = one_cycle(1000, 3e-3)
        peak = rates.argmax()
        assert peak == pytest.approx(300, abs=1)
        assert rates.max() == pytest.approx(3e-3, rel=1e-4)
        assert (np.diff(rates[: peak + 1]) > 0).all()
        assert (np.diff(rates[peak:]) < 0).all()
        assert rates[0] == pytest.approx(3e-3 / 25, rel=1e-2)
        assert 0 < rates[-1] < 3e-3 * 2e-4

    def test_is_optax_s_but_for_half_a_step(self):
        ours = one_cycle(2000, 1.0)
        theirs = optax.cosine_onecycle_schedule(2000, 1.0, final_div_factor=1e4 / 25)
        np.testing.assert_allclose(ours, [theirs(step) for step in range(2000)], atol=2e-3)

    @pytest.mark.parametrize("n_steps", [1, 2, 3])
    def test_few_steps(self, n_steps):
        rates = one_cycle(n_steps, 1.0)
        assert rates.shape == (n_steps,)
        assert (rates > 0).all()
        assert rates.max() > 0.5


def test_schedules_are_evaluated_at_every_step():
    schedule = optax.exponential_decay(0.1, 10, 0.5)
    expected = [float(schedule(step)) for step in range(25)]
    np.testing.assert_allclose(learning_rates(schedule, 25), expected, rtol=1e-6)
    np.testing.assert_array_equal(learning_rates(lambda step: 0.5, 3), [0.5] * 3)


@pytest.mark.parametrize(("n_rows", "n_batches"), [(1, 1), (10, 3), (12, 4), (13, 12), (7, 7)])
def test_every_row_is_dealt_once(n_rows, n_batches):
    order = np.random.default_rng(0).permutation(n_rows)
    rows, present = deal_rows(order, n_batches)
    assert rows.shape == present.shape == (n_batches, -(-n_rows // n_batches))
    assert sorted(rows[present]) == list(range(n_rows))
    assert np.ptp(present.sum(1)) <= 1
    assert set(rows.ravel()) <= set(range(n_rows))


def _own_update(updates, state, params=None):
    return updates, state


class TestStaticOptimizer:
    @pytest.mark.parametrize(
        "make",
        [
            lambda: optax.adam(1e-3),
            lambda: optax.adamw(optax.cosine_decay_schedule(1e-3, 100), weight_decay=0.1),
            lambda: optax.chain(optax.clip_by_global_norm(1.0), optax.sgd(0.1, momentum=0.9)),
            lambda: optax.inject_hyperparams(optax.adam)(learning_rate=0.1),
            lambda: optax.scale_by_schedule(optax.piecewise_constant_schedule(1.0, {5: 0.1})),
            lambda: optax.multi_transform({"a": optax.sgd(0.1)}, {"x": "a"}),
        ],
    )
    def test_made_twice_is_equal(self, make):
        first, second = StaticOptimizer(make()), StaticOptimizer(make())
        assert first == second
        assert hash(first) == hash(second)
        assert first.describe() == second.describe()

    def test_others_differ(self):
        optimizers = [
            optax.adam(1e-3),
            optax.adam(2e-3),
            optax.adam(1e-3, b1=0.8),
            optax.adam(1e-3, nesterov=True),
            optax.adamw(1e-3),
            optax.sgd(1e-3),
            optax.sgd(1),
            optax.sgd(1.0),
            optax.sgd(jnp.array(1.0)),
            optax.adam(optax.linear_schedule(1e-3, 0, 10)),
            optax.adam(optax.linear_schedule(1e-3, 0, 11)),
            optax.chain(optax.sgd(1e-3), optax.sgd(1e-3)),
        ]
        held = [StaticOptimizer(optimizer) for optimizer in optimizers]
        assert len(set(held)) == len(held)
        assert len({one.describe() for one in held}) == len(held)

    def test_functions_of_the_user_s_own_go_by_identity(self):
        """The same code may use other globals."""
        own = [optax.GradientTransformation(optax.init_empty_state, _own_update) for _ in range(2)]
        assert StaticOptimizer(own[0]) == StaticOptimizer(own[1])
        schedules = [lambda step: 0.1 * step for _ in range(2)]
        first, second = (StaticOptimizer(optax.sgd(schedule)) for schedule in schedules)
        assert first != second
        assert first == StaticOptimizer(optax.sgd(schedules[0]))
        assert "0x" not in first.describe()

    def test_a_closure_that_holds_itself(self):
        def make():
            def update(updates, state, params=None):
                return updates, (state, update)

            update.__module__ = "optax.test"
            return optax.GradientTransformation(optax.init_empty_state, update)

        assert StaticOptimizer(make()) == StaticOptimizer(make())
