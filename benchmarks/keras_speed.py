"""The Keras flows' exact tails and inverse against the formulas they replace.

    KERAS_BACKEND=jax python benchmarks/keras_speed.py     # or tensorflow, torch

Times drawing 10 000 samples against 40 unrolled bisections, and a training step of 512 rows
against the clipped formula, each in the same flow on the same weights, for diagonal and coupling
flows of 4 blocks at d = 2 and 16. The formulas are written as a mixture class would write them,
components on the last axis. What the flow compiles for our inverse it compiles for theirs; on
TensorFlow, bisections that are run as a class would run them, layer by layer and uncompiled, are
timed besides. Also prints what sampling costs without any inversion: the
conditioners, which no inverse can save. Medians of rounds in which the contenders take turns.
"""

import argparse
import os
import statistics
import time

os.environ.setdefault("KERAS_BACKEND", "jax")

import keras
import numpy as np
from keras import ops
from sklearn.datasets import make_moons

from gaussianization.gauss_keras import make_coupling_flow, make_gaussianization_flow
from gaussianization.gauss_keras.numerics import gaussianize as numerics

EXACT, QUANTILE = numerics.gaussianize, numerics.quantile


def _last(*parameters):
    return [ops.transpose(part, (1, 2, 0)) for part in parameters]


def _cdf(x, log_weights, means, log_scales):
    u = (ops.expand_dims(x, -1) - means) / ops.exp(log_scales)
    return ops.sum(ops.softmax(log_weights, axis=-1) * 0.5 * (1.0 + ops.erf(u / 2**0.5)), axis=-1)


def clipped(x, *parameters):
    """The forward map with its probabilities clipped at 1e-6."""
    log_weights, means, log_scales = _last(*parameters)
    p = ops.clip(_cdf(x, log_weights, means, log_scales), 1e-6, 1.0 - 1e-6)
    z = 2**0.5 * ops.erfinv(2.0 * p - 1.0)
    u = (ops.expand_dims(x, -1) - means) / ops.exp(log_scales)
    log_density = ops.logsumexp(log_weights - log_scales - 0.5 * u * u, axis=-1)
    return z, log_density + 0.5 * z * z


def bisected(z, *parameters):
    """40 halvings of [-50, 50]."""
    parameters = _last(*parameters)
    p = ops.clip(0.5 * (1.0 + ops.erf(z / 2**0.5)), 1e-6, 1.0 - 1e-6)
    low, high = ops.full_like(z, -50.0), ops.full_like(z, 50.0)
    for _ in range(40):
        middle = 0.5 * (low + high)
        right = _cdf(middle, *parameters) < p
        low, high = ops.where(right, middle, low), ops.where(right, high, middle)
    return 0.5 * (low + high)


def not_inverted(z, *parameters):
    """No inversion at all: what is left is the conditioners and rotations."""
    return z


def layer_by_layer(flow) -> np.ndarray:
    """10 000 samples by the layers' own inverses, operation by operation."""
    x = keras.random.normal((10_000, flow.input_dim), seed=1)
    for layer in reversed(flow.bijector_layers):
        x = layer.inverse(x)
    return ops.convert_to_numpy(x)


def data(d: int) -> np.ndarray:
    """5120 standardised rows: two moons, or correlated and skewed columns."""
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(5120, d)) @ rng.normal(size=(d, d))
    if d == 2:
        x, _ = make_moons(5120, noise=0.05, random_state=0)
    return ((x - x.mean(0)) / x.std(0)).astype("float32")


def flow_of(kind: str, d: int):
    """A fresh flow of 4 blocks."""
    keras.utils.set_random_seed(0)
    if kind == "diagonal":
        return make_gaussianization_flow(d, num_blocks=4)
    return make_coupling_flow(d, num_blocks=4)


def take_turns(contenders, rounds: int) -> dict[str, float]:
    """Median milliseconds of each, its first two runs left out."""
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 2):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    print(f"backend {keras.backend.backend()}")
    for d in (2, 16):
        for kind in ("diagonal", "coupling"):
            x, steps = data(d), 20
            forwards = {"exact": EXACT, "clipped": clipped}
            flows = {name: flow_of(kind, d) for name in forwards}
            for flow in flows.values():
                flow.compile(keras.optimizers.Adam(3e-3))

            def trained(name, flows=flows, forwards=forwards, x=x):
                numerics.gaussianize = forwards[name]
                flows[name].fit(x, batch_size=512, epochs=2, verbose=0)

            ms = take_turns({n: lambda n=n: trained(n) for n in forwards}, rounds)
            print(
                f"d = {d:2} {kind}: step {ms['exact'] / steps:.2f} ms, clipped "
                f"{ms['clipped'] / steps:.2f} ms, ratio {ms['exact'] / ms['clipped']:.2f}"
            )
            numerics.gaussianize = EXACT
            weights = flows["exact"].get_weights()
            inverses = {"ours": QUANTILE, "bisected": bisected, "none": not_inverted}
            if keras.backend.backend() == "tensorflow":
                inverses["uncompiled"] = bisected
            flows = {name: flow_of(kind, d) for name in inverses}
            for flow in flows.values():
                flow.set_weights(weights)

            def sampled(name, flows=flows, inverses=inverses):
                numerics.quantile = inverses[name]
                if name == "uncompiled":
                    return layer_by_layer(flows[name])
                return ops.convert_to_numpy(flows[name].sample(10_000, seed=1))

            ms = take_turns({n: lambda n=n: sampled(n) for n in inverses}, rounds)
            numerics.quantile = QUANTILE
            print(
                f"d = {d:2} {kind}: 10 000 samples {ms['ours']:.0f} ms, bisected "
                f"{ms['bisected']:.0f} ms, ratio {ms['bisected'] / ms['ours']:.1f} "
                f"(without inverting {ms['none']:.0f} ms)"
            )
            if "uncompiled" in ms:
                ratio = ms["uncompiled"] / ms["ours"]
                print(f"    bisected uncompiled {ms['uncompiled']:.0f} ms, ratio {ratio:.1f}")


if __name__ == "__main__":
    main()
