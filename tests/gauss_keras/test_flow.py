"""The flow as a Keras model: its density, its two directions, its arguments and its files."""

import importlib

import keras
import numpy as np
import pytest
from keras import ops

from gauss_keras.autodiff import gradients, numbers, weight_gradients
from gauss_keras.registry import N_DIMS, REGISTRY, randomised
from gaussianization import gauss_keras as gk
from gaussianization.gauss_keras import (
    ActNorm,
    AffineCoupling,
    GaussianizationFlow,
    Householder,
    MixtureCDFCoupling,
    MixtureCDFGaussianization,
    base_nll_loss,
    make_coupling_flow,
    make_gaussianization_flow,
)

SEED_NAMES = {
    "gaussianization.gauss_keras": [
        "GaussianizationFlow",
        "Householder",
        "MixtureCDFCoupling",
        "MixtureOfGaussians",
        "base_nll_loss",
        "make_coupling_flow",
        "make_gaussianization_flow",
    ],
    "gaussianization.gauss_keras.bijectors": ["GaussianizationFlow", "MixtureCDFCoupling"],
}


def rows(n_rows=16, n_dims=2, seed=1, dtype="float32"):
    return np.random.default_rng(seed).normal(size=(n_rows, n_dims)).astype(dtype)


def small_flow(condition_dim=None, dtype=None, **options):
    """A cheap flow with random weights."""
    bijectors = [
        ActNorm(dtype=dtype),
        Householder(2, seed=0, dtype=dtype),
        AffineCoupling([True, False], hidden=(4,), condition_dim=condition_dim, dtype=dtype),
        *options.get("more", ()),
    ]
    flow = GaussianizationFlow(bijectors, input_dim=2)
    rng = np.random.default_rng(0)
    for weight in flow.trainable_variables:
        weight.assign(0.3 * rng.normal(size=tuple(weight.shape)))
    return flow


def normal_log_density(z):
    return -0.5 * np.sum(z.astype(float) ** 2, axis=-1) - 0.5 * z.shape[1] * np.log(2 * np.pi)


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in SEED_NAMES.items() for name in names]
)
def test_the_seeds_names_can_be_imported(module, name):
    assert hasattr(importlib.import_module(module), name)


@pytest.mark.parametrize("shared", [False, True])
def test_the_seeds_flow_has_the_seeds_size(shared):
    flow = make_coupling_flow(
        input_dim=2, num_blocks=4, num_components=8, hidden=(64, 64), shared_mixture=shared
    )
    names = [type(layer).__name__ for layer in flow.bijector_layers]
    assert len(names) == 12
    assert names.count("MixtureCDFCoupling") == 8
    assert names.count("Householder") == 4
    assert sum(int(np.prod(w.shape)) for w in flow.trainable_weights) == 46800
    assert flow.count_params() == 46800


def test_a_shared_mixture_takes_fewer_parameters_where_there_is_something_to_share():
    sizes = [
        make_coupling_flow(6, num_blocks=1, shared_mixture=shared).count_params()
        for shared in (False, True)
    ]
    assert sizes[1] < sizes[0]


def test_couplings_of_a_block_have_opposite_masks():
    flow = make_coupling_flow(5, num_blocks=2, num_components=2, hidden=(4,))
    masks = [b.mask for b in flow.bijector_layers if isinstance(b, MixtureCDFCoupling)]
    assert masks == [(True, True, False, False, False), (False, False, True, True, True)] * 2


