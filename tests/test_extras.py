"""What the package says where an extra is missing."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("missing", ["jax", "equinox", "flowjax"])
def test_without_jax_the_import_says_what_to_install(missing):
    script = f"import sys; sys.modules[{missing!r}] = None; import gauss_flows"
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last == "ImportError: gauss_flows needs JAX: pip install 'gauss-flows[jax]'"
