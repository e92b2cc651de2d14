"""Outliers found by `FlowOutlierDetector` and its peers, and samples told from data.

    OMP_NUM_THREADS=1 python benchmarks/outliers.py                     # both tables, 5 seeds
    OMP_NUM_THREADS=1 python benchmarks/outliers.py --only rings --seeds 10
    OMP_NUM_THREADS=1 python benchmarks/outliers.py --wide 1            # others within the range
    OMP_NUM_THREADS=1 python benchmarks/outliers.py --family mixture    # faster: no training

First table: rows with 15 % of others among them, uniform on a box about the clean rows `--wide`
times as wide as their range; 1500 clean rows of a density, all rows of a table. Detectors are
fitted to the contaminated rows, without labels, and rank the same rows: ROC-AUC, mean ± standard
error over the seeds. Where the density is known so is the best AUC that any score has in
expectation, its own, and what ours lacks of it.

Second table: 500 samples of a fit to 1500 rows and 500 fresh rows of the density; the
cross-validated AUC of boosted trees that tell them apart, beside that of a mixture of five
Gaussians and that of another 500 rows of the truth.
"""

import argparse
import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
from numpy.typing import NDArray
from scipy.stats import multivariate_normal, norm
from sklearn import datasets as tables
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score
from sklearn.mixture import GaussianMixture
from sklearn.neighbors import LocalOutlierFactor
from sklearn.preprocessing import StandardScaler
from sklearn.svm import OneClassSVM

from gauss_flows import datasets
from gauss_flows.diagnostics import classifier_two_sample_test
from gauss_flows.estimators import FlowDensity, FlowOutlierDetector

Rows = NDArray[np.float64]
SHARE = 0.15
N_CLEAN, N_TRAIN, N_SAMPLES = 1_500, 1_500, 500
OURS = "FlowOutlierDetector"
# The public figures: RBIG's and isolation forest's on versions of these rows of their own.
PUBLIC = {
    "rings": (0.628, 0.984),
    "banana": (0.864, 0.980),
    "bimodal": (0.693, 0.988),
    "breast cancer": (1.000, 1.000),
    "wine": (0.924, 1.000),
}
MARKS = {"rings": (0.54, 0.718), "banana": (0.54, 0.536), "bimodal": (0.51, 0.492)}


class Law(NamedTuple):
    """Clean rows, and their log density where it is known."""

    draw: Callable[[int, int], Rows]
    log_density: Callable[[Rows], NDArray[np.float64]] | None


def rings() -> Law:
    """The four rings of `gauss_flows.datasets`."""
    density = datasets.Rings()

    def draw(seed: int, n: int) -> Rows:
        with jax.enable_x64(True):
            return np.asarray(density.sample(jr.key(seed), n))

    def log_density(x: Rows) -> NDArray[np.float64]:
        with jax.enable_x64(True):
            return np.asarray(density.log_prob(x))

    return Law(draw, log_density)


def banana() -> Law:
    """A normal first coordinate; the second is normal about half its square, deviation 0.3."""

    def draw(seed: int, n: int) -> Rows:
        first, noise = np.random.default_rng(seed).normal(size=(2, n))
        return np.stack([first, 0.5 * first**2 + 0.3 * noise], axis=1)

    def log_density(x: Rows) -> NDArray[np.float64]:
        return norm.logpdf(x[:, 0]) + norm.logpdf(x[:, 1], 0.5 * x[:, 0] ** 2, 0.3)

    return Law(draw, log_density)


def bimodal() -> Law:
    """Two normal clouds, (−2, 0) and (2, 0), as often, one correlated by 0.8 and one by −0.8."""
    means = np.array([[-2.0, 0.0], [2.0, 0.0]])
    covariances = [np.array([[0.5, 0.4 * sign], [0.4 * sign, 0.5]]) for sign in (1, -1)]

    def draw(seed: int, n: int) -> Rows:
        rng = np.random.default_rng(seed)
        which = rng.integers(2, size=n)
        factors = np.linalg.cholesky(covariances)
        return means[which] + np.einsum("nij,nj->ni", factors[which], rng.normal(size=(n, 2)))

    def log_density(x: Rows) -> NDArray[np.float64]:
        both = zip(means, covariances, strict=True)
        clouds = [multivariate_normal(mean, covariance).logpdf(x) for mean, covariance in both]
        return np.logaddexp(*clouds) - np.log(2)

    return Law(draw, log_density)


def table(x: Rows) -> Law:
    """All rows of a table, in units of its deviations; the seed chooses the others alone."""
    return Law(lambda seed, n: x / x.std(0), None)


LAWS: dict[str, Callable[[], Law]] = {
    "rings": rings,
    "banana": banana,
    "bimodal": bimodal,
    "breast cancer": lambda: table(tables.load_breast_cancer().data[:, :10]),
    "wine": lambda: table(tables.load_wine().data),
}


