"""What sampling costs beside log_prob, and beside zuko's GF.

    OMP_NUM_THREADS=1 python benchmarks/sampling.py [--dims 2 16 64]

10 000 points, float32, both jitted. The flows are near their start with every parameter
perturbed, so that no layer is trivial. zuko's GF has the same layers and components; it is left
out where zuko is not installed.
"""

import argparse

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from timing import side_by_side

import gauss_flows as gf

N_POINTS, N_LAYERS, N_COMPONENTS = 10_000, 4, 8


def perturbed(flow, key, scale: float):
    """The flow with noise added to every array of two or more axes."""
    params, static = eqx.partition(flow, eqx.is_inexact_array)
    leaves, structure = jax.tree.flatten(params)
    noisy = [
        leaf + scale * jr.normal(leaf_key, leaf.shape) if leaf.ndim > 1 else leaf
        for leaf, leaf_key in zip(leaves, jr.split(key, len(leaves)), strict=True)
    ]
    return eqx.combine(jax.tree.unflatten(structure, noisy), static)


def jitted(flow, key) -> dict:
    """log_prob and sample of one flow, as calls without arguments."""
    log_prob = eqx.filter_jit(lambda f, x: f.log_prob(x))
    sample = eqx.filter_jit(lambda f, k: f.sample(k, (N_POINTS,)))
    x = sample(flow, key)
    if not bool(jnp.all(jnp.isfinite(x))):
        raise RuntimeError("Expected finite samples.")
    return {"log_prob": lambda: log_prob(flow, x), "sample": lambda: sample(flow, key)}


def zuko_gf(n_dims: int) -> dict:
    """The same of zuko's GF, or nothing without zuko."""
    try:
        import torch
        import zuko
    except ImportError:
        return {}
    torch.manual_seed(0)
    flow = zuko.flows.GF(n_dims, transforms=N_LAYERS, components=N_COMPONENTS)()
    with torch.no_grad():
        x = flow.sample((N_POINTS,))

    def log_prob():
        with torch.no_grad():
            return flow.log_prob(x).numpy()

    def sample():
        with torch.no_grad():
            return flow.sample((N_POINTS,)).numpy()

    return {"log_prob": log_prob, "sample": sample}


def main() -> None:
    """Print one row for each flow and dimension."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dims", type=int, nargs="*", default=[2, 16, 64])
    for n_dims in parser.parse_args().dims:
        sizes = {"n_dims": n_dims, "n_layers": N_LAYERS, "n_components": N_COMPONENTS}
        flows = {
            "diagonal": perturbed(gf.gaussianization_flow(jr.key(0), **sizes), jr.key(1), 0.15),
            "mixture coupling": perturbed(
                gf.mixture_coupling_flow(jr.key(0), **sizes), jr.key(1), 0.03
            ),
        }
        contenders = {name: jitted(flow, jr.key(2)) for name, flow in flows.items()}
        if peer := zuko_gf(n_dims):
            contenders["zuko GF"] = peer
        seconds = side_by_side(
            {(name, call): run for name, pair in contenders.items() for call, run in pair.items()}
        )
        for name in contenders:
            log_prob, sample = seconds[name, "log_prob"], seconds[name, "sample"]
            print(
                f"d = {n_dims:2}  {name:17} log_prob {log_prob * 1e3:8.1f} ms   "
                f"sample {sample * 1e3:8.1f} ms   ratio {sample / log_prob:5.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
