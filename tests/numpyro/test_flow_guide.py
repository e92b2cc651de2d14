"""FlowGuide as NumPyro users use a guide."""

import re
from functools import partial

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from flowjax.distributions import Normal, StudentT
from numpyro.distributions import constraints
from numpyro.infer import SVI, Predictive, Trace_ELBO
from numpyro.infer.initialization import init_to_value
from numpyro.infer.reparam import NeuTraReparam

import gauss_flows as gf
import skewed_posterior
from gauss_flows.numpyro import FlowGuide
from serialization.same import same_to_the_bit

SMALL = {"nn_width": 6, "nn_depth": 1}
DIAGONAL = partial(gf.gaussianization_flow, n_layers=4, n_components=4)
MIXTURE = partial(gf.mixture_coupling_flow, n_layers=2, n_components=4, nn_width=16, nn_depth=1)
# Quick to compile, for what does not depend on the flow.
AFFINE = partial(gf.affine_coupling_flow, n_layers=2, **SMALL)
KEY = jr.key(0)


def learn(model, guide, n_steps, *args, step=1e-2, n_particles=8):
    optimizer = optax.chain(
        optax.clip_by_global_norm(10.0), optax.adam(optax.cosine_decay_schedule(step, n_steps))
    )
    svi = SVI(model, guide, optimizer, Trace_ELBO(num_particles=n_particles))
    return svi.run(KEY, n_steps, *args, progress_bar=False)


def first_params(model, guide, *args, key=KEY):
    svi = SVI(model, guide, optax.adam(1e-3), Trace_ELBO())
    return svi.get_params(svi.init(key, *args))


def mixed_model(y=None):
    """Supports of every kind: real, positive, bounded, a simplex; a plate, a deterministic."""
    loc = numpyro.sample("loc", dist.Normal(0.0, 2.0))
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    numpyro.sample("below", dist.TruncatedNormal(0.0, 1.0, high=3.0))
    numpyro.sample("weights", dist.Dirichlet(jnp.ones(3)))
    with numpyro.plate("groups", 2):
        numpyro.sample("effect", dist.Normal(0.0, 1.0))
    numpyro.deterministic("double", 2 * loc)
    with numpyro.plate("rows", 5):
        numpyro.sample("y", dist.Normal(loc, scale), obs=y)


Y = jnp.array([0.3, 1.2, 0.8, 1.9, 0.6])
SHAPES = {"loc": (), "scale": (), "below": (), "weights": (3,), "effect": (2,), "double": ()}


@pytest.fixture(scope="module")
def learnt():
    guide = FlowGuide(mixed_model, AFFINE)
    return guide, learn(mixed_model, guide, 150, Y).params


@pytest.mark.parametrize(("flow", "goal", "step"), [(DIAGONAL, 0.25, 1e-2), (MIXTURE, 0.6, 3e-3)])
def test_it_learns_a_skewed_correlated_posterior(flow, goal, step):
    # The best normal is 0.75 away. Both come nearer with more steps than a test can take; see
    # benchmarks/numpyro_guide.py.
    guide = FlowGuide(skewed_posterior.model, flow)
    result = learn(skewed_posterior.model, guide, 1000, step=step, n_particles=16)
    gap, error = skewed_posterior.elbo_gap(guide.get_flow(result.params), jr.key(1))
    assert -4 * error < gap < goal
    assert result.losses[0] + skewed_posterior.LOG_EVIDENCE > 50


def test_draws_need_no_root_find_where_the_layers_run_from_the_latent():
    guide = FlowGuide(skewed_posterior.model, DIAGONAL, sampling="analytic", path_gradient=False)
    params = first_params(skewed_posterior.model, guide)
    draw = jax.make_jaxpr(lambda p: guide.get_flow(p).sample(KEY))(params)
    assert "while" not in str(draw)
    density = jax.make_jaxpr(lambda p, x: guide.get_flow(p).log_prob(x))(params, jnp.zeros(4))
    assert "while" in str(density)


def test_a_normal_posterior_is_found_to_the_last_digit():
    covariance = jnp.array([[1.0, 0.9], [0.9, 2.0]])
    posterior = dist.MultivariateNormal(jnp.array([5.0, -1.0]), covariance)

    def model():
        numpyro.sample("x", posterior)

    guide = FlowGuide(model, flow_of_rotations, path_gradient=True)
    result = learn(model, guide, 2500, step=3e-2)
    # The evidence is 1: without the score the loss itself falls to 0, noise and all.
    assert np.all(np.abs(result.losses[-20:]) < 0.01)
    draws = guide.sample_posterior(KEY, result.params, sample_shape=(4000,))["x"]
    np.testing.assert_allclose(draws.mean(0), posterior.loc, atol=0.1)
    np.testing.assert_allclose(np.cov(draws.T), covariance, atol=0.2)


