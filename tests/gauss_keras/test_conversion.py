"""A flow and its twin in the other library are the same function."""

import subprocess
import sys

import equinox as eqx
import flowjax.bijections
import jax
import jax.numpy as jnp
import jax.random as jr
import keras
import numpy as np
import pytest
from flowjax.bijections import Chain, Flip, Invert, Permute
from flowjax.distributions import Normal, StudentT, Transformed
from paramax import non_trainable

import gauss_flows as gf
from gauss_flows.flows.assemble import standard_normal
from gaussianization import gauss_keras as gk
from gaussianization.gauss_keras.conversion import from_gauss_flows, to_gauss_flows

TOLERANCE = {"float32": 1e-5, "float64": 1e-10}
MASK = np.array([True, False, True])


@pytest.fixture(autouse=True)
def _single_precision():
    """JAX as it comes, whatever the process is set to."""
    with jax.enable_x64(False):
        yield


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    """Each precision, in JAX's mode for it, which is one of the process if Keras runs on JAX."""
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def points(n_dims, dtype, n_rows=16, seed=1):
    rows = np.random.default_rng(seed).normal(size=(n_rows, n_dims))
    # Into the tails too, where nothing is clipped.
    rows[: n_rows // 8] *= 4.0
    return rows.astype(dtype)


def shaken(flow, seed=0):
    """A Keras flow with random weights, far from the start and not from sense."""
    rng = np.random.default_rng(seed)
    for weight in flow.trainable_variables:
        scale = 0.5 / np.sqrt(weight.shape[0]) if weight.path.endswith("kernel") else 0.15
        if not weight.path.endswith("vectors"):
            weight.assign(scale * rng.normal(size=tuple(weight.shape)))
    return flow


def shaken_jax(flow, dtype, seed=0):
    """A flow of gauss_flows with random parameters of the given dtype; rotations stay rotations."""
    rng = np.random.default_rng(seed)

    def shake(path, leaf):
        if not eqx.is_inexact_array(leaf):
            return leaf
        name = jax.tree_util.keystr(path)
        fixed = any(part in name for part in ("vectors", "matrix", "base_dist"))
        scale = 0.5 / np.sqrt(leaf.shape[-1]) if name.endswith("weight") else 0.15
        moved = leaf if fixed else scale * rng.normal(size=leaf.shape)
        return jnp.asarray(moved, dtype)

    return jax.tree_util.tree_map_with_path(shake, flow)


def numbers(value):
    return np.asarray(keras.ops.convert_to_numpy(value))


def both_ways(flow, x, *condition):
    """log_prob, z and its log-determinant at x, and what x comes from with its own."""
    arrays, static = eqx.partition(flow, eqx.is_array)

    def run(arrays, x, *condition):
        bijection = eqx.combine(arrays, static).bijection
        z, log_det = jax.vmap(bijection.inverse_and_log_det)(x, *condition)
        back = jax.vmap(bijection.transform_and_log_det)(x, *condition)
        return flow.base_dist.log_prob(z) + log_det, z, log_det, *back

    # Nearly all of a test's time is compiling, and half of that optimising.
    program = jax.jit(run).lower(arrays, x, *condition)
    program = program.compile({"xla_backend_optimization_level": 0})
    return [np.array(part) for part in program(arrays, x, *condition)]


def assert_same_function(keras_flow, jax_flow, dtype, *condition):
    """log_prob and both directions with their log-determinants, value by value."""
    x = points(keras_flow.input_dim, dtype)
    ours = (
        keras_flow.log_prob(x, *condition),
        *keras_flow.forward_and_log_det(x, *condition),
        *keras_flow.inverse_and_log_det(x, *condition),
    )
    expected = both_ways(jax_flow, x, *condition)
    for own, other in zip(map(numbers, ours), expected, strict=True):
        assert own.dtype == other.dtype == dtype
        np.testing.assert_allclose(own, other, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def every_kind(dtype):
    residual = gk.make_residual_conditioner(1, 3, 6, 3, dtype=dtype)
    layers = [
        gk.ActNorm(dtype=dtype),
        gk.FixedOrtho.random_haar(3, seed=0, dtype=dtype),
        gk.AffineCoupling(MASK, max_log_scale=2.0, hidden=(6,), dtype=dtype),
        gk.RQSplineCoupling(~MASK, num_bins=4, interval=2.5, hidden=(6, 4), dtype=dtype),
        gk.Householder(5, dtype=dtype),
        gk.MixtureCDFCoupling(MASK, residual, 3, dtype=dtype),
        gk.MixtureCDFGaussianization(3, dtype=dtype),
    ]
    return gk.GaussianizationFlow(layers, input_dim=3, dtype=dtype)


FLOWS = {
    "a diagonal flow": lambda: gk.make_gaussianization_flow(3, 2, 3, num_reflectors=2),
    "a coupling flow": lambda: gk.make_coupling_flow(5, 2, 3, (6, 4)),
    "a shared coupling flow": lambda: gk.make_coupling_flow(
        4, 1, 3, (6,), True, mask=[True] * 3 + [False]
    ),
    "a flow of one coordinate": lambda: gk.make_gaussianization_flow(1, 2, 1),
}


def assert_same_weights(flow, like, dtype):
    """The same layers with the same numbers, in a model that Keras can make again."""
    assert flow.state_dtype == dtype
    for one, other in zip(flow.bijector_layers, like.bijector_layers, strict=True):
        assert type(one) is type(other)
    for own, other in zip(flow.get_weights(), like.get_weights(), strict=True):
        np.testing.assert_allclose(own, other, rtol=0, atol=4 * np.finfo(dtype).eps)
    again = gk.GaussianizationFlow.from_config(flow.get_config())
    assert [tuple(w.shape) for w in again.weights] == [tuple(w.shape) for w in like.weights]


def test_a_keras_flow_is_the_same_in_jax_and_back(dtype):
    flow = shaken(every_kind(dtype))
    there = to_gauss_flows(flow)
    floating = jax.tree.leaves(eqx.filter(there, eqx.is_inexact_array))
    assert {leaf.dtype for leaf in floating} == {np.dtype(dtype)}
    assert_same_function(flow, there, dtype)
    assert_same_weights(from_gauss_flows(there), flow, dtype)


@pytest.mark.parametrize("name", FLOWS)
def test_the_weights_survive_the_way_there_and_back(name):
    flow = shaken(FLOWS[name]())
    assert_same_weights(from_gauss_flows(to_gauss_flows(flow)), flow, "float32")


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_a_conditional_flow_is_the_same_in_jax_and_back(dtype):
    flow = gk.make_gaussianization_flow(3, 2, 3, condition_dim=2, hidden=(6,), dtype=dtype)
    there = to_gauss_flows(shaken(flow))
    assert there.cond_shape == (2,)
    condition = points(2, dtype, seed=2)
    assert_same_function(flow, there, dtype, condition)
    assert_same_weights(from_gauss_flows(there), flow, dtype)


SMALL = {"nn_width": 6, "nn_depth": 2}
FACTORIES = {
    "gaussianization_flow": {"n_components": 3, "rotation": "cayley"},
    "coupling_gaussianization_flow": {"n_bins": 4, "cond_dim": 2, **SMALL},
    "mixture_coupling_flow": {"n_components": 3, "rotation": "random", **SMALL},
    "affine_coupling_flow": {"rotation": "exponential", **SMALL},
}


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
@pytest.mark.parametrize("name", FACTORIES)
def test_a_flow_of_the_factories_is_the_same_in_keras(name, dtype):
    sizes = {"n_dims": 3, "n_layers": 2, **FACTORIES[name]}
    flow = shaken_jax(getattr(gf, name)(jr.key(0), **sizes), dtype)
    there = from_gauss_flows(flow)
    assert there.state_dtype == dtype
    condition = () if flow.cond_shape is None else (points(2, dtype, seed=2),)
    assert_same_function(there, flow, dtype, *condition)


@pytest.mark.parametrize(
    ("rotation", "kind"),
    [
        ("householder", gk.Householder),
        ("cayley", gk.Householder),
        ("exponential", gk.Householder),
        ("random", gk.FixedOrtho),
        ("permute", gk.FixedOrtho),
    ],
)
def test_a_trained_rotation_stays_trainable(rotation, kind):
    flow = gf.gaussianization_flow(
        jr.key(0), n_dims=4, n_layers=1, n_components=1, rotation=rotation
    )
    layer = from_gauss_flows(flow).bijector_layers[0]
    assert type(layer) is kind
    x = points(4, "float32", n_rows=4)
    expected = jax.vmap(flow.bijection.bijection.bijections[0].transform)(x)
    np.testing.assert_allclose(numbers(layer(x)), expected, atol=1e-5)


def jax_flow(*layers):
    chain = Chain(list(layers))
    return Transformed(standard_normal(chain.shape[0]), Invert(chain))


def jax_coupling(conditioner):
    return gf.AffineCoupling(jr.key(0), n_dims=3, conditioner=conditioner)


@pytest.mark.parametrize("dtype", ["float64"], indirect=True)
def test_networks_chains_and_permutations_are_the_same_in_keras(dtype):
    residual = gf.ResidualMLP(jr.key(1), in_size=1, out_size=4, nn_width=6, nn_depth=3)
    shared = gf.SharedMLP(jr.key(2), in_size=1, n_coordinates=2, n_params=2, nn_width=6, nn_depth=2)
    silu = gf.SiluMLP(jr.key(4), in_size=1, out_size=4, nn_width=6, nn_depth=3)
    blocks = gf.affine_coupling_flow(jr.key(3), n_dims=3, n_layers=2, **SMALL)
    inner = Chain([jax_coupling(residual), Flip((3,)), blocks.bijection.bijection])
    turn = Permute(jnp.array([1, 2, 0]))
    fresh = jax_flow(jax_coupling(shared), inner, turn, jax_coupling(silu))
    flow = shaken_jax(fresh, dtype)
    # Frozen parameters are stored otherwise.
    frozen = eqx.tree_at(lambda tree: tree.bijection, flow, replace_fn=non_trainable)
    there = from_gauss_flows(frozen)
    assert len(there.bijector_layers) == 9
    assert_same_function(there, flow, dtype)
    assert_same_function(there, to_gauss_flows(there), dtype)
    # Made afresh, its couplings start as the identity, as in either library.
    again = gk.GaussianizationFlow.from_config(there.get_config())
    x = points(3, dtype)
    expected = jax.vmap(fresh.bijection.inverse)(x)
    np.testing.assert_allclose(numbers(again(x)), expected, atol=1e-6)


def test_another_dtype_can_be_asked_for():
    with jax.enable_x64(True):
        flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=1, n_components=2)
        there = from_gauss_flows(flow, dtype="float32")
        assert {str(weight.dtype) for weight in there.weights} == {"float32"}
        mixed = from_gauss_flows(flow, dtype="mixed_bfloat16").bijector_layers[0]
        assert (mixed.state_dtype, mixed.compute_dtype) == ("float32", "bfloat16")


def test_without_64_bits_a_float64_flow_becomes_float32():
    flow = shaken(gk.make_gaussianization_flow(2, 2, dtype="float64"))
    x = points(2, "float64")
    expected = numbers(flow.log_prob(x))
    with jax.enable_x64(False):
        there = to_gauss_flows(flow)
        log_prob = there.log_prob(x.astype("float32"))
    assert log_prob.dtype == np.float32
    np.testing.assert_allclose(log_prob, expected, rtol=1e-5, atol=1e-5)


def test_half_precision_networks_become_single():
    flow = shaken(gk.make_coupling_flow(2, 1, 3, (6,), dtype="mixed_bfloat16"))
    x = points(2, "float32")
    log_prob = to_gauss_flows(flow).log_prob(x)
    assert log_prob.dtype == np.float32
    np.testing.assert_allclose(log_prob, numbers(flow.log_prob(x)), atol=0.2)


def test_a_network_of_the_users_own_converts():
    network = keras.Sequential(
        [keras.layers.Dense(6, "tanh", use_bias=False), keras.layers.Dense(4)]
    )
    flow = gk.GaussianizationFlow([gk.AffineCoupling([True, False, False], network)], input_dim=3)
    x = points(3, "float32")
    there = to_gauss_flows(shaken(flow))
    np.testing.assert_allclose(there.log_prob(x), numbers(flow.log_prob(x)), atol=1e-5)
    # What comes back has a bias where there was none, and it is zero.
    again = from_gauss_flows(there)
    np.testing.assert_allclose(numbers(again(x)), numbers(flow(x)), atol=1e-5)


def test_repeated_blocks_run_through_one_scan():
    flow = to_gauss_flows(gk.make_coupling_flow(4, 3, 3, (6,)))
    like = gf.mixture_coupling_flow(
        jr.key(0), n_dims=4, n_layers=3, n_components=3, nn_width=6, nn_depth=1
    )
    assert isinstance(flow.bijection.bijection, gf.BlockChain)
    assert flow.bijection.bijection.n_blocks == 3
    # The very structure of the factory's own flow, so that either can take the other's place.
    assert jax.tree.structure(flow) == jax.tree.structure(like)


def test_what_does_not_repeat_stands_around_the_scan():
    layers = [gk.ActNorm()]
    for _ in range(3):
        layers += [gk.Householder(), gk.MixtureCDFGaussianization(3)]
    flow = to_gauss_flows(gk.GaussianizationFlow([*layers, gk.Householder()], input_dim=2))
    parts = flow.bijection.bijection.bijections
    assert [type(part) for part in parts] == [gf.ActNorm, gf.BlockChain, gf.HouseholderRotation]
    assert parts[1].n_blocks == 3


def test_a_flow_without_repetition_is_one_block():
    flow = to_gauss_flows(gk.make_coupling_flow(4, 1, 3, (6,)))
    assert isinstance(flow.bijection.bijection, gf.BlockChain)
    assert len(gf.forward_with_intermediates(flow, jnp.ones((5, 4)))) == 4


def test_a_converted_flow_saves_as_any_other(tmp_path):
    flow = to_gauss_flows(shaken(gk.make_coupling_flow(3, 2, 3, (6,), True)))
    gf.save(flow, tmp_path / "flow.gf")
    x = points(3, "float32")
    np.testing.assert_array_equal(gf.load(tmp_path / "flow.gf").log_prob(x), flow.log_prob(x))


def test_a_converted_flow_shares_no_memory():
    flow = gk.make_gaussianization_flow(2, 1, 2)
    x = points(2, "float32")
    there = to_gauss_flows(flow)
    back = from_gauss_flows(there)
    expected = np.array(there.log_prob(x))
    for other in (flow, back):
        np.testing.assert_allclose(numbers(other.log_prob(x)), expected, atol=1e-5)
        shaken(other)
        assert not np.allclose(numbers(other.log_prob(x)), expected, atol=1e-2)
    np.testing.assert_array_equal(there.log_prob(x), expected)


class MyNorm(gk.ActNorm):
    pass


def keras_flow(*layers):
    return gk.GaussianizationFlow(layers, input_dim=2)


def keras_coupling(*parts, n_out=6, **kwargs):
    network = keras.Sequential([*parts, keras.layers.Dense(n_out, **kwargs)])
    return gk.MixtureCDFCoupling([True, False], network, 2, name="third")


dense = keras.layers.Dense


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gk.ActNorm(), r"a GaussianizationFlow\. Received: flow="),
        (lambda: gk.GaussianizationFlow([gk.ActNorm()]), "to be built"),
        (lambda: keras_flow(MyNorm(name="mine")), r"Received: layer 'mine' of class MyNorm"),
        (
            lambda: keras_flow(
                gk.MixtureCDFCoupling(num_components=2, log_scale_clamp="tanh", name="third")
            ),
            r"no log_scale_clamp in layer 'third'.*Received: log_scale_clamp=",
        ),
        (lambda: keras_flow(keras_coupling(dense(5, "relu"))), r"layer 'third'.*Received: cond"),
        (lambda: keras_flow(keras_coupling(dense(5, "tanh"), activation="tanh")), "'third'"),
        (lambda: keras_flow(keras_coupling()), "'third'.*Received"),
        (
            lambda: keras_flow(keras_coupling(dense(5, "tanh"), keras.layers.Dropout(0.1))),
            r"'third'.*Received: .*Dropout",
        ),
        (
            lambda: keras_flow(gk.MixtureCDFCoupling([True, False], dense(6), 2, name="third")),
            r"'third'.*Received: .*Dense",
        ),
    ],
)
def test_what_gauss_flows_has_not_is_refused(make, message):
    with pytest.raises(ValueError, match="(?s)Expected.*" + message):
        to_gauss_flows(make())


