"""Eager calls compile once, and a deep flow is a program no longer than a shallow one."""

from contextlib import contextmanager

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
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
        randomised(getattr(gf, name)(jr.key(0), n_dims=3, n_layers=2, **FACTORIES[name]), seed)
        for seed in (0, 1)
    )
    rows = [jr.normal(jr.key(seed), (6, 3)) for seed in (1, 2)]
    keys = [jr.key(3), jr.key(4)]

    def call(flow, x, key):
        return jax.block_until_ready(
            (
                flow.log_prob(x),
                flow.log_prob(x[0]),
                flow.sample(key, (6,)),
                flow.bijection.inverse(x[0]),
                flow.bijection.transform(x[0]),
                flow.bijection.inverse_and_log_det(x[0]),
                gf.forward_with_intermediates(flow, x),
            )
        )

    # Slicing and drawing compile as well: have them ready before counting.
    points = [x[0] for x in rows]
    call(first, rows[0], keys[0])
    with compilations() as seen:
        call(first, rows[1], keys[1])
        # Nor does a flow of other parameters, as after a training step.
        call(second, rows[0], keys[1])
    assert not seen
    del points


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
        assert length(64, transformation) < 1.2 * length(4, transformation)


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

    assert length(8) > 1.5 * length(4)
