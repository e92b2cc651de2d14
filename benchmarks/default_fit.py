"""Seconds that the estimators' default fit takes on 10 000 rows of 8 columns.

Compiling and every choice are included, so each fit has a process of its own; the mark is 60
seconds on two cores.

    python benchmarks/default_fit.py
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

import numpy as np

ESTIMATORS = ("Gaussianizer", "FlowDensity", "FlowOutlierDetector")
N_COLUMNS = 8


def skewed(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    """Mixed gamma variables: correlated, skewed, of one piece."""
    return rng.gamma(2.0, size=(n_rows, N_COLUMNS)) @ rng.normal(size=(N_COLUMNS, N_COLUMNS))


def clustered(rng: np.random.Generator, n_rows: int) -> np.ndarray:
    """Five clusters of one shape."""
    centres = 3 * rng.normal(size=(5, N_COLUMNS))
    shape = 0.5 * rng.normal(size=(N_COLUMNS, N_COLUMNS))
    return centres[rng.integers(5, size=n_rows)] + rng.normal(size=(n_rows, N_COLUMNS)) @ shape


TABLES = {"skewed": skewed, "clustered": clustered}


def fit_once(estimator: str, table: str, n_rows: int) -> None:
    """Fit in this process and print one row."""
    from gauss_flows import estimators

    x = TABLES[table](np.random.default_rng(0), n_rows)
    wall, processor = time.perf_counter(), time.process_time()
    fitted = getattr(estimators, estimator)().fit(x)
    wall, processor = time.perf_counter() - wall, time.process_time() - processor
    print(
        f"{estimator:20} {table:10} {wall:5.1f} s, {processor:5.1f} s of processor: "
        f"{fitted.family_}, {fitted.recipe_}",
        flush=True,
    )


def main() -> None:
    """Fit every estimator to every table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--one", nargs=2, metavar=("ESTIMATOR", "TABLE"), help="only this fit")
    options = parser.parse_args()
    if options.one:
        fit_once(*options.one, options.rows)
        return
    for table in TABLES:
        for estimator in ESTIMATORS:
            command = [sys.executable, __file__, "--rows", str(options.rows)]
            subprocess.run([*command, "--one", estimator, table], check=True)


if __name__ == "__main__":
    main()
