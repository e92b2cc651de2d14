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
    "affine": partial(gf.affine_coupling_flow, **NETWORK),
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


@pytest.mark.parametrize(
    ("family", "sampling"),
    [
        ("diagonal", "inverse"),
        ("mixture", "inverse"),
        ("mixture", "analytic"),
    ],
)
def test_the_gradient_through_the_draw(family, sampling, x64):
    vector, rebuild = trainable_vector(start(family, sampling))
    loss = jax.jit(jax.value_and_grad(lambda v: gap(rebuild(v), jr.key(1))))
    _, gradient = loss(vector)
    assert np.mean(gradient != 0) > 0.9
    for direction in jr.normal(jr.key(2), (4, vector.size)) / vector.size**0.5:
        difference = loss(vector + 1e-5 * direction)[0] - loss(vector - 1e-5 * direction)[0]
        np.testing.assert_allclose(direction @ gradient, difference / 2e-5, rtol=1e-5, atol=1e-6)


def test_without_the_score_the_gradient_keeps_its_mean(x64):
    vector, rebuild = trainable_vector(start("affine", "inverse"))

    def loss(v, key, kind):
        flow = rebuild(v)
        if kind == "whole":
            return gap(flow, key)
        d = PathGradientFlowDist(flow)
        x = d.sample(key, (4,))
        return jnp.mean(d.log_prob(x) - jax.vmap(skewed_posterior.log_density)(x))

    @jax.jit
    def scores():
        def score(key):
            return jax.grad(lambda v: loss(v, key, "whole") - loss(v, key, "path"))(vector)

        return jax.vmap(score)(jr.split(jr.key(3), 1000))

    score = scores()
    error = score.std(0) / 1000**0.5
    assert np.all(np.abs(score.mean(0)) < 5 * error + 1e-12)
    assert np.mean(error > 1e-6) > 0.9


def test_which_flows_have_no_network():
    flows = {name: make(jr.key(0), n_dims=4, n_layers=1) for name, make in FAMILIES.items()}
    assert {name: is_steady(flow) for name, flow in flows.items()} == {
        "diagonal": True,
        "mixture": False,
        "affine": False,
    }
    assert is_steady(posterior_flow(flows["diagonal"], jnp.zeros(4), 1.0, "analytic"))
