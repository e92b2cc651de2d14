"""The Keras seed's own code on two moons, with what a warm start adds.

    KERAS_BACKEND=jax python benchmarks/keras_moons.py     # or tensorflow, torch

Prints bijectors and parameters, the final loss of the seed's recipe from three random starts, the
same after a warm start, held-out figures on 5000 fresh points, a warm start alone, round trips in
both precisions, and what one layer makes of latents far out. The data's own entropy is 1.1256
nats: a training loss below it is overfitting. Held out, the true density has 1.1423 on the fresh
points, since 5000 are a small sample; what a flow has above the truth is printed besides, and on
eight more sets of points.
"""

import os

os.environ.setdefault("KERAS_BACKEND", "jax")
os.environ.setdefault("JAX_ENABLE_X64", "1")

import keras
import numpy as np
from keras import ops
from scipy.optimize import brentq
from scipy.special import logsumexp
from scipy.stats import norm
from sklearn.datasets import make_moons

from gaussianization.gauss_keras import (
    GaussianizationFlow,
    MixtureCDFGaussianization,
    base_nll_loss,
    initialize_flow_from_ig,
    make_coupling_flow,
    make_gaussianization_flow,
)

SETTINGS = {"input_dim": 2, "num_blocks": 4, "num_components": 8, "hidden": (64, 64)}
SEEDS = (0, 1, 2)


def moons() -> tuple[np.ndarray, np.ndarray]:
    """The seed's 5000 points and 5000 fresh ones, on the training scale, in float64."""
    train, _ = make_moons(n_samples=5000, noise=0.05, random_state=0)
    fresh, _ = make_moons(n_samples=5000, noise=0.05, random_state=1)
    mean, deviation = train.mean(0), train.std(0)
    return (train - mean) / deviation, (fresh - mean) / deviation


def true_nll(x: np.ndarray) -> float:
    """What the density that points are drawn from has on them: noise around two half circles."""
    mean, deviation = (
        part(make_moons(n_samples=5000, noise=0.05, random_state=0)[0], axis=0)
        for part in (np.mean, np.std)
    )
    curves, _ = make_moons(n_samples=5000, noise=None, shuffle=False)
    parts = []
    for rows in np.array_split(x.astype(float) * deviation + mean, 20):
        squares = ((rows[:, None] - curves) ** 2).sum(-1)
        parts.append(logsumexp(-0.5 * squares / 0.05**2, axis=1) - np.log(len(curves)))
    normal = np.log(2 * np.pi * 0.05**2)
    return float(normal - np.log(deviation).sum() - np.concatenate(parts).mean())


def further_points() -> np.ndarray:
    """Eight more sets of 5000 points, on the training scale."""
    train, _ = make_moons(n_samples=5000, noise=0.05, random_state=0)
    sets = [make_moons(n_samples=5000, noise=0.05, random_state=s)[0] for s in range(2, 10)]
    return (np.concatenate(sets) - train.mean(0)) / train.std(0)


def nll(flow: GaussianizationFlow, x: np.ndarray) -> float:
    """Mean negative log-likelihood in nats."""
    return -float(ops.convert_to_numpy(flow.log_prob(x)).mean())


def train(flow: GaussianizationFlow, x: np.ndarray, **options) -> list[float]:
    """The seed's recipe; returns the losses."""
    flow.compile(optimizer=keras.optimizers.Adam(learning_rate=3e-3), loss=base_nll_loss)
    settings = {"batch_size": 512, "epochs": 200, "verbose": 0, **options}
    return flow.fit(x, x, **settings).history["loss"]