def flow_of_rotations(key, n_dims):
    return gf.flow_from_blocks([[gf.HouseholderRotation(n_dims, key=key)]])


def test_parameters_are_plain_arrays_by_name(learnt):
    _, params = learnt
    assert params
    assert all(name.startswith("auto_flow") for name in params)
    assert all(jnp.issubdtype(value.dtype, jnp.floating) for value in params.values())
    other = FlowGuide(mixed_model, AFFINE, prefix="mine")
    assert all(name.startswith("mine_flow") for name in first_params(mixed_model, other, Y))


def test_draws_come_by_name_in_their_supports(learnt):
    guide, params = learnt
    draws = guide.sample_posterior(KEY, params, sample_shape=(20, 3))
    assert {name: value.shape[2:] for name, value in draws.items()} == SHAPES
    assert all(value.shape[:2] == (20, 3) for value in draws.values())
    assert np.all(draws["scale"] > 0)
    assert np.all(draws["below"] < 3)
    np.testing.assert_allclose(draws["weights"].sum(-1), 1.0, rtol=1e-5)
    np.testing.assert_allclose(draws["double"], 2 * draws["loc"], rtol=1e-6)


def test_predictive(learnt):
    guide, params = learnt
    rows = Predictive(mixed_model, guide=guide, params=params, num_samples=4)(KEY)
    assert rows["y"].shape == (4, 5)
    latents = Predictive(guide, params=params, num_samples=4)(KEY, Y)
    assert latents["weights"].shape == (4, 3)


def test_quantiles_and_median_are_the_draws(learnt):
    guide, params = learnt
    levels = [0.1, 0.5, 0.9]
    quantiles = guide.quantiles(params, levels, n_draws=4000)
    median = guide.median(params, n_draws=4000)
    assert {name: value.shape for name, value in quantiles.items()} == {
        name: (3, *shape) for name, shape in SHAPES.items()
    }
    draws = guide.sample_posterior(jr.key(5), params, sample_shape=(4000,))
    for name in set(SHAPES) - {"weights"}:
        np.testing.assert_array_equal(median[name], quantiles[name][1])
        for level, value in zip(levels, quantiles[name], strict=True):
            below = np.mean(draws[name] < value, axis=0)
            # "below" has a decreasing map from the unconstrained space.
            assert np.all(np.abs(below - level) < 5 * (2 * level * (1 - level) / 4000) ** 0.5)
    np.testing.assert_allclose(quantiles["weights"].sum(-1), 1.0, rtol=1e-5)


def test_the_learnt_flow_is_an_ordinary_one(learnt, tmp_path):
    guide, params = learnt
    flow = guide.get_flow(params)
    assert flow.shape == (7,)
    gf.save(flow, tmp_path / "guide.gf")
    same_to_the_bit(gf.load(tmp_path / "guide.gf"), flow)
    np.savez(tmp_path / "params.npz", **params)
    same_to_the_bit(guide.get_flow(np.load(tmp_path / "params.npz")), flow)
    unconstrained = flow.sample(KEY, (3,))
    np.testing.assert_allclose(
        guide.get_posterior(params).log_prob(unconstrained), flow.log_prob(unconstrained), rtol=1e-6
    )
    again = FlowGuide(mixed_model, flow)
    same_to_the_bit(again.get_flow(first_params(mixed_model, again, Y)), flow)


@pytest.mark.parametrize("sampling", ["inverse", "analytic"])
def test_the_transform_takes_the_normal_to_the_posterior(sampling):
    guide = FlowGuide(skewed_posterior.model, AFFINE, sampling=sampling)
    params = moved(first_params(skewed_posterior.model, guide))
    transform, base = guide.get_transform(params), guide.get_base_dist()
    z = base.sample(KEY, (6,))

    @jax.jit
    def there_and_back(transform, z):
        x = transform(z)
        log_det = transform.log_abs_det_jacobian(z, x)
        return x, transform.inv(x), log_det, jax.vmap(jax.jacfwd(transform))(z)

    x, back, log_det, jacobians = there_and_back(transform, z)
    np.testing.assert_allclose(back, z, atol=1e-4)
    posterior = guide.get_posterior(params)
    np.testing.assert_allclose(posterior.log_prob(x), base.log_prob(z) - log_det, atol=1e-3)
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobians)[1], atol=1e-4)


def test_neutra_leaves_the_density_as_it_is():
    guide = FlowGuide(skewed_posterior.model, AFFINE)
    params = moved(first_params(skewed_posterior.model, guide))
    model = NeuTraReparam(guide, params).reparam(skewed_posterior.model)
    z = jr.normal(KEY, (4,))
    x, log_det = guide.get_transform(params).call_with_intermediates(z)
    log_density, _ = numpyro.infer.util.log_density(
        numpyro.handlers.seed(model, KEY), (), {}, {"auto_shared_latent": z}
    )
    expected = skewed_posterior.log_density(x) + skewed_posterior.LOG_EVIDENCE + log_det
    np.testing.assert_allclose(log_density, expected, rtol=1e-4)


