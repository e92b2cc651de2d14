"""Time of `fit_rbig` against scikit-learn's part of the same work.

A public RBIG fits one `GaussianMixture` to each coordinate of each layer. The time of one such fit
on these rows is measured here, on some coordinates of a layer's rows and at scikit-learn's
defaults, and multiplied by layers and dimensions; rotating and transforming the rows, which
`fit_rbig` does as well, would come on top. Ours is the median of whole calls after one that
compiles.

    OMP_NUM_THREADS=1 python benchmarks/rbig_speed.py
    OMP_NUM_THREADS=1 JAX_ENABLE_X64=1 python benchmarks/rbig_speed.py
"""

import argparse
import statistics
import time
import warnings

import jax
import numpy as np
from sklearn.mixture import GaussianMixture

from gauss_flows.rbig import fit_rbig


def correlated_rows(n_rows, n_dims):
    """Rows with skewed marginals and dependence between all of them."""
    rng = np.random.default_rng(0)
    mixing = np.eye(n_dims) + 0.3 * rng.normal(size=(n_dims, n_dims)) / np.sqrt(n_dims)
    x = rng.gamma(2.0, size=(n_rows, n_dims)) @ mixing.T
    return x + 0.3 * np.roll(x, 1, axis=1) ** 2


def seconds_of(run):
    """Time of one call."""
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def main():
    """Print one line for each number of dimensions."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    print(
        f"{options.rows} rows, {options.layers} layers, K = {options.components}, {dtype}; "
        f"medians of {options.repeats}"
    )
    for n_dims in (2, 16, 64):
        x = correlated_rows(options.rows, n_dims)
        settings = {"n_layers": options.layers, "n_components": options.components}
        first = seconds_of(lambda x=x, settings=settings: fit_rbig(x, **settings))
        layer = [fit_rbig(x, n_layers=1).bijection.bijection.bijections[0].matrix.tree]
        turned = x @ np.asarray(layer[0], np.float64).T
        ours, one_fit = [], []
        for repeat in range(options.repeats):  # in turn, so that both see the same machine
            ours.append(seconds_of(lambda x=x, settings=settings: fit_rbig(x, **settings)))
            column = turned[:, [repeat % n_dims]]
            one_fit.append(
                seconds_of(
                    lambda column=column: GaussianMixture(options.components, random_state=0).fit(
                        column
                    )
                )
            )
        ours, one_fit = statistics.median(ours), statistics.median(one_fit)
        theirs = one_fit * options.layers * n_dims
        print(
            f"  d = {n_dims:2d}: fit_rbig {ours:7.3f} s (first call {first:.1f} s), scikit-learn's "
            f"part {theirs:7.2f} s ({one_fit:.3f} s a fit), {theirs / ours:.0f} times"
        )


if __name__ == "__main__":
    main()
