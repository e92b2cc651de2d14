"""FlowDist where a NumPyro distribution goes."""

import re

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from flowjax.bijections import Exp
from flowjax.distributions import LogNormal, Normal, Transformed
from numpyro.distributions import constraints
from numpyro.distributions.batch_util import promote_batch_shape, vmap_over
from numpyro.infer import MCMC, NUTS, Predictive

import gauss_flows as gf
from bijections.registry import randomised
from gauss_flows.numpyro import FlowDist

KEY = jr.key(0)


@pytest.fixture(scope="module")
def flow():
    return randomised(gf.gaussianization_flow(KEY, n_dims=2, n_layers=2, n_components=3))


@pytest.fixture(scope="module")
def conditional():
    flow = gf.affine_coupling_flow(KEY, n_dims=2, n_layers=2, nn_width=6, nn_depth=1, cond_dim=3)
    return randomised(flow, scale=0.5)


def test_the_density_is_the_flows(flow):
    x = jr.normal(KEY, (4, 5, 2))
    np.testing.assert_allclose(FlowDist(flow).log_prob(x), flow.log_prob(x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "batch", "event"),
    [
        (lambda f, c: FlowDist(f), (), (2,)),
        (lambda f, c: FlowDist(f).expand((3, 4)), (3, 4), (2,)),
        (lambda f, c: FlowDist(f).expand((3,)).to_event(1), (), (3, 2)),
        (lambda f, c: FlowDist(c, jnp.zeros((4, 1, 3))), (4, 1), (2,)),
        (lambda f, c: FlowDist(c, jnp.zeros((4, 1, 3))).expand((6, 4, 5)), (6, 4, 5), (2,)),
        (lambda f, c: FlowDist(c, [1, 2, 3]), (), (2,)),
    ],
)
def test_shapes(flow, conditional, make, batch, event):
    d = make(flow, conditional)
    assert (d.batch_shape, d.event_shape) == (batch, event)
    draws = jax.eval_shape(lambda: d.sample(KEY, (7,)))
    assert draws.shape == (7, *batch, *event)
    assert jax.eval_shape(d.log_prob, draws).shape == (7, *batch)


def test_a_draws_own_density_is_the_density_there(conditional):
    d = FlowDist(conditional, jnp.zeros((4, 1, 3))).expand((4, 5))
    draws, intermediates = jax.jit(d.sample_with_intermediates, static_argnums=1)(KEY, (7,))
    assert draws.shape == (7, 4, 5, 2)
    np.testing.assert_allclose(
        d.log_prob(draws, intermediates), jax.jit(d.log_prob)(draws), rtol=2e-4, atol=1e-4
    )


def test_expanded_draws_are_independent_and_each_has_its_condition(conditional):
    conditions = jnp.array([[-2.0, 0.0, 1.0], [2.0, 1.0, -1.0]])
    d = FlowDist(conditional, conditions[:, None]).expand((2, 500))
    draws = jax.jit(d.sample)(KEY)
    assert len(np.unique(draws[..., 0])) == 1000
    for row, condition in zip(draws, conditions, strict=True):
        own = conditional.sample(jr.key(1), (500,), condition)
        error = own.std(0) / 250**0.5
        assert np.all(np.abs(row.mean(0) - own.mean(0)) < 4 * error)


@pytest.mark.parametrize("raw", [False, True])
def test_both_kinds_of_key(raw):
    key = jr.PRNGKey(3) if raw else jr.key(3)
    normal = Normal(jnp.zeros(2))
    np.testing.assert_array_equal(FlowDist(normal).sample(key), normal.sample(jr.key(3)))


def test_it_passes_through_jit_and_vmap(flow, conditional):
    x = jnp.ones((4, 2))
    conditions = jr.normal(KEY, (4, 3))

    @jax.jit
    def densities(d, x):
        return d.log_prob(x)

    np.testing.assert_allclose(densities(FlowDist(flow), x), flow.log_prob(x), rtol=1e-5)
    expected = conditional.log_prob(x, conditions)
    np.testing.assert_allclose(densities(FlowDist(conditional, conditions), x), expected, rtol=1e-5)
    each = jax.vmap(lambda c, x: FlowDist(conditional, c).log_prob(x))(conditions, x)
    np.testing.assert_allclose(each, expected, rtol=1e-5)


def test_a_distribution_that_vmap_returns(conditional):
    conditions = jr.normal(KEY, (4, 3))

    def make(c):
        return FlowDist(conditional, c)

    out_axes = vmap_over(make(conditions[0]), condition=0)
    d = promote_batch_shape(jax.vmap(make, out_axes=out_axes)(conditions))
    assert d.batch_shape == (4,)
    x = jnp.ones((4, 2))
    np.testing.assert_allclose(d.log_prob(x), conditional.log_prob(x, conditions), rtol=1e-5)


