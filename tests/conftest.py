"""Fixtures that every room shares."""

import jax
import pytest


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
    """Let go of what a module compiled.

    A program takes several memory maps, of which Linux grants a process 65530; when thousands of
    programs have used them up, XLA's compiler crashes.
    """
    yield
    jax.clear_caches()