def test_the_directions_agree(precision):
    # In single precision with the layer whose inverse is a search.
    more = [MixtureCDFGaussianization(3)] if precision == "float32" else []
    flow = small_flow(dtype=precision, more=more)
    tolerance = 2e-5 if precision == "float32" else 1e-11
    x = rows(dtype=precision)
    z, log_det = map(numbers, flow.forward_and_log_det(x))
    back, log_det_back = map(numbers, flow.inverse_and_log_det(z))
    states = list(map(numbers, flow.forward_with_intermediates(x)))
    for value in (z, log_det, back, log_det_back, *states):
        assert value.dtype == precision
    np.testing.assert_array_equal(states[0], x)
    assert len(states) == len(flow.bijector_layers) + 1
    for found in (states[-1], numbers(flow(x)), numbers(flow(ops.convert_to_tensor(x)))):
        np.testing.assert_allclose(found, z, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(back, x, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(numbers(flow.invert(z)), x, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(log_det_back, -log_det, rtol=tolerance, atol=tolerance)
    total, state = 0.0, x
    for layer, after in zip(flow.bijector_layers, states[1:], strict=True):
        state, part = layer.forward_and_log_det(state)
        np.testing.assert_allclose(numbers(state), after, rtol=tolerance, atol=tolerance)
        total = total + numbers(part)
    np.testing.assert_allclose(log_det, total, rtol=tolerance, atol=tolerance)
    log_prob = numbers(flow.log_prob(x))
    np.testing.assert_allclose(log_prob, normal_log_density(z) + log_det, rtol=tolerance)


def test_a_two_dimensional_density_integrates_to_one():
    flow = small_flow(more=[MixtureCDFGaussianization(3)])
    grid = np.linspace(-15.0, 15.0, 301)
    points = np.stack(np.meshgrid(grid, grid), axis=-1).reshape(-1, 2).astype("float32")
    density = np.exp(numbers(flow.log_prob(points)).astype(float))
    assert abs(np.sum(density) * (grid[1] - grid[0]) ** 2 - 1) < 2e-3


def test_base_nll_loss_is_the_normals():
    z = rows(5, 3)
    np.testing.assert_allclose(numbers(base_nll_loss(z, z)), -normal_log_density(z), rtol=1e-6)
    assert base_nll_loss is keras.saving.get_registered_object("gauss_keras>base_nll_loss")


def test_samples():
    flow = small_flow()
    first = numbers(flow.sample(num_samples=7, seed=1))
    assert first.shape == (7, 2)
    assert first.dtype == "float32"
    np.testing.assert_array_equal(first, numbers(flow.sample(7, seed=1)))
    assert np.all(first != numbers(flow.sample(7, seed=2)))
    assert np.all(numbers(flow.sample(7)) != numbers(flow.sample(7)))
    generator = keras.random.SeedGenerator(3)
    assert np.all(numbers(flow.sample(7, generator)) != numbers(flow.sample(7, generator)))
    z = numbers(flow(numbers(flow.sample(4000, seed=5))))
    assert np.all(np.abs(z.mean(0)) < 0.08)
    assert np.all(np.abs(np.cov(z.T) - np.eye(2)) < 0.12)


def test_samples_of_a_mixture_flow():
    flow = make_gaussianization_flow(2, num_blocks=1, num_components=3)
    x = numbers(flow.sample(64, seed=1))
    np.testing.assert_allclose(
        numbers(flow(x)), numbers(keras.random.normal((64, 2), seed=1)), atol=1e-5
    )


@pytest.mark.parametrize("condition_dim", [None, 3])
def test_many_points_are_inverted_alike_whenever_asked(condition_dim):
    flow = small_flow(condition_dim, more=[MixtureCDFCoupling([False, True], hidden=(4,))])
    rng = np.random.default_rng(0)
    for weight in flow.bijector_layers[-1].trainable_variables:
        weight.assign(rng.normal(size=tuple(weight.shape)))
    z, condition = 2 * rows(1100), () if condition_dim is None else (rows(1100, 3, seed=2),)
    x = z
    for layer in reversed(flow.bijector_layers):
        x = numbers(layer.inverse(x, *condition))
    # The first time, again, and with another number of rows; then with other weights.
    for n_rows in (1100, 1100, 1100, 1031):
        found = numbers(flow.invert(z[:n_rows], *(part[:n_rows] for part in condition)))
        np.testing.assert_allclose(found, x[:n_rows], rtol=2e-5, atol=2e-5)
    flow.bijector_layers[0].trainable_variables[0].assign([0.7, -0.4])
    found = numbers(flow.forward_and_log_det(numbers(flow.invert(z, *condition)), *condition)[0])
    np.testing.assert_allclose(found, z, rtol=2e-5, atol=2e-5)


def test_many_inverted_points_keep_their_derivatives():
    flow, z = small_flow(more=[MixtureCDFGaussianization(3)]), rows(1100)
    kernel = flow.trainable_variables[-1]

    def square(z):
        return ops.sum(flow.invert(z) ** 2)

    of_z, of_weight = gradients(square, z)[0], weight_gradients(square, [kernel], z)[0]
    assert np.all(of_z != 0)
    assert np.any(of_weight != 0)
    for _ in range(2):
        flow.invert(z)
    np.testing.assert_allclose(gradients(square, z)[0], of_z, rtol=1e-4, atol=1e-4)
    # A program must not answer for weights that a scope has put in the flow's place.
    again = weight_gradients(square, [kernel], z)[0]
    np.testing.assert_allclose(again, of_weight, rtol=1e-4, atol=1e-4)


def test_a_conditional_flow():
    flow = small_flow(condition_dim=3)
    x, condition = rows(), rows(n_dims=3, seed=2)
    log_prob = numbers(flow.log_prob(x, condition=condition))
    assert np.all(log_prob != numbers(flow.log_prob(x, condition=condition[::-1].copy())))
    z, _ = flow.forward_and_log_det(x, condition)
    np.testing.assert_allclose(numbers(flow.invert(z, condition)), x, atol=1e-5)
    np.testing.assert_allclose(numbers(flow((x, condition))), numbers(z), atol=1e-6)
    drawn = numbers(flow.sample(16, seed=1, condition=condition))
    noise = numbers(flow(drawn, condition=condition))
    np.testing.assert_allclose(noise, numbers(keras.random.normal((16, 2), seed=1)), atol=1e-5)
    same = numbers(flow.sample(16, seed=1, condition=condition[0]))
    every = numbers(flow.sample(16, seed=1, condition=np.tile(condition[:1], (16, 1))))
    np.testing.assert_array_equal(same, every)


def test_a_conditional_diagonal_flow_ignores_a_condition_at_its_start():
    flow = make_gaussianization_flow(
        2, num_blocks=1, num_components=2, condition_dim=1, hidden=(4,)
    )
    x = rows(8)
    expected = numbers(flow.log_prob(x, condition=np.zeros((8, 1), "float32")))
    found = numbers(flow.log_prob(x, condition=rows(8, 1)))
    np.testing.assert_array_equal(found, expected)


@keras.saving.register_keras_serializable(package="gauss_keras_tests")
class SineConditioner(keras.layers.Layer):
    """Somebody's own conditioner, with an argument and a weight."""

    def __init__(self, width, frequency, **kwargs):
        super().__init__(**kwargs)
        self.width, self.frequency = width, frequency

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.width), name="kernel")
        super().build(input_shape)

    def call(self, inputs):
        return ops.sin(self.frequency * inputs) @ self.kernel

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)

    def get_config(self):
        return {**super().get_config(), "width": self.width, "frequency": self.frequency}


