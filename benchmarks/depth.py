"""What depth costs to compile, and whether a second eager call compiles again.

    python benchmarks/depth.py

Seconds to compile ``log_prob`` of a diagonal flow in 16 dimensions with 4 and with 64 layers,
a batch of 512 rows, float32, medians over fresh compilations in turn. Then, without `jit`, how
often a second call of ``log_prob``, ``sample`` and ``bijection.inverse`` compiles, and how long
it takes.
"""

import statistics
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr

import gauss_flows as gf

N_DIMS, DEPTHS, ROUNDS = 16, (4, 64), 5


def compile_seconds(n_layers: int) -> float:
    """From a flow that was never called to a compiled log_prob of a batch."""
    flow = gf.gaussianization_flow(jr.key(0), n_dims=N_DIMS, n_layers=n_layers)
    x = jnp.ones((512, N_DIMS))
    jax.clear_caches()
    start = time.perf_counter()
    eqx.filter_jit(lambda flow, x: flow.log_prob(x)).lower(flow, x).compile()
    return time.perf_counter() - start


def recompilations(flow, x) -> dict[str, int]:
    """Compilations in the second eager call of each method."""
    calls = {
        "log_prob": lambda: flow.log_prob(x),
        "sample": lambda: flow.sample(jr.key(0), (100,)),
        "bijection.inverse": lambda: flow.bijection.inverse(x[0]),
        "vmap of it": lambda: jax.vmap(flow.bijection.inverse)(x),
    }
    events: list[str] = []

    def note(event: str, duration: float, **_) -> None:
        del duration
        if "backend_compile" in event:
            events.append(event)

    counts = {}
    for name, call in calls.items():
        jax.block_until_ready(call())
        events.clear()
        jax.monitoring.register_event_duration_secs_listener(note)
        start = time.perf_counter()
        jax.block_until_ready(call())
        seconds = time.perf_counter() - start
        jax.monitoring.unregister_event_duration_listener(note)
        counts[f"{name} ({seconds * 1e3:.0f} ms)"] = len(events)
    return counts


def main() -> None:
    """Print both."""
    jax.config.update("jax_enable_compilation_cache", False)
    compile_seconds(4)  # wakes what every compilation needs
    seconds = {n_layers: [] for n_layers in DEPTHS}
    for _ in range(ROUNDS):
        for n_layers in DEPTHS:
            seconds[n_layers].append(compile_seconds(n_layers))
    shallow, deep = (statistics.median(seconds[n_layers]) for n_layers in DEPTHS)
    print(f"compiling log_prob, d = {N_DIMS}: {DEPTHS[0]} layers {shallow:.2f} s, ", end="")
    print(f"{DEPTHS[1]} layers {deep:.2f} s, ratio {deep / shallow:.2f}")
    for name, factory in (
        ("gaussianization_flow", gf.gaussianization_flow),
        ("coupling_gaussianization_flow", gf.coupling_gaussianization_flow),
        ("mixture_coupling_flow", gf.mixture_coupling_flow),
        ("affine_coupling_flow", gf.affine_coupling_flow),
    ):
        flow = factory(jr.key(0), n_dims=2)
        counts = recompilations(flow, jr.normal(jr.key(1), (100, 2)))
        print(f"{name}: compilations in a second eager call: {counts}", flush=True)


if __name__ == "__main__":
    main()
