"""Eager calls compile once, and a deep flow is a program no longer than a shallow one."""

from contextlib import contextmanager

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import gauss_flows as gf
from bijections.registry import randomised

SMALL_NETWORK = {"nn_width": 6, "nn_depth": 1}
FACTORIES = {
    "gaussianization_flow": {"n_components": 3},
    "coupling_gaussianization_flow": {"n_bins": 4, **SMALL_NETWORK},
    "mixture_coupling_flow": {"n_components": 3, **SMALL_NETWORK},
    "affine_coupling_flow": SMALL_NETWORK,
}


@contextmanager
def compilations():
    """A list that grows by one for every program compiled meanwhile."""
    seen = []

    def listen(event, duration, **_):
        if "backend_compile" in event:
            seen.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        yield seen
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_compilations_are_seen():
    # What the tests below would miss if JAX renamed its events.
    with compilations() as seen:
        jax.jit(lambda x: jnp.sin(x) * 1.2345)(jnp.ones(7))
    assert seen


@pytest.mark.parametrize("name", FACTORIES)
def test_second_eager_calls_compile_nothing(name):
    first, second = (
        randomised(getattr(gf, name)(jr.key(0), n_dims=2, n_layers=2, **FACTORIES[name]), seed)
        for seed in (0, 1)
    )
    x, other_x = jr.normal(jr.key(1), (2, 6, 2))
    point, other_point = x[0], other_x[0]
    key, other_key = jr.split(jr.key(2))

    def call(flow, x, point, key):
        results = (
            flow.log_prob(x),
            flow.sample(key, (6,)),
            flow.bijection.inverse(point),
            flow.bijection.transform(point),
        )
        return jax.block_until_ready(results)

    _, samples, z, _ = call(first, x, point, key)
    assert samples.shape == (6, 2)
    np.testing.assert_allclose(first.bijection.transform(z), point, rtol=1e-4, atol=1e-5)
    with compilations() as seen:
        call(first, other_x, other_point, other_key)
        # Nor does a flow of other parameters, as after a training step.
        call(second, x, point, other_key)
    assert not seen


@pytest.mark.parametrize("name", FACTORIES)
def test_depth_does_not_lengthen_the_program(name):
    def length(n_layers, transformation):
        flow = getattr(gf, name)(jr.key(0), n_dims=16, n_layers=n_layers, **FACTORIES[name])
        lowered = eqx.filter_jit(transformation).lower(flow, jnp.zeros((8, 16)))
        return len(lowered.as_text().splitlines())

    def log_prob(flow, x):
        return jax.vmap(flow.log_prob)(x)

    def gradient(flow, x):
        return eqx.filter_grad(lambda flow: jnp.mean(log_prob(flow, x)))(flow)

    for transformation in (log_prob, gradient):
        assert length(64, transformation) < 1.05 * length(4, transformation)


def test_a_plain_chain_would_lengthen_it():
    # What the test above rejects.
    def length(n_layers):
        flow = gf.gaussianization_flow(jr.key(0), n_dims=16, n_layers=n_layers, n_components=3)
        layers = flow.bijection.bijection.bijections

        def run(layers, x):
            for layer in layers:
                x = layer.transform(x)
            return x

        return len(eqx.filter_jit(run).lower(layers, jnp.zeros(16)).as_text().splitlines())

    assert length(16) > 1.2 * length(4)
