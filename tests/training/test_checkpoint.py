"""A run that is broken off and taken up again ends as if it had never been."""

import os
import signal
import subprocess
import sys
import textwrap

import equinox as eqx
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest
from flowjax.bijections import AdditiveCondition, Affine, Chain
from flowjax.distributions import Transformed

from gauss_flows.training import (
    CheckpointError,
    TrainingStoppedWarning,
    checkpoint,
    fit_gaussianization_flow,
    loop,
)
from training.affine_flow import advance_by_one, affine_flow, rows, standard_normal

FILE = "checkpoint.safetensors"
OPTIONS = {"max_epochs": 12, "batch_size": 16, "show_progress": False}


class PowerCut(Exception):
    """What the trainer has no provision for."""


@pytest.fixture
def cut_after(monkeypatch):
    """Make the trainer fail after some number of epochs."""
    real = loop.run_epoch

    def cut(n_epochs, fault=PowerCut):
        calls = []

        def run_epoch(*args):
            calls.append(None)
            if len(calls) == n_epochs + 2:  # the start is evaluated too
                raise fault
            return real(*args)

        monkeypatch.setattr(loop, "run_epoch", run_epoch)

    return cut


def fit(flow=None, x=None, seed=0, **options):
    return fit_gaussianization_flow(
        jr.key(seed),
        affine_flow() if flow is None else flow,
        rows(100) if x is None else x,
        **OPTIONS | options,
    )


def same(first, second):
    assert eqx.tree_equal(first[0], second[0])  # every bit of every array
    assert first[1] == second[1]


class TestResume:
    @pytest.mark.parametrize("n_epochs", [0, 1, 7])
    @pytest.mark.parametrize("return_best", [True, False])
    def test_same_result_as_uninterrupted(
        self, tmp_path, cut_after, monkeypatch, n_epochs, return_best
    ):
        options = {"return_best": return_best, "learning_rate": 0.5}  # wide steps: ups and downs
        whole = fit(**options)
        folder = tmp_path / "made" / "by" / "it"
        with monkeypatch.context():
            cut_after(n_epochs)
            with pytest.raises(PowerCut):
                fit(checkpoint_dir=folder, checkpoint_every=2, **options)
        monkeypatch.undo()
        assert (folder / FILE).exists() == (n_epochs >= 2)
        same(whole, fit(checkpoint_dir=folder, checkpoint_every=2, **options))
        # And once more, when there is nothing left to do.
        same(whole, fit(checkpoint_dir=folder, checkpoint_every=2, **options))

    def test_with_condition_weights_and_another_optimizer(self, tmp_path, cut_after, monkeypatch):
        linear = eqx.nn.Linear(3, 2, key=jr.key(1))
        chain = Chain([Affine(jnp.zeros(2), jnp.ones(2)), AdditiveCondition(linear, (2,), (3,))])
        options = {
            "flow": Transformed(standard_normal(2), chain),
            "condition": rows(100, 3, seed=4),
            "sample_weight": np.arange(100.0),
            "optimizer": optax.chain(
                optax.add_noise(1e-2, 0.5, jr.key(7)), optax.sgd(1e-2, momentum=0.9)
            ),
            "val_prop": 0.25,
        }
        whole = fit(**options)
        cut_after(5)
        with pytest.raises(PowerCut):
            fit(checkpoint_dir=tmp_path, checkpoint_every=1, **options)
        monkeypatch.undo()
        same(whole, fit(checkpoint_dir=tmp_path, **options))

    def test_patience_is_counted_on(self, tmp_path, cut_after, monkeypatch):
        options = {"learning_rate": optax.constant_schedule(0.0), "patience": 6}
        whole = fit(**options)
        cut_after(4)
        with pytest.raises(PowerCut):
            fit(checkpoint_dir=tmp_path, checkpoint_every=1, **options)
        monkeypatch.undo()
        resumed = fit(checkpoint_dir=tmp_path, **options)
        assert len(resumed[1]["train"]) == 6
        same(whole, resumed)

    def test_after_a_keyboard_interrupt(self, tmp_path, cut_after, monkeypatch):
        whole = fit()
        cut_after(5, KeyboardInterrupt)
        with pytest.warns(TrainingStoppedWarning, match="interrupted after epoch 5"):
            _, losses = fit(checkpoint_dir=tmp_path, checkpoint_every=100)
        assert losses["train"] == whole[1]["train"][:5]
        monkeypatch.undo()
        same(whole, fit(checkpoint_dir=tmp_path))

    def test_a_run_may_be_made_longer(self, tmp_path):
        rate = {"learning_rate": optax.constant_schedule(1e-2)}
        whole = fit(**rate)
        fit(checkpoint_dir=tmp_path, **rate, max_epochs=5)
        same(whole, fit(checkpoint_dir=tmp_path, **rate))

    def test_a_stop_is_remembered(self, tmp_path):
        options = {"optimizer": optax.sgd(-1e30), "clip_norm": None, "checkpoint_dir": tmp_path}
        results = []
        for _ in range(2):
            with pytest.warns(TrainingStoppedWarning, match="epoch 1, step 2"):
                results.append(fit(**options))
        same(*results)

    def test_resume_false_starts_again(self, tmp_path):
        fit(checkpoint_dir=tmp_path, batch_size=50)
        whole = fit()
        same(whole, fit(checkpoint_dir=tmp_path, resume=False))
        same(whole, fit(checkpoint_dir=tmp_path))

    def test_killed_in_the_middle_of_a_write(self, tmp_path):
        """A process that is killed before it could rename its fourth checkpoint."""
        script = textwrap.dedent(
            f"""
            import os, signal
            from gauss_flows.training import atomic_file
            from training.test_checkpoint import fit

            calls, real = [], os.replace

            def replace(source, target):
                calls.append(None)
                if len(calls) == 4:
                    os.truncate(source, 100)
                    os.kill(os.getpid(), signal.SIGKILL)
                real(source, target)

            atomic_file.os.replace = replace
            fit(checkpoint_dir={str(tmp_path)!r}, checkpoint_every=1)
            """
        )
        path = os.pathsep.join(entry for entry in sys.path if entry)
        done = subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        names = sorted(path.name for path in tmp_path.iterdir())
        assert len(names) == 2
        assert FILE in names
        assert next(name for name in names if name != FILE).endswith(".tmp")
        same(fit(), fit(checkpoint_dir=tmp_path))


