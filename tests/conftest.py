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