class MyMLP(gf.MLP):
    pass


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gf.ActNorm(2), r"a flow of gauss_flows.*Received: flow=ActNorm"),
        (lambda: Transformed(standard_normal(2), gf.ActNorm(2)), r"Received: .*bijection=ActNorm"),
        (
            lambda: Transformed(Normal(jnp.ones(2)), Invert(gf.ActNorm(2))),
            r"standard normal.*Received: flow.base_dist=Normal",
        ),
        (
            lambda: Transformed(StudentT(jnp.ones(2)), Invert(gf.ActNorm(2))),
            r"standard normal.*Received: flow.base_dist=StudentT",
        ),
        (
            lambda: jax_flow(gf.ActNorm(2), gf.LULinearPermute(2, key=jr.key(0))),
            r"Received: layer 1 of class LULinearPermute",
        ),
        (lambda: jax_flow(gf.MixtureLogisticCDF(2)), "layer 0 of class MixtureLogisticCDF"),
        (lambda: jax_flow(Invert(gf.ActNorm(2))), "layer 0 of class Invert"),
        (
            lambda: jax_flow(
                jax_coupling(MyMLP(jr.key(0), in_size=1, out_size=4, nn_width=3, nn_depth=1))
            ),
            r"Received: conditioner=MyMLP.* in layer 0 of class AffineCoupling",
        ),
        (
            lambda: jax_flow(jax_coupling(eqx.nn.MLP(1, 4, 3, 1, key=jr.key(0)))),
            r"Received: conditioner=MLP.* in layer 0 of class AffineCoupling",
        ),
        (lambda: jax_flow(flowjax.bijections.Exp((2,))), "layer 0 of class Exp"),
    ],
)
def test_what_gauss_keras_has_not_is_refused(make, message):
    with pytest.raises(ValueError, match="(?s)Expected.*" + message):
        from_gauss_flows(make())


def test_without_jax_the_import_says_what_to_install():
    script = (
        "import sys; sys.modules['flowjax'] = None\n"
        "import gaussianization.gauss_keras\n"
        "import gaussianization.gauss_keras.conversion"
    )
    run = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert run.returncode != 0
    last = run.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: gaussianization.gauss_keras.conversion needs gauss_flows")
    assert "pip install 'gauss-flows[jax]'" in last