def functional_conditioner(width):
    inputs = keras.Input((1,))
    hidden = keras.layers.Dense(3, activation="tanh")(inputs)
    hidden = keras.layers.Dense(3, activation="tanh")(hidden) + hidden
    return keras.Model(inputs, keras.layers.Dense(width)(hidden))


CONDITIONERS = {
    "own": lambda: SineConditioner(6, 2.5),
    "functional": lambda: functional_conditioner(6),
    "built in": lambda: None,
}


@pytest.mark.parametrize("name", CONDITIONERS)
def test_a_saved_flow_is_the_same_flow(name, tmp_path):
    layers = [
        Householder(1),
        MixtureCDFCoupling(
            [False, True],
            CONDITIONERS[name](),
            2,
            hidden=(3,),
            log_scale_clamp=gk.tanh_log_scale_clamp(1.5),
        ),
    ]
    flow = GaussianizationFlow(layers, input_dim=2, name="saved")
    rng = np.random.default_rng(0)
    for weight in flow.trainable_variables:
        weight.assign(0.4 * rng.normal(size=tuple(weight.shape)))
    x = rows()
    flow.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert isinstance(loaded, GaussianizationFlow)
    assert loaded.name == "saved"
    np.testing.assert_array_equal(numbers(loaded.log_prob(x)), numbers(flow.log_prob(x)))