def stop_early(flow: GaussianizationFlow, x: np.ndarray, epochs: int = 300) -> None:
    """Averaged weights under a falling rate, chosen by a tenth of the rows."""
    rate = keras.optimizers.schedules.CosineDecay(1e-2, epochs * -(-9 * len(x) // 10 // 512))
    averaged = {"use_ema": True, "ema_momentum": 0.995}
    flow.compile(optimizer=keras.optimizers.AdamW(rate, weight_decay=0.3, **averaged))
    swap = keras.callbacks.SwapEMAWeights(swap_on_epoch=True)
    stop = keras.callbacks.EarlyStopping(patience=100, restore_best_weights=True)
    settings = {"batch_size": 512, "epochs": epochs, "verbose": 0, "validation_split": 0.1}
    flow.fit(x, callbacks=[swap, stop], **settings)


def round_trip(flow: GaussianizationFlow, x: np.ndarray) -> str:
    """Quantiles of the distance between a point and its way there and back."""
    back = ops.convert_to_numpy(flow.invert(flow.forward_and_log_det(x)[0]))
    error = np.linalg.norm(back - x, axis=-1)
    return f"{np.median(error):.1e} / {np.percentile(error, 95):.1e} / {error.max():.1e}"


def in_float64(flow: GaussianizationFlow) -> GaussianizationFlow:
    """The same flow in double precision."""
    double = make_coupling_flow(**SETTINGS, dtype="float64")
    double.set_weights(flow.get_weights())
    return double


def far_latents(dtype: str) -> float:
    """Greatest relative error of x at z = ±5, ±8 and ±40 of one layer."""
    rng = np.random.default_rng(0)
    layer = MixtureCDFGaussianization(num_components=4, dtype=dtype)
    layer.build((None, 1))
    layer.raw.assign(0.2 * rng.normal(size=(1, 3, 4)))
    mixture = layer.mixture
    parts = (mixture.log_weights, mixture.means, mixture.log_scales)
    log_weights, means, log_scales = (
        ops.convert_to_numpy(part).astype(float).ravel() for part in parts
    )

    def excess(x: float, z: float) -> float:
        u = (means - x) / np.exp(log_scales) if z > 0 else (x - means) / np.exp(log_scales)
        return np.logaddexp.reduce(log_weights + norm.logcdf(u)) - norm.logsf(abs(z))

    worst = 0.0
    for z in (-40.0, -8.0, -5.0, 5.0, 8.0, 40.0):
        truth = brentq(excess, -1e4, 1e4, args=(z,), xtol=1e-13, rtol=1e-15)
        x = layer.inverse_and_log_det(np.array([[z]], dtype))[0]
        worst = max(worst, abs(float(ops.convert_to_numpy(x)[0, 0]) / truth - 1.0))
    return worst


def main() -> None:
    """Print the table."""
    print(f"backend {keras.backend.backend()}")
    double, double_fresh = moons()
    x, fresh = double.astype("float32"), double_fresh.astype("float32")
    more = further_points().astype("float32")
    truth, truth_of_more = true_nll(double_fresh), true_nll(more)
    print(f"the true density: {truth:.4f} held out, {truth_of_more:.4f} on more points")

    def report(what: str, flow: GaussianizationFlow) -> str:
        value, of_more = nll(flow, fresh), nll(flow, more)
        return (
            f"  {what} held out {value:.4f}, {value - truth:.4f} above the truth; on more points "
            f"{of_more:.4f}, {of_more - truth_of_more:.4f} above"
        )

    finals, warm, flow = [], [], None
    for seed in SEEDS:
        keras.utils.set_random_seed(seed)
        flow = make_coupling_flow(**SETTINGS)
        if seed == SEEDS[0]:
            shared = make_coupling_flow(**SETTINGS, shared_mixture=True)
            print(
                f"bijectors {len(flow.bijector_layers)}; parameters per-dim "
                f"{flow.count_params()}, shared {shared.count_params()}"
            )
        losses = train(flow, x)
        finals.append(losses[-1])
        print(
            f"seed {seed}: final loss {losses[-1]:.4f} (min {min(losses):.4f}), as trained "
            f"{nll(flow, x):.4f}, held out {nll(flow, fresh):.4f}"
        )
        print(f"  round trip float32 {round_trip(flow, x)}")
        print(f"  round trip float64 {round_trip(in_float64(flow), double)}")
        keras.utils.set_random_seed(seed)
        flow = make_coupling_flow(**SETTINGS)
        initialize_flow_from_ig(flow, x, rotation="search")
        warm.append(train(flow, x)[-1])
        keras.utils.set_random_seed(seed)
        flow = make_coupling_flow(**SETTINGS)
        initialize_flow_from_ig(flow, x, rotation="fit", smooth=True)
        stop_early(flow, x)
        print(f"  warm start, then trained {warm[-1]:.4f}")
        print(report("warm start, early stopping:", flow))
        keras.utils.set_random_seed(seed)
        alone = make_gaussianization_flow(input_dim=2, num_blocks=8, num_components=8)
        z = initialize_flow_from_ig(alone, x, rotation="fit", smooth=True, random_state=seed)
        deviation = np.abs(np.cov(z.T) - np.eye(2)).max()
        print(report("warm start alone, 8 blocks:", alone))
        print(f"  its latents |mean| {np.abs(z.mean(0)).max():.3f}, |cov - I| {deviation:.3f}")
    after = np.median(warm)
    print(f"median of the final losses {np.median(finals):.4f}, after a warm start {after:.4f}")
    six = {**SETTINGS, "input_dim": 6}
    counts = [make_coupling_flow(**six, shared_mixture=s).count_params() for s in (False, True)]
    print(f"parameters at d = 6: per-dim {counts[0]}, shared {counts[1]}")
    print(f"latents ±5, ±8, ±40: {far_latents('float32'):.1e}, {far_latents('float64'):.1e}")


if __name__ == "__main__":
    main()
