"""Time and likelihood of the marginal fits against a scikit-learn `GaussianMixture` per column.

Prints, for 10 000 x 16 and 1 000 000 x 4 values, the median time of each (ours after one call
that compiles), their ratio, and by how many nats ours fits each column better, both evaluated on
the raw rows. The columns are listed beside the figures; scikit-learn runs at its defaults.

    OMP_NUM_THREADS=1 python benchmarks/marginal_fits.py
    OMP_NUM_THREADS=1 JAX_ENABLE_X64=1 python benchmarks/marginal_fits.py
    OMP_NUM_THREADS=1 python benchmarks/marginal_fits.py --small    # 10 000 x 16 only
"""

import argparse
import statistics
import time
import warnings

import jax
import numpy as np
from sklearn.mixture import GaussianMixture

from gauss_flows.rbig import MixtureFit, fit_mixtures


def _pick(rng, n, share, first, second):
    return np.where(rng.random(n) < share, first, second)


SHAPES = {
    "student t4": lambda rng, n: rng.standard_t(4, size=n),
    "gamma 2": lambda rng, n: rng.gamma(2.0, size=n),
    "sharp mode": lambda rng, n: _pick(rng, n, 0.3, rng.normal(-2, 0.05, n), rng.normal(1, 0.7, n)),
    "gap of 100": lambda rng, n: _pick(rng, n, 0.5, rng.normal(-50, 1, n), rng.normal(50, 1, n)),
    "uniform": lambda rng, n: rng.uniform(-1, 1, n),
    "normal": lambda rng, n: rng.normal(size=n),
    "lognormal": lambda rng, n: rng.lognormal(size=n),
    "laplace": lambda rng, n: rng.laplace(size=n),
    "t4 x 1e-3": lambda rng, n: 1e-3 * rng.standard_t(4, size=n),
    "gamma x 1e3": lambda rng, n: 1e3 * rng.gamma(2.0, size=n),
    "normal + 1e6": lambda rng, n: 1e6 + rng.normal(size=n),
    "claw": lambda rng, n: _pick(
        rng, n, 0.5, rng.normal(size=n), rng.normal(rng.integers(-2, 3, n), 0.1)
    ),
    "exponential": lambda rng, n: rng.exponential(size=n),
    "arcsine": lambda rng, n: rng.beta(0.5, 0.5, size=n),
    "student t2.5": lambda rng, n: rng.standard_t(2.5, size=n),
    "two sharp": lambda rng, n: _pick(rng, n, 0.7, rng.normal(-1, 0.01, n), rng.normal(1, 0.1, n)),
}


def mean_log_density(column: np.ndarray, fit: MixtureFit, j: int) -> float:
    """Mean log-density of the rows themselves, in float64 and in blocks."""
    total = 0.0
    for part in np.array_split(column, max(1, column.size // 50_000)):
        u = (part[:, None] - fit.means[j]) / np.exp(fit.log_scales[j])
        terms = fit.log_weights[j] - fit.log_scales[j] - 0.5 * u * u
        top = terms.max(1)
        total += (top + np.log(np.exp(terms - top[:, None]).sum(1))).sum()
    return total / column.size - 0.5 * np.log(2 * np.pi)


def timed(run, repeats):
    """The median time of some calls and the last result."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        result = run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), result


def compare(n, names, n_components, repeats):
    """Print one block of figures."""
    rng = np.random.default_rng(0)
    x = np.stack([SHAPES[name](rng, n) for name in names], axis=1)

    def theirs():
        return [
            GaussianMixture(n_components, random_state=j).fit(x[:, [j]]) for j in range(len(names))
        ]

    fit_mixtures(x, n_components)
    ours_s, fit = timed(lambda: fit_mixtures(x, n_components), 9)
    theirs_s, models = timed(theirs, repeats)
    dtype = "float64" if jax.config.jax_enable_x64 else "float32"
    print(f"\n{n} x {len(names)}, K = {n_components}, {dtype}")
    print(f"  scikit-learn {theirs_s:8.3f} s (median of {repeats})")
    print(f"  gauss_flows  {ours_s:8.3f} s (median of 9), {theirs_s / ours_s:.0f} times faster")
    print("  mean log-likelihood, nats:   ours   scikit-learn  difference")
    differences = []
    for j, name in enumerate(names):
        ours, sk = mean_log_density(x[:, j], fit, j), models[j].score(x[:, [j]])
        differences.append(ours - sk)
        print(f"    {name:<20}{ours:12.4f}{sk:12.4f}{ours - sk:+12.4f}")
    print(f"  smallest difference {min(differences):+.4f} (to reach: no lower than -0.001)")


def main():
    """Read the options and print both comparisons."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--components", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="only 10 000 x 16")
    options = parser.parse_args()
    warnings.filterwarnings("ignore", category=UserWarning, module="sklearn")
    names = list(SHAPES)
    compare(10_000, names, options.components, 3)
    if not options.small:
        compare(1_000_000, names[:4], options.components, 1)


if __name__ == "__main__":
    main()
