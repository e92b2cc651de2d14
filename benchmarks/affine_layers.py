"""Section 4 of Draxler et al. (2020): layer-wise affine flows against training end to end.

    OMP_NUM_THREADS=1 python benchmarks/affine_layers.py            # all of it: an hour
    python benchmarks/affine_layers.py --quick                      # a look
    python benchmarks/affine_layers.py --rows 131072 --seeds 3 --regimes "end to end, random"

Prints the test divergence KL(data ‖ flow) in nats after 1, 4 and 12 layers for every regime on six
densities whose entropy is known, with the seconds of the fit, and then says beside each of the
paper's claims whether it held. All densities are standardised; 4096 training rows by default, from
which the networks of deep flows overfit, and 20 000 test rows. Depths of one fit are prefixes of it
where layers are never touched again, and fits of their own where they are.
"""

import argparse
import time

import jax.random as jr
import numpy as np

from gauss_flows import flow_from_blocks
from gauss_flows.affine import fit_affine_flow
from gauss_flows.datasets import (
    Checkerboard,
    EightGaussians,
    Rings,
    Spiral,
    TwoMoons,
    UniformSquare,
)

DATA = {
    "square": UniformSquare(3**0.5),
    "moons": TwoMoons(0.1).standardized(),
    "rings": Rings().standardized(),
    "spiral": Spiral().standardized(),
    "gaussians": EightGaussians().standardized(),
    "checkerboard": Checkerboard().standardized(),
}
DEPTHS = (1, 4, 12)
REGIMES = (
    ("closed form, optimal", "closed_form", "oas"),
    ("closed form, random", "closed_form", "random"),
    ("layer-wise, optimal", "layerwise", "oas"),
    ("layer-wise, random", "layerwise", "random"),
    ("progressive, optimal", "progressive", "oas"),
    ("progressive, random", "progressive", "random"),
    ("end to end, random", "end_to_end", "random"),
    ("end to end, learned", "end_to_end", "learned"),
)
N_TEST = 20_000


def divergences(density, training: str, rotations: str, seed: int, arguments: argparse.Namespace):
    """Test KL by depth, and the seconds of all fits."""
    depths = arguments.depths
    data_key, test_key, fit_key = jr.split(jr.key(seed), 3)
    x, fresh = density.sample(data_key, arguments.rows), density.sample(test_key, N_TEST)
    options = {
        "training": training,
        "rotations": rotations,
        "max_epochs": arguments.epochs,
        "patience": max(depths),
        "standardize": False,
        "show_progress": False,
    }
    start = time.perf_counter()
    if training in ("closed_form", "layerwise"):
        flow = fit_affine_flow(x, fit_key, n_layers=max(depths), **options)
        blocks = [tuple(block.bijections) for block in flow.bijection.bijection.blocks]
        flows = [flow_from_blocks(blocks[:depth]) for depth in depths]
    else:
        flows = [fit_affine_flow(x, fit_key, n_layers=depth, **options) for depth in depths]
    seconds = time.perf_counter() - start
    # The difference of two log-densities row by row varies less than the flow's own.
    truth = np.asarray(density.log_prob(fresh), np.float64)
    kl = [float(np.mean(truth - np.asarray(flow.log_prob(fresh), np.float64))) for flow in flows]
    return dict(zip(depths, kl, strict=True)), seconds


def main() -> None:
    """Print the table and the verdicts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="*", default=list(DATA), choices=list(DATA))
    parser.add_argument("--regimes", nargs="*", default=[r[0] for r in REGIMES])
    parser.add_argument("--depths", type=int, nargs="*", default=list(DEPTHS))
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=None, help="of each training")
    parser.add_argument("--rows", type=int, default=4096, help="to train on")
    parser.add_argument("--quick", action="store_true", help="the square, 20 epochs")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.data, arguments.epochs = ["square"], 20
    table: dict[str, dict[str, dict]] = {}
    for name in arguments.data:
        density = DATA[name]
        print(
            f"{name}: entropy {density.entropy():.4f}, KL to N(0, I) {density.kl_to_normal():.4f}"
        )
        for label, training, rotations in REGIMES:
            if not {label, training} & set(arguments.regimes):
                continue
            runs = [
                divergences(density, training, rotations, seed, arguments)
                for seed in range(arguments.seeds)
            ]
            kl = {depth: np.mean([run[0][depth] for run in runs]) for depth in arguments.depths}
            table.setdefault(name, {})[label] = kl
            depths = "   ".join(_shown(d, [run[0][d] for run in runs]) for d in kl)
            print(f"  {label:22} {depths}   {np.mean([run[1] for run in runs]):6.1f} s", flush=True)
    judge(table)


def _shown(depth: int, found: list[float]) -> str:
    """The mean, and the least and the largest where there are several."""
    spread = f" ({min(found):.4f} to {max(found):.4f})" if len(found) > 1 else ""
    return f"{depth:2} layers {np.mean(found):.4f}{spread}"


def judge(table: dict[str, dict[str, dict]]) -> None:
    """Say of each claim on how many data sets it held."""
    first, last = DEPTHS[0], DEPTHS[-1]
    claims = [
        (
            f"optimal rotations beat random ones layer by layer, {depth} layers",
            "layer-wise, optimal",
            "layer-wise, random",
            depth,
        )
        for depth in DEPTHS
    ]
    claims += [
        (
            f"the same of closed-form layers, {depth} layers",
            "closed form, optimal",
            "closed form, random",
            depth,
        )
        for depth in DEPTHS
    ]
    claims += [
        (
            "with one layer they beat training end to end",
            "layer-wise, optimal",
            "end to end, random",
            first,
        ),
        (
            "end to end overtakes them with depth",
            "end to end, random",
            "layer-wise, optimal",
            last,
        ),
        (
            "progressive training stays competitive when deep (within 0.02)",
            "progressive, optimal",
            "end to end, random",
            last,
        ),
    ]
    for claim, better, worse, depth in claims:
        slack = 0.02 if "within" in claim else 0.0
        rows = [
            r for r in table.values() if depth in r.get(better, ()) and depth in r.get(worse, ())
        ]
        if rows:
            held = [r[better][depth] < r[worse][depth] + slack for r in rows]
            verdict = "held" if all(held) else "did not hold" if not any(held) else "held in part"
            print(f"{claim}: {verdict}, {sum(held)} of {len(held)} data sets")


if __name__ == "__main__":
    main()
