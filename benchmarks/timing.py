"""Side-by-side timing: the contenders take turns, so that a noisy machine is noisy for all."""

import statistics
import time
from collections.abc import Callable

import jax


def side_by_side(contenders: dict[str, Callable[[], object]], rounds: int = 11) -> dict[str, float]:
    """Median seconds of each contender; the first, untimed call of each compiles."""
    for run in contenders.values():
        jax.block_until_ready(run())
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