def test_a_saved_flow_of_every_layer_is_the_same_flow(tmp_path, precision):
    layers = [randomised(entry.make(dtype=precision)) for entry in REGISTRY]
    flow = GaussianizationFlow(layers, input_dim=N_DIMS, dtype=precision)
    flow.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert loaded.state_dtype == precision
    for layer, original in zip(loaded.bijector_layers, flow.bijector_layers, strict=True):
        assert type(layer) is type(original)
        configs = [part.get_config() | {"conditioner": None} for part in (layer, original)]
        assert configs[0] == configs[1]
    for found, weight in zip(loaded.weights, flow.weights, strict=True):
        np.testing.assert_array_equal(numbers(found), numbers(weight))


def test_weights_alone_can_be_saved(tmp_path):
    flow = small_flow()
    flow.save_weights(tmp_path / "flow.weights.h5")
    other = small_flow()
    for weight in other.trainable_variables:
        weight.assign(0.1 * np.ones(tuple(weight.shape)))
    other.load_weights(tmp_path / "flow.weights.h5")
    np.testing.assert_array_equal(numbers(other.log_prob(rows())), numbers(flow.log_prob(rows())))


def test_configuration_before_and_after_build():
    for input_dim in (None, 2):
        flow = GaussianizationFlow(
            [Householder(2), AffineCoupling([True, False], hidden=(3,), max_log_scale=0.7)],
            input_dim,
        )
        twin = GaussianizationFlow.from_config(flow.get_config())
        assert twin.built == flow.built == (input_dim is not None)
        twin(rows()), flow(rows())
        twin.set_weights(flow.get_weights())
        np.testing.assert_array_equal(numbers(twin(rows())), numbers(flow(rows())))


def test_a_flow_copies_to_another():
    flow = small_flow()
    twin = keras.models.clone_model(flow)
    twin.set_weights(flow.get_weights())
    np.testing.assert_array_equal(numbers(twin.log_prob(rows())), numbers(flow.log_prob(rows())))


def test_a_flow_can_be_part_of_a_model():
    flow = small_flow()
    inputs = keras.Input((2,))
    output = flow(2.0 * inputs)
    assert tuple(output.shape) == (None, 2)
    model = keras.Model(inputs, output)
    np.testing.assert_allclose(numbers(model(rows())), numbers(flow(2.0 * rows())), atol=1e-6)


@pytest.mark.parametrize("policy", ["mixed_float16", "float16"])
def test_half_precision_policies(policy):
    flow = make_coupling_flow(2, num_blocks=1, num_components=2, hidden=(4,), dtype=policy)
    x = rows()
    log_prob = numbers(flow.log_prob(x))
    assert log_prob.dtype == "float32"
    single = make_coupling_flow(2, num_blocks=1, num_components=2, hidden=(4,))
    single.set_weights(flow.get_weights())
    np.testing.assert_allclose(log_prob, numbers(single.log_prob(x)), atol=0.02)


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    "method", ["__call__", "log_prob", "invert", "forward_and_log_det", "fit", "evaluate"]
)
def test_a_value_that_is_not_finite_is_named(method, bad):
    flow = small_flow()
    flow.compile("adam")
    x = rows()
    x[3, 1] = bad
    name = "z" if method == "invert" else "x"
    with pytest.raises(ValueError, match=rf"finite.* Received: {name}\[3, 1\]={bad}"):
        getattr(flow, method)(x)


