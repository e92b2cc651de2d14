"""One training epoch against flowjax's ``fit_to_data``: same flow, rows, batch and optimizer.

    python benchmarks/epoch_speed.py [--rows 10000] [--epochs 10] [--repeats 5]

A first call of each compiles and is not counted. Then the two take turns, so that a busy moment
of the machine meets both; the table has medians over the turns and the median of their ratios.
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
import optax
from flowjax.train import fit_to_data
from flowjax.train.losses import MaximumLikelihoodLoss

import gauss_flows as gf
from gauss_flows.training import fit_gaussianization_flow

_BATCH = 512
_RATE = 1e-3


def measure(flow: Any, x: jax.Array, *, epochs: int, repeats: int) -> dict[str, float]:
    """Seconds an epoch of each trainer takes, and the ratio.

    Args:
        flow: The flow to train.
        x: The rows, of shape (n, d).
        epochs: Epochs in a turn.
        repeats: Number of turns.

    Returns:
        Medians in seconds and the median ratio, by name.
    """

    def ours() -> None:
        fit_gaussianization_flow(
            jr.key(1),
            flow,
            x,
            learning_rate=optax.constant_schedule(_RATE),
            batch_size=_BATCH,
            max_epochs=epochs,
            show_progress=False,
        )

    def flowjax() -> None:
        fit_to_data(
            jr.key(1),
            flow,
            x,
            loss_fn=loss,
            optimizer=optimizer,
            batch_size=_BATCH,
            max_epochs=epochs,
            max_patience=epochs,
            show_progress=False,
        )

    # Made once: with another object, and so by default, flowjax's trainer compiles again.
    loss = MaximumLikelihoodLoss()
    optimizer = optax.chain(optax.clip_by_global_norm(1.0), optax.adam(_RATE))
    ours()
    flowjax()
    turns = [(_seconds(ours) / epochs, _seconds(flowjax) / epochs) for _ in range(repeats)]
    return {
        "gauss_flows": statistics.median(turn[0] for turn in turns),
        "flowjax": statistics.median(turn[1] for turn in turns),
        "ratio": statistics.median(turn[1] / turn[0] for turn in turns),
    }


def _seconds(call: Callable[[], None]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = parser.parse_args()
    x = jr.normal(jr.key(0), (options.rows, 2))
    flows = {
        "gaussianization_flow, 4 layers": gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=4),
        "gaussianization_flow, 8 layers (default)": gf.gaussianization_flow(jr.key(0), n_dims=2),
        "coupling_gaussianization_flow, 4 layers": gf.coupling_gaussianization_flow(
            jr.key(0), n_dims=2, n_layers=4, nn_width=16, nn_depth=1
        ),
        "affine_coupling_flow, 4 layers": gf.affine_coupling_flow(jr.key(0), n_dims=2, n_layers=4),
        "mixture_coupling_flow, 4 layers": gf.mixture_coupling_flow(
            jr.key(0), n_dims=2, n_layers=4
        ),
    }
    results = {}
    for name, flow in flows.items():
        results[name] = measure(flow, x, epochs=options.epochs, repeats=options.repeats)
    if options.json:
        print(json.dumps(results))
        return
    print(f"{options.rows} rows, d = 2, batch {_BATCH}; milliseconds an epoch")
    print(f"{'flow':<42}{'gauss_flows':>12}{'flowjax':>10}{'ratio':>8}")
    for name, row in results.items():
        ours, theirs = 1e3 * row["gauss_flows"], 1e3 * row["flowjax"]
        print(f"{name:<42}{ours:12.2f}{theirs:10.2f}{row['ratio']:8.2f}")


if __name__ == "__main__":
    main()