def test_the_gradient_reaches_the_condition(x64):
    flow = gf.affine_coupling_flow(KEY, n_dims=2, n_layers=2, nn_width=6, nn_depth=1, cond_dim=3)
    flow = randomised(flow, scale=0.5)
    x, condition = jnp.array([0.3, -0.4]), jnp.array([0.5, -1.0, 0.2])

    def density(c):
        return FlowDist(flow, c).log_prob(x)

    def draw(c):
        return FlowDist(flow, c).sample(KEY).sum()

    for function in (density, draw):
        value_and_gradient = jax.jit(jax.value_and_grad(function))
        _, gradient = value_and_gradient(condition)
        assert np.all(np.abs(gradient) > 1e-4)
        for step, slope in zip(1e-5 * jnp.eye(3), gradient, strict=True):
            ahead, behind = (value_and_gradient(condition + s)[0] for s in (step, -step))
            np.testing.assert_allclose(slope, (ahead - behind) / 2e-5, rtol=1e-6)


def test_as_a_prior_in_a_plate_and_predictive(flow):
    def model():
        with numpyro.plate("rows", 3):
            x = numpyro.sample("x", FlowDist(flow))
            numpyro.sample("y", dist.Normal(x[..., 0], 1.0))

    draws = Predictive(model, num_samples=5)(KEY)
    assert draws["x"].shape == (5, 3, 2)
    assert draws["y"].shape == (5, 3)


def test_as_a_likelihood_the_log_density_is_the_sum_over_rows(conditional):
    x, conditions = jr.normal(KEY, (6, 2)), jr.normal(jr.key(1), (6, 3))

    def model(shift):
        with numpyro.plate("rows", 6):
            numpyro.sample("x", FlowDist(conditional, conditions + shift), obs=x)

    total, _ = numpyro.infer.util.log_density(model, (0.5,), {}, {})
    np.testing.assert_allclose(total, conditional.log_prob(x, conditions + 0.5).sum(), rtol=1e-5)


def test_nuts_on_a_flow_prior_and_a_flow_likelihood():
    # The posterior of a normal prior and normal likelihoods, both written as flows, is known.
    prior = FlowDist(Normal(jnp.array([1.0, -1.0]), jnp.array([1.0, 2.0])))
    layers = gf.flow_from_blocks([[gf.ActNorm(2)]])
    rows = jnp.array([[2.0, 0.0], [1.0, 1.0], [3.0, -2.0]])

    def model():
        theta = numpyro.sample("theta", prior)
        with numpyro.plate("rows", 3):
            numpyro.sample("noise", FlowDist(layers), obs=rows - theta)

    mcmc = MCMC(NUTS(model), num_warmup=150, num_samples=600, progress_bar=False)
    mcmc.run(KEY)
    draws = mcmc.get_samples()["theta"]
    precision = np.array([1.0, 0.25]) + 3
    mean = (np.array([1.0, -0.25]) + np.asarray(rows).sum(0)) / precision
    error = precision**-0.5 / 300**0.5
    assert np.all(np.abs(draws.mean(0) - mean) < 4 * error)
    assert np.all(np.abs(draws.std(0) * precision**0.5 - 1) < 0.2)


def test_nuts_respects_a_given_support():
    flow = LogNormal(jnp.zeros(2), 0.5)
    positive = constraints.independent(constraints.positive, 1)

    def model():
        numpyro.sample("x", FlowDist(flow, support=positive))

    mcmc = MCMC(NUTS(model), num_warmup=150, num_samples=500, progress_bar=False)
    mcmc.run(KEY)
    draws = mcmc.get_samples()["x"]
    assert np.all(draws > 0)
    assert np.all(np.abs(np.log(draws).mean(0)) < 0.1)


def test_scalar_events():
    d = FlowDist(Transformed(Normal(), Exp()), support=constraints.positive)
    assert d.event_shape == ()
    np.testing.assert_allclose(
        d.log_prob(jnp.array([0.5, 2.0])),
        dist.LogNormal().log_prob(jnp.array([0.5, 2.0])),
        rtol=1e-5,
    )


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda f, c: FlowDist(3), "Expected a flow; got int"),
        (lambda f, c: FlowDist(f, jnp.zeros(3)), "Expected no condition, as the flow has none"),
        (lambda f, c: FlowDist(c), "Expected a condition whose last axes are (3,); got none"),
        (lambda f, c: FlowDist(c, jnp.zeros((4, 2))), "last axes are (3,); got shape (4, 2)"),
        (lambda f, c: FlowDist(c, 1.0), "last axes are (3,); got shape ()"),
        (lambda f, c: FlowDist(f, support=constraints.real), "support of events of rank 1"),
        (lambda f, c: FlowDist(f).log_prob(jnp.zeros((4, 3))), "last axes are (2,); got shape"),
        (lambda f, c: FlowDist(f).sample(None), "Expected a random key; got None"),
    ],
)
def test_faults_are_named(flow, conditional, call, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        call(flow, conditional)
