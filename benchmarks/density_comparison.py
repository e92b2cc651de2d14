"""The default `FlowDensity` beside what users would pick instead, on the same rows.

    OMP_NUM_THREADS=1 python benchmarks/density_comparison.py                     # many hours
    OMP_NUM_THREADS=1 python benchmarks/density_comparison.py --quick             # minutes
    OMP_NUM_THREADS=1 python benchmarks/density_comparison.py --data wine --methods FlowDensity

Five splits: mean ± standard error over them, and seconds of a fit, compiling and every choice
included: those that passed, and the processor's, which other work does not lengthen. Densities
report the nats that are missing, true log density − model on 10 000 fresh rows; tables the nats of
a test row. With `--save FILE` results are kept: what the file holds is not run again, unless
`--again` names the method, and joins the table.

The last line of each data set compares ours with the best peer, pair by pair over the splits: best,
within one standard error of it, or lost; and its seconds (the processor's) with the flow peers'.
"""

import argparse
import json
import math
import time
import traceback
from pathlib import Path

import numpy as np
from _density_methods import FLOW_PEERS, METHODS, OURS
from _density_tables import DENSITIES, TABLES, split

QUICK_ROWS, QUICK_SPLITS = 1_000, 2


def measure(method: str, data: str, index: int, n_rows: int | None) -> dict:
    """Fit one method to one split: its nats and seconds, or its fault."""
    train, test, truth = split(data, index, n_rows)
    start, cpu_start = time.perf_counter(), time.process_time()
    try:
        log_density = METHODS[method](train, index)
        seconds, cpu = time.perf_counter() - start, time.process_time() - cpu_start
        found = np.asarray(log_density(test), np.float64)
    except Exception as fault:
        traceback.print_exc()
        return {"fault": f"{type(fault).__name__}: {fault}".splitlines()[0][:100]}
    nats = found.mean() if truth is None else (truth - found).mean()
    return {"nats": float(nats), "seconds": seconds, "cpu": cpu}


def mean_and_error(values) -> tuple[float, float]:
    """Mean over the splits and its standard error, which one split does not have."""
    values = np.asarray(values)
    error = values.std(ddof=1) / math.sqrt(len(values)) if len(values) > 1 else math.nan
    return float(values.mean()), float(error)


def show(method: str, results: list[dict]) -> None:
    """Print one row."""
    faults = [result["fault"] for result in results if "fault" in result]
    if faults:
        print(f"  {method:17s} failed in {len(faults)} of {len(results)} splits: {faults[0]}",
              flush=True)  # fmt: skip
        return
    value, error = mean_and_error([result["nats"] for result in results])
    seconds, cpu = (np.mean([result[of] for result in results]) for of in ("seconds", "cpu"))
    print(
        f"  {method:17s} {value:9.4f} ± {error:.4f}   {seconds:8.1f} s, {cpu:.1f} s of processor",
        flush=True,
    )


def verdict(found: dict[str, list[dict]], is_missing: bool) -> str:
    """Say how ours compares with the best peer, and with the flow peers' seconds."""
    whole = {
        method: results
        for method, results in found.items()
        if results
        and all("nats" in result and not math.isnan(result["nats"]) for result in results)
    }
    if OURS not in whole or len(whole) == 1:
        return "  → nothing to compare"
    sign = -1 if is_missing else 1
    nats = {
        method: sign * np.array([r["nats"] for r in results]) for method, results in whole.items()
    }
    seconds = {method: np.mean([r["cpu"] for r in results]) for method, results in whole.items()}
    best = max(
        (method for method in nats if method != OURS), key=lambda method: nats[method].mean()
    )
    gain, error = mean_and_error(nats[OURS] - nats[best])
    if gain >= 0:
        told = f"best, {gain:.4f} ± {error:.4f} nats before {best}"
    elif gain >= -error:
        told = f"within one standard error of {best}: {gain:.4f} ± {error:.4f} nats"
    else:
        told = f"LOST to {best}: {gain:.4f} ± {error:.4f} nats"
    faster = [m for m in FLOW_PEERS if m in seconds and seconds[m] < seconds[OURS]]
    speed = "slower than " + ", ".join(faster) if faster else "no flow peer is faster"
    return f"  → {told}; {speed}"


def run(data: str, arguments: argparse.Namespace, kept: dict) -> None:
    """Measure, print and keep one data set's rows."""
    is_missing = data in DENSITIES
    splits = range(arguments.splits)
    train, test, truth = split(data, 0, arguments.rows)
    floor = "" if truth is None else f", true entropy {-truth.mean():.4f} on the first test rows"
    unit = "nats missing" if is_missing else "nats a row"
    print(f"{data}: {len(train)} × {train.shape[1]} rows, {len(test)} to test, {unit}{floor}")
    found = {}
    for method in METHODS:
        results = []
        for index in splits:
            key = f"{data}|{arguments.rows}|{method}|{index}"
            is_new = key not in kept or method in arguments.again
            if method in arguments.methods and is_new:
                kept[key] = measure(method, data, index, arguments.rows)
                if arguments.save:
                    arguments.save.write_text(json.dumps(kept, indent=0))
            if key in kept:
                results.append(kept[key])
        if results:
            found[method] = results
            show(method, results)
    print(verdict(found, is_missing) + "\n", flush=True)


def main():
    parser = argparse.ArgumentParser(description="Density estimators on the same rows.")
    names = [*DENSITIES, *TABLES]
    parser.add_argument("--data", nargs="+", default=names, choices=names)
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=list(METHODS))
    parser.add_argument("--splits", type=int, default=5, choices=range(1, 6))
    parser.add_argument("--rows", type=int, help="fewer rows than there are")
    parser.add_argument("--quick", action="store_true", help="two splits of 1000 rows")
    parser.add_argument("--save", type=Path, help="keep results here, and go on from them")
    parser.add_argument("--again", nargs="+", default=[], choices=list(METHODS))
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.splits, arguments.rows = QUICK_SPLITS, QUICK_ROWS
    kept = {}
    if arguments.save and arguments.save.exists():
        kept = json.loads(arguments.save.read_text())
    for data in arguments.data:
        run(data, arguments, kept)


if __name__ == "__main__":
    main()
