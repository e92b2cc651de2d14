"""Ctrl-C: exit code 130, and whatever was there before the command is there after it."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest

from gauss_flows.cli import interrupt, main
from gauss_flows.training import loop

SECONDS = 90  # a bound, on a busy machine too, and no expectation
PROGRAM = """
import sys, time
from gauss_flows.cli import main, tables
{definitions}
tables.read_table = work
sys.argv = ["gauss-flows", "fit", "t.csv", "--output", "flow.gf"]
sys.exit(main())
"""
# What main() runs instead of reading the table.
XLA_RUNNING = """
import jax, jax.numpy as jnp
def work(*_, **__):
    endless = jax.jit(lambda x: jax.lax.fori_loop(0, 10**9, lambda _, y: jnp.sin(y) @ y, x))
    running = endless(jnp.eye(64))
    print("ready", flush=True)
    time.sleep(300)
"""
INTERRUPT_LOST = """
def work(*_, **__):
    try:
        print("ready", flush=True)
        time.sleep(300)
    except KeyboardInterrupt:
        pass  # as in a callback of the garbage collector
    time.sleep(300)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
@pytest.mark.parametrize("definitions", [XLA_RUNNING, INTERRUPT_LOST], ids=["XLA", "lost"])
def test_interrupted_process_ends_with_130(tmp_path, interruptible, definitions):
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM.format(definitions=definitions)],
        cwd=tmp_path,
        env={**os.environ, "JAX_PLATFORMS": "cpu"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout.readline() == "ready\n"
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=SECONDS)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "gauss-flows: interrupted\n")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX's")
def test_process_that_ignores_interrupts_goes_on(tmp_path):
    """As `nohup` and a shell's background jobs have it."""
    definitions = """
import os, signal
def work(*_, **__):
    os.kill(os.getpid(), signal.SIGINT)
    sys.exit(7)
signal.signal(signal.SIGINT, signal.SIG_IGN)
"""
    program = [sys.executable, "-c", PROGRAM.format(definitions=definitions)]
    assert subprocess.run(program, cwd=tmp_path, timeout=SECONDS).returncode == 7


def test_interrupt_during_training(tmp_path, capsys, monkeypatch):
    """The trainer itself hands back the flow as far as it came, which must not be saved."""
    np.save(tmp_path / "t.npy", np.random.default_rng(0).normal(size=(60, 1)))
    arguments = ["fit", tmp_path / "t.npy", "--output", tmp_path / "flow.gf"]
    arguments += ["--n-layers", 1, "--n-components", 1, "--max-epochs"]
    assert main([str(one) for one in (*arguments, 0, "--family", "rbig")]) == 0
    before = (tmp_path / "flow.gf").read_bytes()
    capsys.readouterr()

    def press(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(loop, "_advance", press)
    assert main([str(one) for one in (*arguments, 2, "--family", "diagonal")]) == 130
    assert capsys.readouterr().err.endswith("gauss-flows: interrupted\n")
    assert (tmp_path / "flow.gf").read_bytes() == before
    # One that was lost on the way, just before the end, counts too.
    lost = threading.Event()
    lost.set()
    monkeypatch.setattr(interrupt, "_arrived", lost)
    assert main([str(one) for one in (*arguments, 0, "--family", "rbig", "--seed", 1)]) == 130
    assert (tmp_path / "flow.gf").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["flow.gf", "t.npy"]
