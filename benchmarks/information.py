"""Information measures against truths that are known, with the errors they state.

    OMP_NUM_THREADS=1 python benchmarks/information.py                 # 20 seeds of every row
    OMP_NUM_THREADS=1 python benchmarks/information.py --seeds 100     # coverage, about an hour
    OMP_NUM_THREADS=1 python benchmarks/information.py --only "MI"     # rows whose name has it

Each row prints the truth, the mean error over the first 20 seeds with its own standard error, the
mark and whether it is reached, the deviation over the seeds beside the mean of the standard errors
stated, the share of all seeds whose 95 % interval holds the truth, seconds a call, the same mean
error of a nearest-neighbour estimate, and what a public RBIG was reported to give.
"""

import argparse
import time
import warnings
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.random as jr
import numpy as np
from scipy.integrate import quad
from scipy.spatial import KDTree
from scipy.special import digamma, gammaln
from scipy.stats import gamma
from sklearn.feature_selection import mutual_info_regression

from gauss_flows import datasets
from gauss_flows.information import (
    conditional_mutual_information,
    dual_total_correlation,
    entropy,
    kl_divergence,
    mutual_information,
    negentropy,
    total_correlation,
)

N_MEAN = 20


class Row(NamedTuple):
    """One measure of one law."""

    name: str
    truth: float
    mark: float
    draw: Callable[[int], tuple]
    measure: Callable
    peer: Callable | None = None
    reported: str = "–"


def neighbours_mi(x, y, k: int = 3) -> float:
    """Kraskov, Stögbauer and Grassberger's first estimate (2004)."""
    n = len(x)
    joint = np.concatenate([x, y], axis=1)
    radius = KDTree(joint).query(joint, k=k + 1, p=np.inf)[0][:, -1] * (1 - 1e-12)
    counts = [
        KDTree(part).query_ball_point(part, radius, p=np.inf, return_length=True) for part in (x, y)
    ]
    inside = sum(np.mean(digamma(count)) for count in counts)
    return float(digamma(k) + digamma(n) - inside)


def neighbours_tc(x, k: int = 3) -> float:
    """The same for single columns, as many as there are."""
    n, d = x.shape
    radius = KDTree(x).query(x, k=k + 1, p=np.inf)[0][:, -1] * (1 - 1e-12)
    total = digamma(k) + (d - 1) * digamma(n)
    for column in x.T:
        count = KDTree(column[:, None]).query_ball_point(
            column[:, None], radius, p=np.inf, return_length=True
        )
        total -= np.mean(digamma(count))
    return float(total)


def sklearn_mi(x, y) -> float:
    """scikit-learn's estimate, for two columns."""
    return float(mutual_info_regression(x, y[:, 0], random_state=0)[0])


def neighbours_entropy(x, k: int = 3) -> float:
    """Kozachenko and Leonenko's estimate."""
    n, d = x.shape
    radius = KDTree(x).query(x, k=k + 1)[0][:, -1]
    ball = 0.5 * d * np.log(np.pi) - gammaln(d / 2 + 1)
    return float(digamma(n) - digamma(k) + ball + d * np.mean(np.log(radius)))


def neighbours_kl(x, y, k: int = 5) -> float:
    """Wang, Kulkarni and Verdú's estimate."""
    own = KDTree(x).query(x, k=k + 1)[0][:, -1]
    other = np.asarray(KDTree(y).query(y if x is y else x, k=k)[0])[:, -1]
    return float(x.shape[1] * np.mean(np.log(other / own)) + np.log(len(y) / (len(x) - 1)))


def ring(seed: int):
    """The ring of radius 1 with noise .05."""
    return (sample(datasets.Rings(radii=(1.0,), noise=0.05), seed, 2000),)


def sample(density, seed: int, n: int):
    """Rows in double precision."""
    with jax.enable_x64(True):
        return np.asarray(density.sample(jr.key(seed), n), np.float64)


def student(seed: int):
    """Student's t in five dimensions with three degrees of freedom."""
    rng = np.random.default_rng(seed)
    return (rng.normal(size=(5000, 5)) / np.sqrt(rng.chisquare(3, 5000) / 3)[:, None],)


