"""Guides for variational inference on a posterior whose evidence is known: steps against gap.

    python benchmarks/numpyro_guide.py [--steps 8000] [--seeds 3]

The posterior is a correlated 4-d normal, skewed coordinate by coordinate (sinh-arcsinh) and bent.
The gap is log-evidence − ELBO = KL(guide ‖ posterior) in nats, from 20 000 draws, so that 0 is the
true optimum. All guides take the same optimiser (Adam, cosine decay to 0, gradient clipped at norm
10) and the same number of draws a step; each runs at two peak step sizes, and the better one's row
is printed, medians over seeds. Seconds are those of all steps, compiling apart.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro
import optax
from flowjax.bijections import RationalQuadraticSpline
from flowjax.distributions import StandardNormal
from flowjax.experimental import numpyro as bridge
from flowjax.flows import masked_autoregressive_flow
from numpyro.infer import SVI, Trace_ELBO
from numpyro.infer.autoguide import AutoBNAFNormal, AutoIAFNormal, AutoMultivariateNormal

import gauss_flows as gf
from gauss_flows.numpyro import FlowGuide

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from skewed_posterior import LOG_EVIDENCE, N_DIMS, model

STEP_SIZES = (1e-2, 3e-3)
MARKS = (1, 2, 4, 8)  # eighths of the steps


class Run(NamedTuple):
    """One guide trained once: gaps at the marks, the last one's error, seconds."""

    gaps: list[float]
    error: float
    seconds: float
    compile_seconds: float


def flowjax_guide(seed: int, transformer=None) -> Callable[[], None]:
    flow = masked_autoregressive_flow(
        jr.key(seed), base_dist=StandardNormal((N_DIMS,)), transformer=transformer, invert=False
    )

    def guide():
        bridge.sample("x", bridge.register_params("flow", flow))

    return guide


def guides(seed: int) -> dict[str, Callable]:
    coupling = partial(gf.mixture_coupling_flow, n_layers=2, nn_width=32, nn_depth=1)
    spline = RationalQuadraticSpline(knots=8, interval=4)
    return {
        "ours, diagonal flow (the default)": FlowGuide(model),
        "ours, diagonal, with the score": FlowGuide(model, path_gradient=False),
        "ours, diagonal, analytic draws": FlowGuide(model, sampling="analytic"),
        "ours, mixture coupling": FlowGuide(model, coupling),
        "ours, mixture coupling, analytic draws": FlowGuide(model, coupling, sampling="analytic"),
        "flowjax bridge, masked autoregressive": flowjax_guide(seed),
        "flowjax bridge, the same with splines": flowjax_guide(seed, spline),
        "NumPyro AutoMultivariateNormal": AutoMultivariateNormal(model),
        "NumPyro AutoIAFNormal": AutoIAFNormal(model, hidden_dims=[32, 32]),
        "NumPyro AutoBNAFNormal": AutoBNAFNormal(model),
    }


def train(guide: Callable, seed: int, n_steps: int, n_draws: int, step_size: float) -> Run:
    schedule = optax.cosine_decay_schedule(step_size, n_steps)
    optimizer = optax.chain(optax.clip_by_global_norm(10.0), optax.adam(schedule))
    svi = SVI(model, guide, optimizer, Trace_ELBO(num_particles=n_draws))
    start = time.perf_counter()
    state = svi.init(jr.key(seed))

    def advance(state):
        length = n_steps // MARKS[-1]
        return jax.lax.scan(lambda s, _: (svi.update(s)[0], None), state, length=length)[0]

    compiled = jax.jit(advance).lower(state).compile()
    compile_seconds = time.perf_counter() - start
    exact = SVI(model, guide, optimizer, Trace_ELBO(num_particles=1000))
    exact.constrain_fn = svi.constrain_fn

    @jax.jit
    def losses(state):
        keys = jr.split(jr.key(1), 20)
        return jax.lax.map(lambda key: exact.evaluate(state._replace(rng_key=key)), keys)

    gaps, error, seconds = [], 0.0, 0.0
    for mark in range(1, MARKS[-1] + 1):
        start = time.perf_counter()
        state = jax.block_until_ready(compiled(state))
        seconds += time.perf_counter() - start
        if mark in MARKS:
            values = losses(state) + LOG_EVIDENCE
            gaps.append(float(jnp.mean(values)))
            error = float(jnp.std(values, ddof=1) / values.size**0.5)
    return Run(gaps, error, seconds, compile_seconds)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--draws", type=int, default=32, help="draws a step")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="guides whose name has this in it")
    options = parser.parse_args()
    marks = [options.steps * mark // MARKS[-1] for mark in MARKS]
    print(f"numpyro {numpyro.__version__}, jax {jax.__version__}, {options.draws} draws a step")
    print(
        f"{'gap in nats after':40}"
        + "".join(f"{n:>8}" for n in marks)
        + "   error  step  seconds (compiling)"
    )
    for name in guides(0):
        if options.only not in name:
            continue
        best = None
        for step_size in STEP_SIZES:
            runs = [
                train(guides(seed)[name], seed, options.steps, options.draws, step_size)
                for seed in range(options.seeds)
            ]
            gaps = [statistics.median(run.gaps[i] for run in runs) for i in range(len(marks))]
            row = (
                gaps,
                statistics.median(run.error for run in runs),
                step_size,
                statistics.median(run.seconds for run in runs),
                statistics.median(run.compile_seconds for run in runs),
            )
            # A run that ended in NaN is no better than any.
            if best is None or not best[0][-1] <= gaps[-1]:
                best = row
        gaps, error, step_size, seconds, compile_seconds = best
        cells = "".join(f"{gap:8.3f}" for gap in gaps)
        print(
            f"{name:40}{cells}{error:8.3f}{step_size:6.0e}{seconds:9.1f} ({compile_seconds:.1f})",
            flush=True,
        )


if __name__ == "__main__":
    main()
