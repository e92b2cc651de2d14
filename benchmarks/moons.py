"""RBIG = diagonal flow = zero-kernel coupling flow, on two moons: the second seed's figures.

    python benchmarks/moons.py

Prints parameters, the greatest differences between the two flows in both precisions, the
coupling's kernels, mean log-densities before and after the seed's own 600 training steps, the
round trip, and what the library's own trainer reaches on fresh points.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
from sklearn.datasets import make_moons

import gauss_flows as gf

N_BLOCKS, N_COMPONENTS = 4, 8


def moons() -> tuple[np.ndarray, np.ndarray]:
    """The seed's 5000 training points and 5000 fresh ones, on the training scale."""
    train, _ = make_moons(n_samples=5000, noise=0.1, random_state=0)
    fresh, _ = make_moons(n_samples=5000, noise=0.1, random_state=1)
    mean, deviation = train.mean(0), train.std(0)
    return (train - mean) / deviation, (fresh - mean) / deviation


def count(flow) -> int:
    """Every floating number in the flow."""
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))


def mean_log_prob(flow, x) -> float:
    """Mean log-density in nats."""
    return float(jnp.mean(eqx.filter_jit(lambda flow, x: flow.log_prob(x))(flow, x)))


def kernels(flow) -> list[float]:
    """The greatest weight of each coupling's final layer."""
    return [
        float(jnp.max(jnp.abs(layer._coupling.conditioner.layers[-1].weight)))
        for layer in flow.bijection.bijection.bijections
        if isinstance(layer, gf.MixtureGaussianCDFCoupling)
    ]


def train_as_the_seed(flow, x, *, steps=600, peak_lr=5e-4, batch=512, seed=1):
    """The seed's loop, its steps in one scan."""
    params, static = eqx.partition(flow, eqx.is_inexact_array)
    optimizer = optax.chain(
        optax.clip_by_global_norm(1.0), optax.adam(optax.cosine_onecycle_schedule(steps, peak_lr))
    )

    def step(carry, _):
        params, state, key = carry
        key, batch_key = jr.split(key)
        rows = x[jr.randint(batch_key, (batch,), 0, x.shape[0])]

        def loss(p):
            return -jnp.mean(jax.vmap(eqx.combine(p, static).log_prob)(rows))

        gradient = jax.grad(loss)(params)
        updates, state = optimizer.update(gradient, state)
        return (eqx.apply_updates(params, updates), state, key), None

    @jax.jit
    def run(params):
        start = (params, optimizer.init(params), jr.key(seed))
        return jax.lax.scan(step, start, None, length=steps)[0][0]

    return eqx.combine(run(params), static)


def differences(diagonal, coupling, x) -> tuple[float, float]:
    """Greatest pushforward and log-density differences of the two flows."""
    push = eqx.filter_jit(lambda flow, rows: jax.vmap(flow.bijection.inverse)(rows))
    density = eqx.filter_jit(lambda flow, rows: flow.log_prob(rows))
    moved = jnp.linalg.norm(push(diagonal, x) - push(coupling, x), axis=-1)
    return float(moved.max()), float(jnp.max(jnp.abs(density(diagonal, x) - density(coupling, x))))


def round_trip(flow, x) -> float:
    """Greatest distance between a point and its way there and back."""
    there_and_back = eqx.filter_jit(
        lambda flow, rows: jax.vmap(lambda r: flow.bijection.transform(flow.bijection.inverse(r)))(
            rows
        )
    )
    return float(jnp.max(jnp.linalg.norm(there_and_back(flow, x) - x, axis=-1)))


def main() -> None:
    """Print the table."""
    train, fresh = moons()
    for double in (False, True):
        with jax.enable_x64(double):
            x = jnp.asarray(train)
            settings = {"n_layers": N_BLOCKS, "n_components": N_COMPONENTS, "random_state": 0}
            diagonal = gf.fit_rbig(x, **settings)
            coupling = gf.fit_rbig_coupling(x, jr.key(0), **settings)
            pushforward, log_prob = differences(diagonal, coupling, x)
            print(f"{x.dtype}: {count(diagonal)} and {count(coupling)} parameters")
            print(f"  pushforward error, max  {pushforward:.1e}; log-prob error {log_prob:.1e}")
    with jax.enable_x64(True):
        x, y = jnp.asarray(train), jnp.asarray(fresh)
        print(f"kernels at the start      {kernels(coupling)}")
        print(f"mean log p, RBIG          {mean_log_prob(coupling, x):.4f}")
        print(f"round trip, RBIG          {round_trip(coupling, x):.1e}")
        trained = train_as_the_seed(coupling, x)
        print(f"kernels after training    {[round(k, 3) for k in kernels(trained)]}")
        print(f"mean log p, 600 steps     {mean_log_prob(trained, x):.4f}")
        print(f"round trip, 600 steps     {round_trip(trained, x):.1e}")
        print(f"fresh points, 600 steps   {mean_log_prob(trained, y):.4f}")
        # 46804 parameters for 5000 points: weight decay is what keeps them from overfitting.
        schedule = optax.cosine_onecycle_schedule(1500, 5e-4)
        own, _ = gf.fit_gaussianization_flow(
            jr.key(1),
            coupling,
            x,
            optimizer=optax.adamw(schedule, weight_decay=1.0),
            max_steps=1500,
            show_progress=False,
        )
        print(f"fresh points, our trainer {mean_log_prob(own, y):.4f}")


if __name__ == "__main__":
    main()
