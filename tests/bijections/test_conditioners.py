"""The built-in networks: zero at the start, bounded, and able to be made constant."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from coupling_checks import randomise
from gauss_flows.bijections.conditioners import (
    MLP,
    ResidualMLP,
    SharedMLP,
    SiluMLP,
    with_constant_output,
)


def build(kind, nn_depth=2):
    sizes = {"in_size": 3, "nn_width": 5, "nn_depth": nn_depth}
    if kind is SharedMLP:
        return SharedMLP(jr.key(0), n_coordinates=2, n_params=4, **sizes)
    return kind(jr.key(0), out_size=8, **sizes)


@pytest.fixture(params=[MLP, ResidualMLP, SharedMLP, SiluMLP])
def kind(request):
    return request.param


@pytest.mark.parametrize("nn_depth", [1, 3])
def test_output_is_exactly_zero_at_the_start(kind, nn_depth):
    network = build(kind, nn_depth)
    head = network.layers[-1]
    assert isinstance(head, eqx.nn.Linear)
    assert len(network.layers) == nn_depth + 1
    assert not np.any(head.weight)
    output = network(jnp.array([1.0, -2.0, 1e6]))
    np.testing.assert_array_equal(output, np.zeros(8))
    assert all(np.any(layer.weight) for layer in network.layers[:-1])


def test_output_is_bounded(kind):
    network = randomise(build(kind), jr.key(1), scale=2.0)
    x = jnp.array([1.0, -2.0, 0.5])
    near, far, farther = (network(scale * x) for scale in (1.0, 1e6, 1e30))
    assert not np.allclose(near, far)
    np.testing.assert_allclose(far, farther, rtol=1e-5)


def test_constant_output(kind, precision):
    network = randomise(build(kind), jr.key(1))
    values = jr.normal(jr.key(2), (2, 4))
    constant = with_constant_output(network, values)
    for x in (jnp.zeros(3), jnp.array([3.0, -1.0, 1e6])):
        np.testing.assert_array_equal(constant(x), values.ravel())
    assert not np.any(constant.layers[-1].weight)
    for before, after in zip(network.layers[:-1], constant.layers[:-1], strict=True):
        np.testing.assert_array_equal(before.weight, after.weight)
    assert constant(jnp.zeros(3)).dtype == precision
    assert jax.tree.structure(constant) == jax.tree.structure(network)


def test_constant_output_of_the_wrong_size_is_refused(kind):
    with pytest.raises(ValueError, match="Expected 8 values, one an output; got 7"):
        with_constant_output(build(kind), jnp.zeros(7))


class Squashed(eqx.Module):
    """A user's network with something after its last layer."""

    layers: tuple

    def __call__(self, inputs):
        return jnp.tanh(self.layers[-1](inputs))


class Table(eqx.Module):
    """A user's conditioner that knows how to be constant."""

    values: jax.Array

    def __call__(self, inputs):
        return self.values * jnp.sum(inputs)

    def with_constant_output(self, values):
        return Constant(jnp.ravel(jnp.asarray(values)))


class Constant(eqx.Module):
    values: jax.Array

    def __call__(self, inputs):
        return self.values


def test_custom_conditioners_and_constant_output():
    mlp = eqx.nn.MLP(3, 8, 5, 2, key=jr.key(0))
    values = jnp.arange(8.0)
    np.testing.assert_array_equal(with_constant_output(mlp, values)(jnp.ones(3)), values)
    np.testing.assert_array_equal(with_constant_output(Table(values), values)(jnp.ones(3)), values)
    with pytest.raises(ValueError, match=r"layers\[-1\] is an equinox.nn.Linear.*got Constant"):
        with_constant_output(Constant(values), values)
    no_bias = eqx.nn.MLP(3, 8, 5, 2, use_final_bias=False, key=jr.key(0))
    with pytest.raises(ValueError, match=r"with a bias.*got MLP"):
        with_constant_output(no_bias, values)
    squashed = Squashed((eqx.nn.Linear(3, 8, key=jr.key(0)),))
    with pytest.raises(ValueError, match="got Squashed, whose output differs"):
        with_constant_output(squashed, values)


def test_residual_layers_add_to_their_input():
    network = build(ResidualMLP, nn_depth=3)
    first, *hidden, head = network.layers
    silent = jax.tree.map(jnp.zeros_like, hidden)
    head = jax.tree.map(jnp.ones_like, head)
    network = eqx.tree_at(lambda tree: tree.layers, network, (first, *silent, head))
    x = jnp.array([0.3, -0.2, 0.1])
    np.testing.assert_allclose(network(x), 1 + jnp.sum(jnp.tanh(first(x))) * np.ones(8), rtol=1e-6)


def test_silu_network_is_equinox_s_perceptron_of_bounded_inputs():
    network = randomise(build(SiluMLP), jr.key(1))
    reference = eqx.nn.MLP(3, 8, 5, 2, activation=jax.nn.silu, key=jr.key(0))
    reference = eqx.tree_at(lambda tree: tree.layers, reference, network.layers)
    x = jnp.array([0.3, -20.0, 2.0])
    np.testing.assert_allclose(network(x), reference(3 * jnp.tanh(x / 3)), rtol=1e-5)


def test_shared_network_gives_every_coordinate_the_same_but_for_its_offset():
    network = randomise(build(SharedMLP), jr.key(1))
    rows = network(jnp.array([0.3, -0.2, 0.1])).reshape(2, 4) - network.offsets
    np.testing.assert_allclose(rows[0], rows[1], rtol=1e-5, atol=1e-6)
    assert network.layers[-1].weight.shape == (4, 5)


@pytest.mark.parametrize("name", ["in_size", "nn_width", "nn_depth"])
def test_sizes_below_one_are_refused(kind, name):
    sizes = {"in_size": 3, "nn_width": 5, "nn_depth": 2, name: 0}
    outputs = {"n_coordinates": 2, "n_params": 4} if kind is SharedMLP else {"out_size": 8}
    with pytest.raises(ValueError, match=f"Expected {name} >= 1.*; got 0"):
        kind(jr.key(0), **sizes, **outputs)
