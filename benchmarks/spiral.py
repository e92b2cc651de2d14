"""The first seed's spiral: its exact recipe, and the library's own trainer.

    python benchmarks/spiral.py [--own | --recipe]

Mean log-density, in nats, of the 4000 training points, as in the seed. The recipe: 1500 steps of
512, adam, one-cycle schedule with a peak of 3e-3, clipping at norm 1, float64. Ours: as many
steps of as many rows and the same parameters, the diagonal flow from the warm start.

The points are the seed's own, drawn with its generator, so that its figures can be compared; their
law is that of `gauss_flows.datasets.Spiral()`.
"""

import argparse
import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax

import gauss_flows as gf

DIAGONAL, COUPLING = (4, 8, 16), (2, 4, 8)


def spiral() -> np.ndarray:
    """The seed's 4000 points, standardised."""
    rng = np.random.default_rng(0)
    t = rng.uniform(0.5, 3.5, 4000)
    arm = (rng.integers(0, 2, 4000) * 2 - 1)[:, None]
    xy = arm * np.stack([t * np.cos(2.5 * t), t * np.sin(2.5 * t)], axis=1)
    xy = xy + 0.08 * rng.standard_normal((4000, 2))
    return (xy - xy.mean(0)) / xy.std(0)


def diagonal(n_layers: int):
    """The seed's diagonal flow."""
    return gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=n_layers, n_components=8)


def coupling(n_layers: int):
    """The seed's coupling flow."""
    return gf.coupling_gaussianization_flow(
        jr.key(0), n_dims=2, n_layers=n_layers, n_bins=8, nn_width=16, nn_depth=1
    )


def count(flow) -> int:
    """Every floating number in the flow."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))


def recipe(flow, x, *, steps=1500, peak_lr=3e-3, clip_norm=1.0, batch=512, seed=1):
    """The seed's training loop, its steps in one scan."""
    params, static = eqx.partition(flow, eqx.is_inexact_array)
    schedule = optax.cosine_onecycle_schedule(transition_steps=steps, peak_value=peak_lr)
    optimizer = optax.chain(optax.clip_by_global_norm(clip_norm), optax.adam(schedule))

    def step(carry, _):
        params, state, key = carry
        key, batch_key = jr.split(key)
        rows = x[jr.randint(batch_key, (batch,), 0, x.shape[0])]

        def loss(p):
            return -jnp.mean(jax.vmap(eqx.combine(p, static).log_prob)(rows))

        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (eqx.apply_updates(params, updates), state, key), None

    @jax.jit
    def run(params):
        start = (params, optimizer.init(params), jr.key(seed))
        return jax.lax.scan(step, start, None, length=steps)[0][0]

    return eqx.combine(run(params), static)


def own(flow, x):
    """As many steps with the library's trainer, at its default step size."""
    trained, _ = gf.fit_gaussianization_flow(
        jr.key(1),
        flow,
        x,
        max_steps=1500,
        batch_size=512,
        val_prop=0.0,
        patience=math.inf,
        show_progress=False,
    )
    return trained


def report(label: str, n_layers: int, flow, x) -> None:
    """Print one row."""
    value = float(jnp.mean(eqx.filter_jit(lambda flow, x: flow.log_prob(x))(flow, x)))
    print(f"{label:40} L = {n_layers:2} {count(flow):5} parameters  {value:.3f}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--own", action="store_true", help="only the library's trainer")
    parser.add_argument("--recipe", action="store_true", help="only the seed's recipe")
    arguments = parser.parse_args()
    with jax.enable_x64(True):
        x = jnp.asarray(spiral())
        if not arguments.own:
            for n_layers in DIAGONAL:
                report("diagonal, seed's recipe", n_layers, recipe(diagonal(n_layers), x), x)
            for n_layers in COUPLING:
                report("coupling, seed's recipe", n_layers, recipe(coupling(n_layers), x), x)
        if not arguments.recipe:
            for n_layers in DIAGONAL:
                flow = gf.warm_start(diagonal(n_layers), x, rotation="sliced")
                report("diagonal, warm start", n_layers, flow, x)
                report("diagonal, warm start and our trainer", n_layers, own(flow, x), x)
            for n_layers in COUPLING:
                report("coupling, our trainer", n_layers, own(coupling(n_layers), x), x)


if __name__ == "__main__":
    main()
