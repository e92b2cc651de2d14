"""Side-by-side timing: the contenders take turns, so that a noisy machine is noisy for all."""

import statistics
import time
from collections.abc import Callable, Hashable
from typing import TypeVar

import jax

Name = TypeVar("Name", bound=Hashable)


def side_by_side(
    contenders: dict[Name, Callable[[], object]], rounds: int = 11
) -> dict[Name, float]:
    """Median seconds of each contender; the first, untimed call of each compiles."""
    for run in contenders.values():
        jax.block_until_ready(run())
    seconds: dict[Name, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            start = time.perf_counter()
            jax.block_until_ready(run())
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values) for name, values in seconds.items()}