def student_truth(d: int = 5, nu: int = 3) -> float:
    """Its total correlation."""

    def one(d):
        spread = (nu + d) / 2 * (digamma((nu + d) / 2) - digamma(nu / 2))
        return gammaln(nu / 2) - gammaln((nu + d) / 2) + d / 2 * np.log(nu * np.pi) + spread

    return float(d * one(1) - one(d))


def blocks(width: int, rho: float, n: int = 1200):
    """Two blocks whose columns are related in pairs."""

    def draw(seed: int):
        x, noise = np.random.default_rng(seed).normal(size=(2, n, width))
        return x, rho * x + np.sqrt(1 - rho**2) * noise

    return draw


def two_columns(rho: float, n: int):
    """The same, as one table."""
    return lambda seed: (np.concatenate(blocks(1, rho, n)(seed), axis=1),)


MEAN = np.array([0.5, -0.3, 0.2])
FACTOR = np.array([[1.0, 0.0, 0.0], [0.4, 0.8, 0.0], [-0.2, 0.3, 0.7]])


def gaussians(seed: int):
    """Rows of two normal laws of three dimensions."""
    x, y = np.random.default_rng(seed).normal(size=(2, 3000, 3))
    return MEAN + x @ FACTOR.T, y


def gaussian_kl() -> float:
    """Their divergence."""
    log_det = 2 * np.log(np.diagonal(FACTOR)).sum()
    return float(0.5 * (np.sum(FACTOR**2) + MEAN @ MEAN - 3 - log_det))


def gammas(shift: float, shape_x: float, shape_y: float, scale_y: float):
    """Rows of two gamma laws, the first shifted by more than the second, or as much."""

    def draw(seed: int):
        rng = np.random.default_rng(seed)
        x = 1.0 + shift + rng.gamma(shape_x, size=(3000, 1))
        return x, 1.0 + scale_y * rng.gamma(shape_y, size=(3000, 1))

    def term(v: float) -> float:
        log_p = float(gamma.logpdf(v, shape_x, 1.0 + shift))
        return np.exp(log_p) * (log_p - float(gamma.logpdf(v, shape_y, 1.0, scale_y)))

    return draw, quad(term, 1.0 + shift, 61.0 + shift, limit=500)[0]


def all_rows() -> list[Row]:
    """Every row of the table."""
    tc = total_correlation

    def exponentials(seed):
        return (np.random.default_rng(seed).exponential(size=(2000, 2)),)

    rows = [
        Row("TC, two Exp(1), n = 2000", 0.0, 0.02, exponentials, tc, neighbours_tc, "−0.665"),
        Row("TC, ring, n = 2000", 1.158283, 0.06, ring, tc, neighbours_tc, "−0.545"),
        Row("TC, Student, n = 5000", student_truth(), 0.05, student, tc, neighbours_tc, "−1.033"),
        Row(
            "TC, Gaussian ρ = .8, n = 2000",
            -0.5 * np.log(1 - 0.64),
            0.02,
            two_columns(0.8, 2000),
            tc,
            neighbours_tc,
            "0.501",
        ),
    ]
    for rho, mark, told in ((0.3, 0.01, ".044"), (0.6, 0.012, ".209"), (0.9, 0.02, ".798")):
        truth = -0.5 * np.log(1 - rho**2)
        draw = blocks(1, rho)
        rows.append(Row(f"MI, ρ = {rho}", truth, mark, draw, mutual_information, sklearn_mi, told))
    for width, mark, told in ((2, 0.03, ".489"), (5, 0.04, "1.114"), (10, 0.08, "2.293")):
        truth = -0.5 * width * np.log(1 - 0.36)
        draw = blocks(width, 0.6)
        rows.append(
            Row(
                f"MI, blocks of {width}", truth, mark, draw, mutual_information, neighbours_mi, told
            )
        )
    for kind in ("Checkerboard", "EightGaussians", "Pinwheel", "Rings", "Spiral", "TwoGaussians"):
        rows.append(_entropy_row(getattr(datasets, kind)()))
    for kind in ("TwoMoons", "UniformSquare", "W", "WU"):
        rows.append(_entropy_row(getattr(datasets, kind)()))
    rows.append(
        Row("KL, 3-d Gaussians", gaussian_kl(), 0.05, gaussians, kl_divergence, neighbours_kl)
    )
    for shift, shapes in ((0.0, (3.0, 2.0, 1.5)), (0.5, (2.0, 2.0, 1.5))):
        draw, truth = gammas(shift, *shapes)
        name = f"KL, gammas, shifted by {1 + shift:g} and 1"
        rows.append(Row(name, truth, 0.05, draw, kl_divergence, neighbours_kl))
    rows += _others()
    return rows


