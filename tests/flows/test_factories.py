"""What the factories build: sizes, layers, conditions, and what they refuse."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import Invert, Permute
from flowjax.distributions import Normal, Transformed
from paramax import NonTrainable

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
LAYERS_IN_A_BLOCK = {"mixture_coupling_flow": 3}


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


@eqx.filter_jit
def step(layer, x, condition):
    axes = 0, None if condition is None else 0
    return jax.vmap(layer.transform_and_log_det, axes)(x, condition)


@pytest.mark.parametrize("cond_dim", [None, 3], ids=["plain", "conditional"])
def test_is_a_flow_of_layers_in_data_order(name, cond_dim):
    flow = randomised(build(name, n_dims=5, cond_dim=cond_dim), 0, 0.05)
    assert isinstance(flow, Transformed)
    assert isinstance(flow.bijection, Invert)
    assert flow.shape == (5,)
    assert flow.cond_shape == (None if cond_dim is None else (cond_dim,))
    layers = flow.bijection.bijection.bijections
    assert len(layers) == 2 * LAYERS_IN_A_BLOCK.get(name, 2)
    x = jr.normal(jr.key(1), (4, 5))
    condition = None if cond_dim is None else jr.normal(jr.key(2), (4, cond_dim))
    states, total = [x], 0.0
    for layer in layers:
        state, log_det = step(layer, states[-1], condition)
        states.append(state)
        total += log_det
    intermediates = gf.forward_with_intermediates(flow, x, condition)
    assert len(intermediates) == len(states)
    for found, expected in zip(intermediates, states, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
    density = jnp.sum(jax.scipy.stats.norm.logpdf(states[-1]), axis=-1) + total
    log_prob = eqx.filter_jit(flow.log_prob)(x, condition)
    np.testing.assert_allclose(log_prob, density, rtol=1e-4, atol=1e-4)
    if condition is not None:
        assert np.all(eqx.filter_jit(flow.log_prob)(x, condition + 1) != log_prob)


def test_the_base_is_not_trained(name):
    flow = build(name)
    assert isinstance(flow.base_dist, Normal)
    affine = flow.base_dist.bijection
    for value, expected in ((affine.loc, 0), (affine.scale, 1)):
        assert isinstance(value, NonTrainable)
        np.testing.assert_array_equal(value.tree, np.full(2, expected))


def test_only_the_layers_are_trained():
    flow = randomised(build("affine_coupling_flow"))
    gradient = eqx.filter_jit(eqx.filter_grad(lambda flow, x: flow.log_prob(x)))(flow, jnp.ones(2))
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(gradient.base_dist))
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient.bijection))


def test_shapes_of_samples(name):
    def sample(flow, key, condition):
        return flow.sample(key, (4,), condition)

    samples = eqx.filter_eval_shape(sample, build(name), KEY, None)
    assert samples.shape == (4, 2)
    samples = eqx.filter_eval_shape(sample, build(name, cond_dim=3), KEY, jnp.ones((5, 3)))
    assert samples.shape == (4, 5, 2)


def test_one_condition_for_all_rows():
    flow = randomised(build("affine_coupling_flow", cond_dim=3))
    x, condition = jr.normal(jr.key(1), (4, 2)), jnp.ones(3)
    found = gf.forward_with_intermediates(flow, x, condition)
    expected = gf.forward_with_intermediates(flow, x, jnp.ones((4, 3)))
    np.testing.assert_array_equal(found, expected)
    leading = gf.forward_with_intermediates(flow, x.reshape(2, 2, 2), condition)
    np.testing.assert_allclose(np.reshape(leading[-1], (4, 2)), found[-1], rtol=1e-5)


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
    ("rotation", "layer"),
    [
        ("householder", gf.HouseholderRotation),
        ("cayley", gf.OrthogonalRotation),
        ("exponential", gf.OrthogonalRotation),
        ("random", gf.FixedRotation),
        ("lu", gf.LULinearPermute),
        ("permute", Permute),
    ],
)
def test_every_rotation_builds_a_flow(rotation, layer):
    flow = gf.gaussianization_flow(KEY, n_dims=3, n_layers=2, n_components=2, rotation=rotation)
    first, _, second, _ = flow.bijection.bijection.bijections
    assert type(first) is type(second) is layer
    assert getattr(first, "method", rotation) == rotation
    # Each block has its own.
    matrices = jax.vmap(first.transform)(jnp.eye(3)), jax.vmap(second.transform)(jnp.eye(3))
    assert np.any(matrices[0] != matrices[1]) or rotation == "permute"


def test_one_coordinate():
    flow = build("gaussianization_flow", n_dims=1)
    x = jnp.linspace(-3, 3, 4)[:, None]
    assert flow.shape == (1,)
    assert np.all(np.isfinite(eqx.filter_jit(flow.log_prob)(x)))


COUPLING_FACTORIES = sorted(set(FACTORIES) - {"gaussianization_flow"})


@pytest.mark.parametrize("factory", COUPLING_FACTORIES)
def test_one_coordinate_has_nothing_to_couple(factory):
    with pytest.raises(
        ValueError, match=f"Expected n_dims >= 2 for {factory}.*use gaussianization"
    ):
        build(factory, n_dims=1)


def test_one_coordinate_with_a_condition(name):
    flow = randomised(build(name, n_dims=1, cond_dim=2))

    @eqx.filter_jit
    def sample_and_log_prob(flow, key, condition):
        x = flow.sample(key, (4,), condition)
        return x, flow.log_prob(x, condition)

    x, log_prob = sample_and_log_prob(flow, KEY, jnp.ones(2))
    assert x.shape == (4, 1)
    assert np.all(np.isfinite(log_prob))
    assert np.all(sample_and_log_prob(flow, KEY, -jnp.ones(2))[0] != x)


def test_intermediates_refuse_what_they_cannot_walk():
    with pytest.raises(ValueError, match="Expected a flow whose bijection is Invert"):
        gf.forward_with_intermediates(Normal(jnp.zeros(2)), jnp.ones(2))
    with pytest.raises(ValueError, match="Expected x of width 2; got shape"):
        gf.forward_with_intermediates(build("affine_coupling_flow"), jnp.ones((4, 3)))


def test_intermediates_need_the_condition_that_the_flow_has():
    plain, conditional = (build("affine_coupling_flow", cond_dim=c) for c in (None, 3))
    x = jnp.ones((4, 2))
    with pytest.raises(ValueError, match="Expected no condition, as the flow has it; got one."):
        gf.forward_with_intermediates(plain, x, jnp.ones(3))
    with pytest.raises(
        ValueError, match="Expected a condition of shape .3,., as the flow has it; got none."
    ):
        gf.forward_with_intermediates(conditional, x)
    for condition in (1.0, jnp.ones((4, 2))):
        with pytest.raises(ValueError, match="Expected a condition of width 3; got shape"):
            gf.forward_with_intermediates(conditional, x, condition)


@pytest.mark.parametrize("value", [2.5, "2", None, jnp.ones(2)])
def test_sizes_that_are_no_whole_numbers_are_refused(name, value):
    with pytest.raises(ValueError, match="Expected n_layers to be a whole number; got"):
        build(name, n_layers=value)


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
    for block in ((), gf.ActNorm(2)):
        with pytest.raises(ValueError, match="Expected blocks, each a sequence of at least one"):
            gf.flow_from_blocks([(gf.ActNorm(2),), block])
