"""The gradient a guide learns by, through the draw, against finite differences."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from paramax import NonTrainable

import gauss_flows as gf
import skewed_posterior
from bijections.registry import randomised
from gauss_flows.numpyro.path_gradient import PathGradientFlowDist, is_steady
from gauss_flows.numpyro.posterior_flow import posterior_flow

NETWORK = {"nn_width": 4, "nn_depth": 1}
FAMILIES = {
    "diagonal": partial(gf.gaussianization_flow, n_components=3),
    "mixture": partial(gf.mixture_coupling_flow, n_components=3, **NETWORK),
    "spline": partial(gf.coupling_gaussianization_flow, n_bins=4, **NETWORK),
}


def trainable_vector(flow):
    trainable, rest = eqx.partition(
        flow, eqx.is_inexact_array, is_leaf=lambda node: isinstance(node, NonTrainable)
    )
    vector, unravel = ravel_pytree(trainable)
    return vector, lambda v: eqx.combine(
        unravel(v), rest, is_leaf=lambda node: isinstance(node, NonTrainable)
    )


def start(family, sampling):
    flow = randomised(FAMILIES[family](jr.key(0), n_dims=4, n_layers=2))
    return posterior_flow(flow, jnp.full(4, 0.3), 0.7, sampling)


def gap(flow, key):
    """What SVI's loss is, up to the evidence, from four draws."""
    x, log_q = flow.sample_and_log_prob(key, (4,))
    return jnp.mean(log_q - jax.vmap(skewed_posterior.log_density)(x))


@pytest.mark.parametrize("sampling", ["inverse", "analytic"])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_gradient_through_the_draw(family, sampling, x64):
    vector, rebuild = trainable_vector(start(family, sampling))

    def loss(v):
        return gap(rebuild(v), jr.key(1))

    gradient = jax.jit(jax.grad(loss))(vector)
    directions = jr.normal(jr.key(2), (4, vector.size))
    directions /= jnp.linalg.norm(directions, axis=1, keepdims=True)
    values = jax.jit(jax.vmap(loss))(vector + 1e-5 * jnp.concatenate([directions, -directions]))
    np.testing.assert_allclose(
        directions @ gradient, (values[:4] - values[4:]) / 2e-5, rtol=1e-5, atol=1e-6
    )


def test_without_the_score_the_gradient_keeps_its_mean(x64):
    vector, rebuild = trainable_vector(start("diagonal", "inverse"))

    def loss(v, key, kind):
        flow = rebuild(v)
        if kind == "whole":
            return gap(flow, key)
        d = PathGradientFlowDist(flow)
        x = d.sample(key, (4,))
        return jnp.mean(d.log_prob(x) - jax.vmap(skewed_posterior.log_density)(x))

    @partial(jax.jit, static_argnums=0)
    def gradients(kind):
        keys = jr.split(jr.key(3), 1000)
        return jax.vmap(jax.grad(loss), (None, 0, None))(vector, keys, kind)

    score = gradients("whole") - gradients("path")
    error = score.std(0) / 1000**0.5
    assert np.all(np.abs(score.mean(0)) < 5 * error + 1e-12)
    assert np.mean(error > 1e-6) > 0.9


def test_which_flows_have_no_network():
    assert is_steady(start("diagonal", "inverse"))
    assert is_steady(start("diagonal", "analytic"))
    assert not is_steady(start("mixture", "inverse"))
    assert not is_steady(start("spline", "inverse"))
