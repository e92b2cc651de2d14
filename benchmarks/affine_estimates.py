"""How few rows the affine theory's estimates need, beside what no estimate can better.

    OMP_NUM_THREADS=1 python benchmarks/affine_estimates.py          # some minutes
    OMP_NUM_THREADS=1 python benchmarks/affine_estimates.py --so6    # and a planted rotation

Prints the error of the estimated gain on the paper's two-component mixture at its best angle, by
splines, by the paper's bins and by the efficient estimate that knows the true moments; the error of
the best angle; the error with five passive coordinates; what a layer leaves of WU, of the mixture
and of white data, and what these seem to gain; and how far a closed-form layer stays from its bound
on W and WU.
"""

import argparse
import time

import jax.random as jr
import numpy as np
from scipy.stats import special_ortho_group

from gauss_flows.affine import (
    affine_gain,
    affine_loss_split,
    conditional_moments,
    exact_affine_bound,
    optimal_affine_subspace,
    rotation_matrix,
)
from gauss_flows.affine.exact import passive_rule
from gauss_flows.datasets import WU, TwoGaussians, W
from gauss_flows.numerics.estimate import Estimate

BEST = 46.409679
FIVE = 0.5408297791


def rms(errors) -> float:
    """Root of the mean square."""
    return float(np.sqrt(np.mean(np.square(errors))))


def rows(density, n: int, seed: int) -> np.ndarray:
    """A sample in float64."""
    return np.asarray(density.sample(jr.key(seed), n), np.float64)


def known_gain(a, mean, log_variance) -> float:
    """The likelihood gain at the true moments, the efficient estimate of Δ."""
    ratio = (a - mean) ** 2 / np.exp(log_variance)
    return float(np.mean(0.5 * (a**2 - log_variance - ratio)))


def mixture(n_seeds: int) -> None:
    """Errors of Δ and of the angle."""
    density, angle = TwoGaussians(), np.deg2rad(BEST)
    turn, truth = rotation_matrix(angle), exact_affine_bound(TwoGaussians(), angle).gain
    for n in (256, 300, 1200):
        errors: dict[str, list[float]] = {"splines": [], "bins": [], "moments known": []}
        for seed in range(n_seeds):
            x = rows(density, n, seed)
            y = x @ turn.T
            mean, variance = density.conditional_moments(y[:, 0], angle)
            errors["splines"].append(float(affine_gain(x, 1, turn).value) - truth)
            bins = float(affine_gain(x, 1, turn, method="equal_width").value)
            errors["bins"].append(bins - truth)
            errors["moments known"].append(known_gain(y[:, 1], mean, np.log(variance)) - truth)
        text = ", ".join(f"{name} {rms(values):.4f}" for name, values in errors.items())
        print(f"mixture, N = {n}, {n_seeds} seeds: RMSE of the gain: {text}", flush=True)
    off = []
    for seed in range(20):
        turn = optimal_affine_subspace(rows(density, 256, seed), 1, n_candidates=64).rotation
        found = np.rad2deg(np.arctan2(turn[1, 0], turn[0, 0])) % 180
        off.append(min(abs(found - BEST), abs(found - 180 + BEST)))
    print(f"mixture, N = 256, 20 seeds: mean error of the angle {np.mean(off):.2f} degrees")


def five_passive() -> None:
    """Errors of Δ with five passive coordinates."""
    own, known, trees = [], [], []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        p = rng.normal(size=(2048, 5))
        mean = 0.8 * np.sin(1.5 * p[:, 0]) + 0.3 * p[:, 1] * p[:, 2]
        log_deviation = -0.7 + 0.5 * np.cos(2 * p[:, 0]) + 0.4 * np.tanh(p[:, 3] + p[:, 4])
        a = mean + np.exp(log_deviation) * rng.normal(size=2048)
        own.append(float(affine_gain(np.column_stack([p, a]), 1).value) - FIVE)
        known.append(known_gain(a, mean, 2 * log_deviation) - FIVE)
        if seed < 3:
            boosted = affine_gain(np.column_stack([p, a]), 1, method="boosting")
            trees.append(float(boosted.value) - FIVE)
    print(
        f"five passive coordinates, N = 2048, 10 seeds: RMSE {rms(own):.4f}, worst "
        f"{np.abs(own).max():.4f}; moments known {rms(known):.4f}, {np.abs(known).max():.4f}; "
        f"trees, 3 seeds, {np.mean(trees):+.4f}"
    )


def layers() -> None:
    """Distance of a closed-form layer from the bound."""
    for density in (W(), WU()):
        p, mass = passive_rule(density)
        mean, variance = density.conditional_moments(p)
        for n in (4096, 65_536):
            gaps = []
            for seed in range(3):
                x = rows(density, n, seed)
                moments = conditional_moments(x[:, :1], x[:, 1:])
                m = np.asarray(moments.mean(p[:, None]), float)[:, 0]
                v = np.asarray(moments.variance(p[:, None]), float)[:, 0]
                gap = (variance + (mean - m) ** 2) / v - 1 - np.log(variance / v)
                gaps.append(0.5 * float(mass @ gap))
            name = type(density).__name__
            print(f"{name}, N = {n}, 3 seeds: gap to the bound at most {max(gaps):.5f}", flush=True)


