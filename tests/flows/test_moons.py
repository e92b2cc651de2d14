"""Seed 001 after training: a zero-kernel coupling flow that training switches on."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from sklearn.datasets import make_moons

import gauss_flows as gf


@eqx.filter_jit
def there_and_back(flow, x):
    z = jax.vmap(flow.bijection.inverse)(x)
    return jax.vmap(flow.bijection.transform)(z), flow.log_prob(x)


def test_training_switches_the_kernels_on_and_keeps_the_inverse(x64):
    x, _ = make_moons(n_samples=5000, noise=0.1, random_state=0)
    x = jnp.asarray((x - x.mean(0)) / x.std(0))
    start = gf.fit_rbig_coupling(x, jr.key(0), n_layers=4, n_components=8, random_state=0)
    # The seed's 600 steps of 512 rows, at its rate and without held-out rows.
    trained, history = gf.fit_gaussianization_flow(
        jr.key(1), start, x, learning_rate=5e-4, max_steps=600, val_prop=0, show_progress=False
    )
    kernels = [
        float(jnp.max(jnp.abs(layer._coupling.conditioner.layers[-1].weight)))
        for layer in trained.bijection.bijection.bijections
        if isinstance(layer, gf.MixtureGaussianCDFCoupling)
    ]
    assert len(kernels) == 8
    assert min(kernels) > 0.005
    back, log_prob = there_and_back(trained, x)
    assert log_prob.mean() >= -1.81
    assert history["train"][-1] < history["train"][0]
    assert np.abs(back - x).max() <= 1e-9