def contaminated(law: Law, seed: int, wide: float) -> tuple[Rows, NDArray[np.bool_]]:
    """Clean rows and uniform ones, in random order, and which are the latter."""
    clean = law.draw(seed, N_CLEAN)
    rng = np.random.default_rng([seed, 1])
    n_others = round(len(clean) * SHARE / (1 - SHARE))
    low, high = clean.min(0), clean.max(0)
    middle, half = (low + high) / 2, wide * (high - low) / 2
    others = rng.uniform(middle - half, middle + half, (n_others, clean.shape[1]))
    order = rng.permutation(len(clean) + n_others)
    return np.concatenate([clean, others])[order], (np.arange(len(order)) >= len(clean))[order]


def scores(x: Rows, seed: int, family: str) -> dict[str, NDArray[np.float64]]:
    """How normal each detector thinks each row is; scikit-learn's have what units they need."""
    units = StandardScaler().fit_transform(x)
    detector = FlowOutlierDetector(family, contamination=SHARE, random_state=seed).fit(x)
    return {
        OURS: detector.decision_function(x),
        "isolation forest": IsolationForest(random_state=seed).fit(units).score_samples(units),
        "LOF": LocalOutlierFactor().fit(units).negative_outlier_factor_,
        "one-class SVM": OneClassSVM(nu=SHARE).fit(units).score_samples(units),
    }


def shown(values) -> str:
    """Mean ± standard error."""
    values = np.asarray(values)
    return f"{values.mean():.4f} ± {values.std(ddof=1) / np.sqrt(len(values)):.4f}"


def detect(name: str, n_seeds: int, wide: float, family: str) -> None:
    """Print one row of the first table."""
    law, found, start = LAWS[name](), {}, time.perf_counter()
    for seed in range(n_seeds):
        x, is_other = contaminated(law, seed, wide)
        of = scores(x, seed, family)
        if law.log_density is not None:
            of["the density itself"] = law.log_density(x)
        for method, score in of.items():
            found.setdefault(method, []).append(roc_auc_score(~is_other, score))
    seconds = (time.perf_counter() - start) / n_seeds
    peers = [method for method in found if method not in (OURS, "the density itself")]
    best = max(peers, key=lambda method: np.mean(found[method]))
    lead = np.array(found[OURS]) - found[best]
    print(f"{name} ({len(x)} × {x.shape[1]}, {seconds:.0f} s a seed)")
    for method, values in found.items():
        print(f"  {method:20s} {shown(values)}")
    print(f"  public RBIG, isolation forest on their versions: {PUBLIC[name]}")
    told = "reached" if lead.mean() >= 0 else "MISSED"
    print(f"  → before {best}: {shown(lead)} ({told})")
    if law.log_density is not None:
        gap = np.array(found["the density itself"]) - found[OURS]
        told = "reached" if gap.mean() <= 0.005 else "MISSED"
        print(f"  → gap to the density itself: {shown(gap)} (mark 0.005: {told})")
    print(flush=True)


def tell_apart(name: str, n_seeds: int, family: str) -> None:
    """Print one row of the second table."""
    law, found = LAWS[name](), {}
    for seed in range(n_seeds):
        x = law.draw(100 + seed, N_TRAIN + 2 * N_SAMPLES)
        train, fresh, others = np.split(x, [N_TRAIN, N_TRAIN + N_SAMPLES])
        mixture = GaussianMixture(5, random_state=seed).fit(train)
        samples = {
            "FlowDensity": FlowDensity(family, random_state=seed)
            .fit(train)
            .sample(N_SAMPLES, seed),
            "five Gaussians": mixture.sample(N_SAMPLES)[0],
            "the density itself": others,
        }
        for method, drawn in samples.items():
            test = classifier_two_sample_test(fresh, drawn, random_state=seed)
            found.setdefault(method, []).append(test.auc.value)
    mark, public = MARKS[name]
    print(name)
    for method, values in found.items():
        print(f"  {method:20s} {shown(values)}")
    mean, lead = np.mean(found["FlowDensity"]), np.array(found["five Gaussians"])
    told = "reached" if mean <= mark else "MISSED"
    no_worse = "reached" if mean <= lead.mean() else "MISSED"
    print(f"  → mark {mark}: {told}; no worse than five Gaussians: {no_worse}, by "
          f"{shown(lead - found['FlowDensity'])} (their public figure {public})\n",
          flush=True)  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description="Outliers found, and samples told from data.")
    parser.add_argument("--only", nargs="+", default=list(LAWS), choices=list(LAWS))
    parser.add_argument("--tables", nargs="+", default=["outliers", "samples"])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--wide", type=float, default=2.0)
    parser.add_argument("--family", default="auto", help="of the flow: auto is the default")
    parser.add_argument("--quick", action="store_true", help="one seed")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 1
    if "outliers" in arguments.tables:
        print(f"ROC-AUC, {SHARE:.0%} uniform on {arguments.wide:g} × the range\n")
        for name in arguments.only:
            detect(name, arguments.seeds, arguments.wide, arguments.family)
    if "samples" in arguments.tables:
        print(f"AUC between {N_SAMPLES} samples of a fit to {N_TRAIN} rows and fresh rows\n")
        for name in arguments.only:
            if name in MARKS:
                tell_apart(name, arguments.seeds, arguments.family)


if __name__ == "__main__":
    main()