def what_is_left() -> None:
    """Parts of what a layer leaves: of WU, whose edges are sharp, of the mixture, of white data."""
    for n in (4000, 20_000):
        split = affine_loss_split(WU().sample(jr.key(0), n), 1)
        active, error = (float(np.asarray(part)[0]) for part in split.conditional)
        print(
            f"WU, N = {n}: left of the passive part {shown(split.passive)} (0.1993), of the active "
            f"{active:.4f} ± {error:.4f} (0.1765)",
            flush=True,
        )
    for degrees in (BEST, 60.0):
        angle = np.deg2rad(degrees)
        exact, turn = exact_affine_bound(TwoGaussians(), angle), rotation_matrix(angle)
        splits = [affine_loss_split(rows(TwoGaussians(), 2000, seed), 1, turn) for seed in range(6)]
        found = np.array([[s.passive.value, s.conditional.value[0]] for s in splits])
        errors = [[s.passive.standard_error, s.conditional.standard_error[0]] for s in splits]
        print(
            f"mixture at {degrees:.1f} degrees, N = 2000, 6 seeds: passive and active "
            f"{found.mean(0).round(4)}, scatter {found.std(0, ddof=1).round(4)}, "
            f"errors said {np.mean(errors, axis=0).round(4)}; exact {exact.passive:.4f}, "
            f"{exact.conditional:.4f}",
            flush=True,
        )
    for n, n_active in ((200, 5), (500, 5), (500, 2), (2000, 5)):
        gains = [
            affine_gain(np.random.default_rng(seed).normal(size=(n, 10)), n_active)
            for seed in range(10)
        ]
        values = [gain.value for gain in gains]
        said = np.mean([gain.standard_error for gain in gains])
        print(
            f"white, D = 10, N = {n}, {n_active} active, 10 seeds: gain {np.mean(values):.4f}, "
            f"scatter {np.std(values, ddof=1):.4f}, error said {said:.4f}",
            flush=True,
        )
    for seed in range(3):
        split = affine_loss_split(np.random.default_rng(seed).normal(size=(500, 4)), 2)
        print(f"white, D = 4, N = 500: passive {shown(split.passive)}, total {shown(split.total)}")


def shown(estimate: Estimate) -> str:
    """A figure and its error."""
    return f"{estimate.value:.4f} ± {estimate.standard_error:.4f}"


def so6_law(rng, n: int, turn: np.ndarray) -> tuple[np.ndarray, float]:
    """Rows of three passive and three active coordinates behind a rotation, and their mean gain."""
    p = rng.normal(size=(n, 3))
    first, second, third = p.T
    mean = np.stack([0.8 * np.sin(1.5 * first), 0.5 * first * third, 0.6 * np.cos(2 * second)], 1)
    log_deviation = np.stack(
        [
            -0.7 + 0.5 * np.cos(2 * second),
            -0.6 + 0.4 * np.tanh(2 * third),
            -0.5 + 0.4 * np.sin(first + second),
        ],
        axis=1,
    )
    a = mean + np.exp(log_deviation) * rng.normal(size=(n, 3))
    gain = 0.5 * (mean**2 + np.exp(2 * log_deviation) - 1 - 2 * log_deviation)
    return np.hstack([p, a]) @ turn, float(gain.sum(1).mean())


def so6() -> None:
    """A planted rotation of six coordinates, climbed to from four starts."""
    turn = special_ortho_group.rvs(6, random_state=0)
    x, _ = so6_law(np.random.default_rng(0), 3000, turn)
    fresh, _ = so6_law(np.random.default_rng(1), 20_000, turn)
    _, truth = so6_law(np.random.default_rng(2), 1_000_000, turn)
    start = time.perf_counter()
    best = optimal_affine_subspace(x, 3, n_candidates=12, max_steps=25)
    seconds = time.perf_counter() - start
    y, z = x @ best.rotation.T, fresh @ best.rotation.T
    moments = conditional_moments(y[:, :3], y[:, 3:])
    mean, variance = (np.asarray(f(z[:, :3]), float) for f in (moments.mean, moments.variance))
    ratio = (z[:, 3:] - mean) ** 2 / variance
    held = 0.5 * np.mean(np.sum(z[:, 3:] ** 2 - ratio - np.log(variance), axis=1))
    print(
        f"SO(6), N = 3000: true gain {truth:.4f}, estimated {best.gain.value:.4f} "
        f"({best.gain.value / truth:.0%}), on fresh rows {held:.4f} ({held / truth:.0%}), "
        f"{seconds:.0f} s"
    )


def main() -> None:
    """Print all of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--so6", action="store_true")
    parser.add_argument("--quick", action="store_true", help="20 seeds")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.seeds = 20
    layers()
    five_passive()
    what_is_left()
    mixture(arguments.seeds)
    if arguments.so6:
        so6()


if __name__ == "__main__":
    main()
