"""What the factories build: sizes, layers, conditions, and what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import Invert
from flowjax.distributions import Normal, Transformed

import gauss_flows as gf
from bijections.registry import randomised

KEY = jr.key(0)
SMALL_NETWORK = {"nn_width": 6, "nn_depth": 1}
FACTORIES = {
    "gaussianization_flow": {"n_components": 3},
    "coupling_gaussianization_flow": {"n_bins": 4},
    "mixture_coupling_flow": {"n_components": 3},
    "affine_coupling_flow": {},
}


def build(name, **options):
    network = {} if name == "gaussianization_flow" and "cond_dim" not in options else SMALL_NETWORK
    return getattr(gf, name)(
        KEY, **{"n_dims": 2, "n_layers": 2, **FACTORIES[name], **network, **options}
    )


def n_parameters(flow):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))


@pytest.fixture(params=FACTORIES)
def name(request):
    return request.param


@pytest.mark.parametrize(("n_layers", "count"), [(4, 212), (8, 420), (16, 836)])
def test_parameter_counts_of_the_diagonal_flow(n_layers, count):
    flow = gf.gaussianization_flow(KEY, n_dims=2, n_layers=n_layers, n_components=8)
    assert n_parameters(flow) == count


@pytest.mark.parametrize(("n_layers", "count"), [(2, 1020), (4, 2036), (8, 4068)])
def test_parameter_counts_of_the_spline_flow(n_layers, count):
    flow = gf.coupling_gaussianization_flow(
        KEY, n_dims=2, n_layers=n_layers, n_bins=8, nn_width=16, nn_depth=1
    )
    assert n_parameters(flow) == count


def test_parameter_count_of_the_mixture_coupling_flow():
    assert (
        n_parameters(gf.mixture_coupling_flow(KEY, n_dims=2, n_layers=4, n_components=8)) == 46804
    )


def test_the_formula_in_the_docstring():
    flow = gf.gaussianization_flow(KEY, n_dims=5, n_layers=3, n_components=4)
    assert n_parameters(flow) == 3 * (3 * 5 * 4 + 5**2) + 2 * 5


def test_the_base_is_not_trained(name):
    flow = build(name)
    trained = eqx.filter_grad(lambda flow: -flow.log_prob(jnp.ones(2)))(flow)
    assert isinstance(flow.base_dist, Normal)
    assert all(not np.any(leaf) for leaf in jax.tree.leaves(trained.base_dist))
    assert any(np.any(leaf) for leaf in jax.tree.leaves(trained.bijection))


def test_is_a_flow_of_layers_in_data_order(name):
    flow = build(name)
    assert isinstance(flow, Transformed)
    assert isinstance(flow.bijection, Invert)
    layers = flow.bijection.bijection.bijections
    per_block = {"mixture_coupling_flow": 3}.get(name, 2)
    assert len(layers) == 2 * per_block
    x = jnp.asarray([0.3, -1.2])
    z = x
    for layer in layers:
        z = layer.transform(z)
    np.testing.assert_allclose(flow.bijection.inverse(x), z, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(flow.bijection.transform(z), x, rtol=1e-4, atol=1e-5)


def test_the_seeds_way_to_the_kernels():
    flow = gf.mixture_coupling_flow(KEY, n_dims=2, n_layers=2)
    kernels = [
        float(jnp.max(jnp.abs(b._coupling.conditioner.layers[-1].weight)))
        for b in flow.bijection.bijection.bijections
        if isinstance(b, gf.MixtureGaussianCDFCoupling)
    ]
    assert kernels == [0.0] * 4


def test_zero_kernels_make_it_a_diagonal_flow():
    # With nothing to read from the passive half, no coordinate depends on another one.
    flow = gf.mixture_coupling_flow(KEY, n_dims=3, n_layers=1, n_components=3, **SMALL_NETWORK)
    rotation, *couplings = flow.bijection.bijection.bijections
    x = jnp.asarray([0.4, -1.0, 2.0])
    diagonal = gf.MixtureGaussianCDF(3, 3).transform(rotation.transform(x))
    z = rotation.transform(x)
    for coupling in couplings:
        z = coupling.transform(z)
    np.testing.assert_allclose(z, diagonal, rtol=1e-6)


@pytest.mark.parametrize(
    "rotation", ["householder", "cayley", "exponential", "random", "lu", "permute"]
)
def test_every_rotation_builds_a_flow(rotation):
    flow = gf.gaussianization_flow(KEY, n_dims=3, n_layers=2, n_components=2, rotation=rotation)
    x = jnp.asarray([0.4, -1.0, 2.0])
    np.testing.assert_allclose(flow.bijection.transform(flow.bijection.inverse(x)), x, rtol=1e-4)
    first, _, second, _ = flow.bijection.bijection.bijections
    assert not eqx.tree_equal(first, second) or rotation == "permute"


def test_odd_numbers_of_coordinates(name):
    flow = build(name, n_dims=5)
    x = jr.normal(jr.key(1), (5,))
    np.testing.assert_allclose(flow.bijection.transform(flow.bijection.inverse(x)), x, atol=1e-4)
    assert flow.log_prob(x).shape == ()


def test_one_coordinate():
    flow = build("gaussianization_flow", n_dims=1)
    samples = flow.sample(jr.key(1), (4,))
    assert samples.shape == (4, 1)
    assert np.all(np.isfinite(flow.log_prob(samples)))


@pytest.mark.parametrize("factory", sorted(set(FACTORIES) - {"gaussianization_flow"}))
def test_one_coordinate_has_nothing_to_couple(factory):
    with pytest.raises(
        ValueError, match=f"Expected n_dims >= 2 for {factory}.*use gaussianization"
    ):
        build(factory, n_dims=1)


@pytest.mark.parametrize(
    "factory", ["gaussianization_flow", "coupling_gaussianization_flow", "affine_coupling_flow"]
)
def test_one_coordinate_with_a_condition(factory):
    flow = build(factory, n_dims=1, cond_dim=2)
    assert flow.sample(jr.key(1), (4,), condition=jnp.ones(2)).shape == (4, 1)


def test_conditional_flows(name):
    flow = randomised(build(name, cond_dim=3))
    assert flow.cond_shape == (3,)
    x, conditions = jr.normal(jr.key(1), (5, 2)), jr.normal(jr.key(2), (5, 3))
    log_prob = flow.log_prob(x, conditions)
    assert log_prob.shape == (5,)
    assert np.all(log_prob != flow.log_prob(x, conditions[::-1] + 1))
    assert flow.sample(jr.key(3), (4,), condition=conditions).shape == (4, 5, 2)
    z = flow.bijection.inverse(x[0], conditions[0])
    np.testing.assert_allclose(flow.bijection.transform(z, conditions[0]), x[0], atol=1e-4)
    states = gf.forward_with_intermediates(flow, x, conditions)
    np.testing.assert_allclose(states[-1][0], z, rtol=1e-5, atol=1e-6)
    # One condition for all rows.
    alike = gf.forward_with_intermediates(flow, x, conditions[0])
    np.testing.assert_allclose(alike[-1][0], z, rtol=1e-5, atol=1e-6)


def test_intermediates_agree_layer_by_layer(name):
    flow = randomised(build(name))
    x = jr.normal(jr.key(1), (4, 3, 2))
    states = gf.forward_with_intermediates(flow, x)
    layers = flow.bijection.bijection.bijections
    assert len(states) == len(layers) + 1
    np.testing.assert_array_equal(states[0], x)
    for layer, before, after in zip(layers, states, states[1:], strict=False):
        assert after.shape == x.shape
        expected = jax.vmap(jax.vmap(layer.transform))(before)
        np.testing.assert_allclose(after, expected, rtol=1e-5, atol=1e-5)
    z = jax.vmap(jax.vmap(flow.bijection.inverse))(x)
    np.testing.assert_allclose(states[-1], z, rtol=1e-5, atol=1e-5)


def test_intermediates_refuse_what_they_cannot_walk():
    with pytest.raises(ValueError, match="Expected a flow whose bijection is Invert"):
        gf.forward_with_intermediates(Normal(jnp.zeros(2)), jnp.ones(2))
    with pytest.raises(ValueError, match="Expected x of width 2; got shape"):
        gf.forward_with_intermediates(build("affine_coupling_flow"), jnp.ones((4, 3)))


@pytest.mark.parametrize("argument", ["n_dims", "n_layers"])
def test_sizes_below_one_are_refused(name, argument):
    with pytest.raises(ValueError, match=f"Expected {argument} >= 1; got 0."):
        build(name, **{argument: 0})


@pytest.mark.parametrize(
    ("factory", "options", "message"),
    [
        ("gaussianization_flow", {"n_components": 0}, "Expected n_components >= 1; got 0."),
        ("mixture_coupling_flow", {"n_components": -1}, "Expected n_components >= 1; got -1."),
        ("coupling_gaussianization_flow", {"n_bins": 0}, "Expected n_bins >= 1; got 0."),
        (
            "coupling_gaussianization_flow",
            {"interval": -1.0},
            "Expected a positive, finite interval",
        ),
        ("affine_coupling_flow", {"nn_width": 0}, "Expected nn_width >= 1; got 0."),
        ("affine_coupling_flow", {"cond_dim": 0}, "Expected cond_dim >= 1"),
        ("gaussianization_flow", {"cond_dim": 0}, "Expected cond_dim >= 1"),
    ],
)
def test_other_bad_arguments_are_refused(factory, options, message):
    with pytest.raises(ValueError, match=message):
        build(factory, **options)


def test_an_unknown_rotation_is_refused(name):
    with pytest.raises(ValueError, match="Expected rotation to be one of .*; got 'sideways'."):
        build(name, rotation="sideways")


def test_blocks_are_needed():
    with pytest.raises(ValueError, match="Expected at least one block; got none."):
        gf.flow_from_blocks([])
