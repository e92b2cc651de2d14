"""Seconds to the end of the first training step, compile included, for every factory.

    python benchmarks/first_call.py [--dims 2 16 64]

Each factory at its defaults, batch 512, adam, float32, after JAX itself has been woken by a small
unrelated program. The persistent compilation cache is switched off.
"""

import argparse
import time

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import optax

import gauss_flows as gf

FACTORIES = {
    "gaussianization_flow": gf.gaussianization_flow,
    "coupling_gaussianization_flow": gf.coupling_gaussianization_flow,
    "mixture_coupling_flow": gf.mixture_coupling_flow,
    "affine_coupling_flow": gf.affine_coupling_flow,
}


def first_step(flow, x) -> tuple[float, float]:
    """Wall and processor seconds of one step of adam, from nothing compiled."""
    params, static = eqx.partition(flow, eqx.is_inexact_array)
    optimizer = optax.adam(1e-3)

    @eqx.filter_jit
    def step(params, state, rows):
        def loss(p):
            return -jnp.mean(jax.vmap(eqx.combine(p, static).log_prob)(rows))

        value, gradient = eqx.filter_value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return eqx.apply_updates(params, updates), state, value

    state = optimizer.init(params)
    wall, processor = time.perf_counter(), time.process_time()
    jax.block_until_ready(step(params, state, x)[2])
    return time.perf_counter() - wall, time.process_time() - processor


def main() -> None:
    """Print one row for each factory and dimension."""
    jax.config.update("jax_enable_compilation_cache", False)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=int, nargs="*", default=[2, 16, 64])
    jax.block_until_ready(jax.jit(jnp.sin)(jnp.ones(3)))
    for n_dims in parser.parse_args().dims:
        for name, factory in FACTORIES.items():
            flow = factory(jr.key(0), n_dims=n_dims)
            wall, processor = first_step(flow, jr.normal(jr.key(1), (512, n_dims)))
            print(
                f"d = {n_dims:2}  {name:30} {wall:5.1f} s wall  {processor:5.1f} s processor",
                flush=True,
            )
            jax.clear_caches()


if __name__ == "__main__":
    main()
