"""Masses of dependent discrete columns, which Gaussians blur, beside the truth.

Truth values that are copies of a fair coin, each flipped in some of the rows, as one table without
support= or names: the probability that all are true, and that none of the others disagrees.

    OMP_NUM_THREADS=1 python benchmarks/discrete.py
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import pandas as pd

from gauss_flows.estimators import FlowDensity

N_ROWS, FLIPPED = 1_000, 0.05


def table(n_columns: int, seed: int) -> pd.DataFrame:
    """Columns that agree with a coin but for a share of the rows."""
    rng = np.random.default_rng(seed)
    coin = rng.random((N_ROWS, 1)) < 0.5
    flipped = rng.random((N_ROWS, n_columns)) < FLIPPED
    return pd.DataFrame(coin ^ flipped, columns=[f"c{j}" for j in range(n_columns)])


def main() -> None:
    """Fit tables of more and more columns."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--columns", type=int, nargs="+", default=[2, 3, 4, 6])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="two columns, two seeds")
    options = parser.parse_args()
    if options.quick:
        options.columns, options.seeds = [2], 2
    for n_columns in options.columns:
        truth = 0.5 * ((1 - FLIPPED) ** n_columns + FLIPPED**n_columns)
        all_true = pd.DataFrame([[True] * n_columns], columns=[f"c{j}" for j in range(n_columns)])
        start, found = time.perf_counter(), []
        for seed in range(options.seeds):
            density = FlowDensity().fit(table(n_columns, seed))
            found.append(np.exp(density.score_samples(all_true)[0]))
        print(
            f"{n_columns} columns: all true {truth:.3f}, found {np.mean(found):.3f} ± "
            f"{np.std(found, ddof=1) / np.sqrt(len(found)):.3f}, "
            f"{(time.perf_counter() - start) / options.seeds:.1f} s a fit",
            flush=True,
        )


if __name__ == "__main__":
    main()