def test_a_condition_that_is_not_finite_is_named():
    flow = small_flow(condition_dim=3)
    flow.compile("adam")
    condition = rows(n_dims=3)
    condition[2, 0] = np.nan
    for call in (
        lambda: flow.log_prob(rows(), condition=condition),
        lambda: flow.fit((rows(), condition), verbose=0),
        lambda: flow.sample(16, condition=condition),
    ):
        with pytest.raises(ValueError, match=r"Received: condition\[2, 0\]=nan"):
            call()


@pytest.mark.parametrize("method", ["__call__", "log_prob", "invert", "forward_with_intermediates"])
def test_another_width_is_refused(method):
    with pytest.raises(ValueError, match=r"\(batch, 2\).* Received: .*shape=\(16, 3\)"):
        getattr(small_flow(), method)(rows(n_dims=3))


def test_another_width_is_refused_in_training():
    flow = small_flow()
    flow.compile("adam")
    with pytest.raises(ValueError, match=r"\(n, 2\).* Received: x.shape="):
        flow.fit(rows(n_dims=3), verbose=0)


def test_a_single_row_is_no_batch():
    with pytest.raises(ValueError, match=r"Received: x.shape=\(2,\)"):
        small_flow().log_prob(np.zeros(2, "float32"))


@pytest.mark.parametrize("method", ["log_prob", "invert", "forward_and_log_det"])
def test_a_flow_that_is_not_built_is_refused(method):
    flow = GaussianizationFlow([ActNorm()], name="unbuilt")
    with pytest.raises(ValueError, match="Expected 'unbuilt' to be built.* Received: built=False"):
        getattr(flow, method)(rows())
    with pytest.raises(ValueError, match="Received: built=False"):
        flow.sample(3)


def test_a_flow_is_built_by_the_first_data_it_sees():
    flow = GaussianizationFlow([ActNorm(), AffineCoupling(hidden=(3,))])
    assert tuple(flow(rows(n_dims=4)).shape) == (16, 4)
    assert tuple(flow.sample(5).shape) == (5, 4)


@pytest.mark.parametrize("count", [0, -2, 1.5])
def test_a_bad_number_of_samples_is_refused(count):
    with pytest.raises(ValueError, match=f"Received: num_samples={count}"):
        small_flow().sample(count)


def test_a_condition_that_does_not_fit_is_refused():
    conditional, plain = small_flow(condition_dim=3), small_flow()
    with pytest.raises(ValueError, match="Received: condition=None"):
        conditional.log_prob(rows())
    with pytest.raises(ValueError, match="Received: condition=None"):
        conditional.sample(4)
    with pytest.raises(ValueError, match=r"Received: condition.shape=\(16, 2\)"):
        conditional.log_prob(rows(), condition=rows())
    with pytest.raises(ValueError, match=r"Received: condition.shape=\(16, 3\)"):
        conditional.sample(4, condition=rows(n_dims=3))
    with pytest.raises(
        ValueError, match=r"Expected no condition.* Received: condition=one of shape"
    ):
        plain.log_prob(rows(), condition=rows())
    with pytest.raises(
        ValueError, match=r"Expected no condition.* Received: condition=one of shape"
    ):
        plain.sample(16, condition=rows())


@pytest.mark.parametrize("name", ["num_blocks", "num_components", "num_reflectors", "input_dim"])
@pytest.mark.parametrize("factory", [make_gaussianization_flow, make_coupling_flow])
def test_a_size_below_one_is_refused(factory, name):
    options = {"input_dim": 2, name: 0}
    with pytest.raises(ValueError, match=f"Received: {name}=0"):
        factory(**options)


def test_what_is_no_stack_of_bijectors_is_refused():
    with pytest.raises(ValueError, match=r"Received: bijectors=\[\]"):
        GaussianizationFlow([])
    with pytest.raises(ValueError, match="Received: bijectors=.*Dense"):
        GaussianizationFlow([ActNorm(), keras.layers.Dense(2)])
    layers = [AffineCoupling([True, False], condition_dim=width) for width in (1, 2)]
    with pytest.raises(ValueError, match=r"Received: condition_dim=\[1, 2\]"):
        GaussianizationFlow(layers)