def _entropy_row(density) -> Row:
    name = f"H, {type(density).__name__}"

    def draw(seed):
        return (sample(density, seed, 5000),)

    return Row(name, density.entropy(), 0.05, draw, entropy, neighbours_entropy)


def _others() -> list[Row]:
    """Measures that the marks do not name, on normal and uniform rows."""
    covariance = np.full((3, 3), 0.5) + 0.5 * np.eye(3)
    log_det = np.linalg.slogdet(covariance)[1]
    dual = 3 * 0.5 * np.log(0.75) - 2 * 0.5 * log_det

    def triple(seed):
        return (np.random.default_rng(seed).multivariate_normal(np.zeros(3), covariance, 2000),)

    def chain(seed):
        a, b, z = np.random.default_rng(seed).normal(size=(3, 2000))
        x = a + z
        return x, 0.5 * x + b + z, z

    def uniform(seed):
        return (np.random.default_rng(seed).uniform(size=(2000, 3)),)

    def few(seed):
        rng = np.random.default_rng(seed)
        angle = rng.uniform(0, 2 * np.pi, 200)
        noise, other = 0.05 * rng.normal(size=(2, 200)), rng.gamma(2.0, size=200)
        return np.stack([np.cos(angle), np.sin(angle)]) + noise, other

    def few_alone(seed):
        return (few(seed)[0].T,)

    def few_beside(seed):
        ring, other = few(seed)
        return ring.T, other

    def few_given(seed):
        ring, other = few(seed)
        return ring[0], other, ring[1]

    return [
        Row("dual TC, Gaussian ρ = .5, d = 3", float(dual), 0.05, triple, dual_total_correlation),
        Row(
            "CMI, x → y given z",
            0.5 * np.log(1.25),
            0.05,
            chain,
            conditional_mutual_information,
        ),
        Row("few: TC, ring, n = 200", 1.1583, 0.06, few_alone, total_correlation),
        Row("few: MI, ring beside a gamma", 0.0, 0.05, few_beside, mutual_information),
        Row(
            "few: CMI, half a ring, a gamma",
            0.0,
            0.05,
            few_given,
            conditional_mutual_information,
        ),
        Row("J, uniform, d = 3", 1.5 * np.log(np.pi * np.e / 6), 0.05, uniform, negentropy),
    ]


def run(row: Row, seeds: range) -> None:
    """Measure one row and print it."""
    found, peers, warned = [], [], 0
    seconds, n_seeds = 0.0, len(seeds)
    for seed in seeds:
        data = row.draw(seed)
        start = time.perf_counter()
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            found.append(row.measure(*data))
        warned += any("Two ways" in str(warning.message) for warning in caught)
        seconds += time.perf_counter() - start
        if row.peer and len(peers) < N_MEAN:
            peers.append(row.peer(*data) - row.truth)
    value, error = np.array(found).T
    off = value - row.truth
    mean, spread = off[:N_MEAN].mean(), off[:N_MEAN].std(ddof=1)
    own = spread / np.sqrt(len(off[:N_MEAN]))
    verdict = "reached" if abs(mean) <= row.mark else "MISSED"
    cover = np.mean(np.abs(off) < 1.96 * error)
    print(
        f"{row.name:32s} truth {row.truth:7.4f}  error {mean:+.4f} ± {own:.4f} (mark {row.mark:g}: "
        f"{verdict})  deviation {off.std(ddof=1):.4f}, stated {error.mean():.4f}, covers "
        f"{100 * cover:3.0f} % of {n_seeds}  {seconds / n_seeds:.1f} s  neighbours "
        f"{f'{np.mean(peers):+.4f}' if peers else '–'}  public RBIG {row.reported}"
        + (f"  ({warned} warned)" if warned else ""),
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(description="Information measures against their truths.")
    parser.add_argument("--seeds", type=int, default=N_MEAN)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--only", default="")
    parser.add_argument("--quick", action="store_true", help="three seeds")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 3
    for row in all_rows():
        if arguments.only in row.name:
            run(row, range(arguments.first, arguments.first + arguments.seeds))


if __name__ == "__main__":
    main()