def moved(params):
    keys = jr.split(jr.key(9), len(params))
    return {
        name: value + 0.3 * jr.normal(key, value.shape)
        for key, (name, value) in zip(keys, params.items(), strict=True)
    }


def test_one_latent_number_needs_no_coupling():
    def model():
        numpyro.sample("rate", dist.Gamma(3.0, 2.0))

    flow = partial(gf.gaussianization_flow, n_layers=1, n_components=3)
    losses = learn(model, FlowGuide(model, flow), 500, step=3e-2).losses
    assert np.mean(losses[-50:]) < 0.02  # the evidence is 1

    with pytest.raises(ValueError, match="Expected n_dims >= 2 for mixture_coupling_flow"):
        first_params(model, FlowGuide(model, MIXTURE))


def draw_nothing():
    numpyro.sample("y", dist.Normal(), obs=0.0)


def draw_a_count():
    numpyro.sample("count", dist.Poisson(2.0))
    numpyro.sample("x", dist.Normal())


def draw_two():
    numpyro.sample("x", dist.Normal().expand([2]).to_event(1))


def a_string(key, n_dims):
    return "flow"


@pytest.mark.parametrize(
    ("model", "options", "message"),
    [
        (draw_nothing, {}, "Expected a model with latents; got none"),
        (draw_a_count, {}, "Expected continuous latents; got the discrete 'count'"),
        (draw_two, {"flow": Normal(jnp.zeros(3))}, "shape (2,), for the model's latents"),
        (draw_two, {"flow": a_string}, "Expected a flow; got str"),
        (draw_two, {"flow": partial(AFFINE, cond_dim=2)}, "Expected a flow without a condition"),
        (draw_two, {"flow": 3}, "Expected a flow or a factory of flows"),
        (draw_two, {"sampling": "both"}, "Expected sampling to be one of"),
        (draw_two, {"init_scale": 0.0}, "Expected init_scale > 0"),
        (draw_two, {"init_scale": "a"}, "Expected init_scale > 0, a number; got 'a'"),
        (draw_two, {"init_scale": None}, "Expected init_scale > 0, a number; got None"),
    ],
)
def test_faults_are_named(model, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        numpyro.handlers.seed(FlowGuide(model, **options), KEY)()


def test_faulty_parameters_are_named(learnt):
    guide, params = learnt
    name = next(iter(params))
    with pytest.raises(ValueError, match="Expected a parameter 'auto_flow"):
        guide.get_flow({key: value for key, value in params.items() if key != name})
    with pytest.raises(ValueError, match="to have shape"):
        guide.get_flow({**params, name: jnp.zeros((1, 1, 1, 1))})


@pytest.mark.parametrize("levels", [1.5, 0.0, [0.5, 1.0], float("nan"), "a"])
def test_levels_outside_are_named(learnt, levels):
    guide, params = learnt
    with pytest.raises(ValueError, match=re.escape(f"quantiles in (0, 1); got {levels!r}")):
        guide.quantiles(params, levels)


def test_before_the_first_call_there_is_no_flow():
    with pytest.raises(ValueError, match="Expected a guide that has met its model"):
        FlowGuide(draw_two, AFFINE).get_flow({})


def test_no_transform_from_another_base():
    guide = FlowGuide(draw_two, StudentT(jnp.full(2, 5.0)))
    params = first_params(draw_two, guide)
    with pytest.raises(NotImplementedError, match="Expected a flow of a normal base; got"):
        guide.get_transform(params)


def test_where_it_starts():
    start = init_to_value(values={"x": jnp.array([30.0, -7.0])})
    guide = FlowGuide(draw_two, AFFINE, init_loc_fn=start)
    draws = guide.get_posterior(first_params(draw_two, guide)).sample(KEY, (200,))
    np.testing.assert_allclose(draws.mean(0), [30.0, -7.0], atol=0.1)
    assert np.all(np.abs(draws.std(0) - 0.1) < 0.05)


def test_raw_keys():
    guide = FlowGuide(draw_two, AFFINE)
    params = first_params(draw_two, guide, key=jr.PRNGKey(0))
    assert guide.sample_posterior(jr.PRNGKey(1), params)["x"].shape == (2,)


def test_latents_of_an_improper_prior():
    def model():
        x = numpyro.sample("x", dist.ImproperUniform(constraints.positive, (), ()))
        numpyro.factor("density", dist.LogNormal(1.0, 0.5).log_prob(x))

    guide = FlowGuide(model, flow_of_rotations, path_gradient=True)
    losses = learn(model, guide, 600, step=3e-2).losses
    assert np.all(np.abs(losses[-20:]) < 0.01)
