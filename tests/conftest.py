"""What every room shares: fixtures, and programs that are compiled once."""

import os
import signal
from pathlib import Path

import jax
import pytest

# A Linux process may have 65530 memory maps, of which one module takes its own share.
MANY_MEMORY_MAPS = 10_000


def pytest_configure(config):
    """Keep what JAX compiles: for the processes beside this one, those it starts, and later runs.

    JAX finds a program again by all that it computes, its own version and the processor, so that a
    test sees the same program. A directory named in JAX_COMPILATION_CACHE_DIR is used instead.
    """
    cache = getattr(config, "cache", None)
    if cache is None or "JAX_COMPILATION_CACHE_DIR" in os.environ:
        return
    settings = {
        "jax_compilation_cache_dir": str(cache.mkdir("compiled_programs")),
        "jax_persistent_cache_min_compile_time_secs": 0,
        "jax_persistent_cache_min_entry_size_bytes": -1,
    }
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture
def interruptible():
    """Hear interrupts, and have what is started hear them.

    Shells start what runs in the background, these tests perhaps, with interrupts ignored.
    """
    former = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, former)


@pytest.fixture
def x64():
    """Run one test in 64-bit mode without changing the process."""
    with jax.enable_x64(True):
        yield


@pytest.fixture(params=["float32", "float64"])
def precision(request):
    """Run a test once in each precision; the value is the dtype's name."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


@pytest.fixture(scope="module", autouse=True)
def _forget_compiled_programs():
    """Let go of what was compiled before there is too much of it.

    A program takes several memory maps, of which Linux grants a process 65530; when thousands of
    programs have used them up, XLA's compiler crashes.
    """
    yield
    if _memory_maps() > MANY_MEMORY_MAPS:
        jax.clear_caches()


def _memory_maps() -> int:
    try:
        return Path("/proc/self/maps").read_bytes().count(b"\n")
    except OSError:  # a system that does not tell
        return MANY_MEMORY_MAPS + 1