class TestRefusal:
    @pytest.mark.parametrize(
        ("changed", "named"),
        [
            ({"x": rows(100, seed=9)}, "data"),
            ({"sample_weight": np.arange(100)}, "data"),
            ({"seed": 3}, "key"),
            ({"batch_size": 20}, "batch_size"),
            ({"val_prop": 0.2}, "val_prop"),
            ({"clip_norm": 2.0}, "clip_norm"),
            ({"optimizer": optax.sgd(1e-3)}, "optimizer"),
            ({"learning_rate": 1e-3}, "learning rate"),
            ({"max_epochs": 13}, "length"),  # the default schedule spans the run
            (
                {"flow": Transformed(standard_normal(2), Affine(jnp.ones(2), jnp.ones(2)))},
                "flow",
            ),
            ({"flow": Transformed(standard_normal(2), Chain([Affine(jnp.zeros(2))]))}, "flow"),
        ],
    )
    def test_of_another_run(self, tmp_path, changed, named):
        fit(checkpoint_dir=tmp_path)
        before = (tmp_path / FILE).read_bytes()
        with pytest.raises(CheckpointError, match=f"another .*{named}.*resume=False"):
            fit(checkpoint_dir=tmp_path, **changed)
        assert (tmp_path / FILE).read_bytes() == before

    def test_a_run_cut_within_an_epoch_is_not_made_longer(self, tmp_path):
        options = {"optimizer": advance_by_one(), "checkpoint_dir": tmp_path}
        fit(max_steps=8, **options)
        with pytest.raises(CheckpointError, match="max_steps, which ended it within an epoch"):
            fit(max_steps=30, **options)

    @pytest.mark.parametrize(
        "rate", [{"learning_rate": optax.constant_schedule(1e-2)}, {"optimizer": optax.sgd(1e-3)}]
    )
    @pytest.mark.parametrize("shorter", [{"max_epochs": 5}, {"max_steps": 30}])
    def test_of_a_run_that_is_already_past_this_one(self, tmp_path, rate, shorter):
        options = {"checkpoint_dir": tmp_path, "max_epochs": 20} | rate
        fit(**options)
        n_steps = 30
        with pytest.raises(CheckpointError) as error:
            fit(**options | shorter)
        message = str(error.value)
        assert f"within this run's {n_steps} steps; it is already past them" in message
        assert (
            "at epoch 20 and step 120. Ask for more epochs or steps. Pass resume=False" in message
        )
        assert "another learning" not in message
        same(fit(**{"max_epochs": 20} | rate), fit(**options))

    def test_another_run_is_named_before_its_length(self, tmp_path):
        fit(checkpoint_dir=tmp_path)
        with pytest.raises(CheckpointError, match="written with another batch_size"):
            fit(checkpoint_dir=tmp_path, batch_size=50, max_epochs=1)

    @pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "other"])
    def test_of_a_damaged_file(self, tmp_path, damage):
        fit(checkpoint_dir=tmp_path)
        path = tmp_path / FILE
        data = bytearray(path.read_bytes())
        if damage == "flip":
            data[-5] ^= 1
        path.write_bytes(
            {"truncate": data[:-9], "flip": data, "empty": b"", "other": b"PK\x03\x04" * 99}[damage]
        )
        advice = "Pass resume=False to start again, or name another checkpoint_dir"
        with pytest.raises(CheckpointError, match=rf"(truncated|altered|not one).*{advice}"):
            fit(checkpoint_dir=tmp_path)
        fit(checkpoint_dir=tmp_path, resume=False)
        fit(checkpoint_dir=tmp_path)

    def test_of_a_folder_that_is_a_file(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(CheckpointError, match="checkpoint_dir to be a folder"):
            fit(checkpoint_dir=tmp_path / "file")

    def test_the_state_of_another_optimizer_version(self, tmp_path, monkeypatch):
        """Same name, other arrays: what a new release of optax may bring."""
        fit(checkpoint_dir=tmp_path)
        real = checkpoint._named_arrays
        monkeypatch.setattr(
            checkpoint, "_named_arrays", lambda p: {**real(p), "999999": np.zeros(1)}
        )
        with pytest.raises(CheckpointError, match="this flow's arrays"):
            fit(checkpoint_dir=tmp_path)
