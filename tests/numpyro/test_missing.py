"""What the package says where NumPyro is missing, and what it does not import."""

import subprocess
import sys


def run(script):
    return subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )


def test_without_numpyro_the_import_says_what_to_install():
    result = run("import sys; sys.modules['numpyro'] = None; import gauss_flows.numpyro")
    assert result.returncode != 0
    assert result.stderr.strip().splitlines()[-1] == (
        "ImportError: gauss_flows.numpyro needs NumPyro: pip install 'gauss-flows[numpyro]'"
    )


def test_the_rest_of_the_package_does_not_load_numpyro():
    result = run("import sys, gauss_flows; assert 'numpyro' not in sys.modules")
    assert result.returncode == 0, result.stderr
