"""Second derivatives of whole flows: Hessians, their products, penalties on the score."""

from functools import partial

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

import gauss_flows as gf
from bijections.registry import randomised
from gauss_flows.numerics.quick_jit import quick_jit

SMALL_NETWORK = {"nn_width": 6, "nn_depth": 1}
FLOWS = {
    "diagonal": lambda: gf.gaussianization_flow(jr.key(0), n_dims=3, n_layers=2, n_components=3),
    "mixture coupling": lambda: gf.mixture_coupling_flow(
        jr.key(0), n_dims=3, n_layers=2, n_components=3, **SMALL_NETWORK
    ),
}


# Eight programs that run once: what counts is how soon they are compiled.
@partial(quick_jit, runs_once=True)
def derivatives(flow, x, v):
    """By every route that users take, row by row and in a batch."""

    def product(point, direction):
        return jax.jvp(jax.grad(flow.log_prob), (point,), (direction,))[1]

    def penalty(rows):
        return jnp.sum(jax.vmap(jax.grad(flow.log_prob))(rows) ** 2)

    return {
        "forward over forward": jax.jacfwd(jax.jacfwd(flow.log_prob))(x[0]),
        "forward over reverse": jax.hessian(flow.log_prob)(x[0]),
        "of the map": jax.hessian(lambda row: jnp.sum(flow.bijection.inverse(row)))(x[0]),
        "of the inverse": jax.hessian(lambda row: jnp.sum(flow.bijection.transform(row)))(x[0]),
        "batch": jax.vmap(jax.hessian(flow.log_prob))(x),
        "products": jax.vmap(product)(x, v),
        "penalty": jax.grad(penalty)(x),
        "score": jax.vmap(jax.grad(flow.log_prob))(x),
    }


@pytest.mark.parametrize("name", FLOWS)
def test_every_route_gives_the_same(x64, name):
    flow = randomised(FLOWS[name](), scale=0.1)
    x, v = jr.normal(jr.key(1), (2, 16, 3))
    found = derivatives(flow, x, v)
    hessians = found["batch"]
    assert np.abs(hessians).min() > 0
    for route in ("forward over forward", "forward over reverse"):
        np.testing.assert_allclose(found[route], hessians[0], rtol=1e-8, atol=1e-8)
    np.testing.assert_allclose(
        found["products"], np.einsum("nij,nj->ni", hessians, v), rtol=1e-8, atol=1e-8
    )
    expected = 2 * np.einsum("nij,nj->ni", hessians, found["score"])
    np.testing.assert_allclose(found["penalty"], expected, rtol=1e-8, atol=1e-8)
    # Against differences of the score.
    step = 1e-5
    score = eqx.filter_jit(jax.grad(lambda row: flow.log_prob(row)))
    columns = [
        (score(x[0] + e) - score(x[0] - e)) / (2 * step) for e in step * np.eye(3, dtype=float)
    ]
    np.testing.assert_allclose(hessians[0], np.stack(columns, axis=1), rtol=1e-4, atol=1e-6)
    for route in ("of the map", "of the inverse"):
        np.testing.assert_allclose(found[route], found[route].T, rtol=1e-8, atol=1e-8)
        assert np.all(np.isfinite(found[route]))
