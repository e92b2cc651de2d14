"""Couplings: masks, conditioners, conditions, clamps, and components that separate."""

import keras
import numpy as np
import pytest
from keras import ops

from gauss_keras.autodiff import numbers, with_jacobian
from gaussianization.gauss_keras import (
    AffineCoupling,
    Bijector,
    GaussianizationFlow,
    MixtureCDFCoupling,
    MixtureCDFGaussianization,
    MixtureOfGaussians,
    RQSplineCoupling,
    default_half_mask,
    make_coupling_flow,
    make_mlp_conditioner,
    make_residual_conditioner,
    make_shared_mlp_conditioner,
    sigmoid_log_scale_clamp,
    tanh_log_scale_clamp,
)

COUPLINGS = [AffineCoupling, MixtureCDFCoupling, RQSplineCoupling]
MASKS = {
    "half of odd": [True, True, False, False, False],
    "alternate": [True, False, True, False, True],
    "one passive": [False, False, True, False, False],
    "one active": [True, True, True, True, False],
}


def built(cls, mask, seed=0, **options):
    """A small coupling with random weights."""
    layer = cls(mask, hidden=(4,), **options)
    layer.build((None, 5 if mask is None else len(mask)))
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_variables:
        weight.assign(0.2 * rng.normal(size=tuple(weight.shape)))
    return layer


def rows(n_dims, n_rows=6, seed=1):
    return np.random.default_rng(seed).normal(size=(n_rows, n_dims)).astype("float32")


@pytest.mark.parametrize("n_dims", [2, 3, 5, 8])
def test_the_default_mask_passes_the_first_half(n_dims):
    mask = default_half_mask(n_dims)
    assert mask.dtype == bool
    assert mask.tolist() == [j < n_dims // 2 for j in range(n_dims)]


@pytest.mark.parametrize("n_dims", [1, 0, -3])
def test_one_coordinate_has_no_half(n_dims):
    with pytest.raises(ValueError, match=f"Received: input_dim={n_dims}"):
        default_half_mask(n_dims)


@pytest.mark.parametrize("name", MASKS)
def test_any_mask(name):
    mask = np.array(MASKS[name])
    layer = built(AffineCoupling, mask)
    x = rows(5)
    z, log_det, jacobian = with_jacobian(layer.forward_and_log_det, x)
    np.testing.assert_array_equal(z[:, mask], x[:, mask])
    assert np.all(z[:, ~mask] != x[:, ~mask])
    np.testing.assert_allclose(log_det, np.linalg.slogdet(jacobian)[1], atol=1e-5)
    # An active coordinate reads itself and the passive ones, and no other.
    assert np.all(jacobian[:, ~mask][:, :, ~mask] * (1 - np.eye(np.sum(~mask))) == 0)
    assert np.all(np.any(jacobian[:, ~mask][:, :, mask] != 0, axis=(1, 2)))
    np.testing.assert_allclose(numbers(layer.inverse(z)), x, atol=1e-5)


def test_the_default_is_the_half_mask():
    layer = built(AffineCoupling, None)
    x = rows(5)
    z = numbers(layer(x))
    np.testing.assert_array_equal(z[:, :2], x[:, :2])
    assert np.all(z[:, 2:] != x[:, 2:])


@pytest.mark.parametrize("cls", COUPLINGS)
def test_one_coordinate_is_an_error(cls):
    with pytest.raises(
        ValueError, match=r"MixtureCDFGaussianization. Received: input_shape=\(None, 1\)"
    ):
        cls().build((None, 1))


def test_one_coordinate_is_an_error_for_a_flow():
    with pytest.raises(ValueError, match="make_gaussianization_flow. Received: input_dim=1"):
        make_coupling_flow(input_dim=1)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([True, True], r"at least one False.* Received: mask=\[True, True\]"),
        ([False, False], r"at least one True.* Received: mask=\[False, False\]"),
        ([1, 0], r"booleans.* Received: mask=\[1, 0\]"),
        ([1.0, 0.0], r"booleans.* Received: mask="),
        ([[True, False]], r"booleans.* Received: mask="),
        ([], r"booleans.* Received: mask=\[\]"),
    ],
)
@pytest.mark.parametrize("cls", COUPLINGS)
def test_a_bad_mask_is_refused_when_it_is_given(cls, mask, message):
    with pytest.raises(ValueError, match=message):
        cls(mask)


def test_a_mask_of_another_length_is_refused_at_build():
    with pytest.raises(ValueError, match=r"mask of 3 booleans.* Received: mask=\[True, False\]"):
        AffineCoupling([True, False]).build((None, 3))


@pytest.mark.parametrize("mask", [[True, True], [False, False], [1, 0], [True, False, True]])
def test_a_bad_mask_is_refused_by_the_factory(mask):
    with pytest.raises(ValueError, match="Received: mask="):
        make_coupling_flow(input_dim=2, mask=mask)


@pytest.mark.parametrize("count", [0, -1, 1.5])
def test_a_bad_count_is_refused(count):
    with pytest.raises(ValueError, match=f"Received: num_components={count}"):
        MixtureCDFCoupling([True, False], num_components=count)
    with pytest.raises(ValueError, match=f"Received: num_components={count}"):
        MixtureCDFGaussianization(count)
    with pytest.raises(ValueError, match=f"Received: num_bins={count}"):
        RQSplineCoupling([True, False], num_bins=count)


def functional(width):
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(4, activation="tanh")(inputs)
    outputs = keras.layers.Dense(width, kernel_initializer="zeros")(hidden + 0.5)
    return keras.Model(inputs, outputs)


class Subclassed(keras.Model):
    """A model that says its shape only by being called."""

    def __init__(self, width):
        super().__init__()
        self.head = keras.layers.Dense(width)

    def call(self, inputs):
        return self.head(ops.sin(inputs))


class OwnLayer(keras.layers.Layer):
    """A layer with a weight of its own."""

    def __init__(self, width):
        super().__init__()
        self.width = width

    def build(self, input_shape):
        self.kernel = self.add_weight(shape=(input_shape[-1], self.width))

    def call(self, inputs):
        return inputs @ self.kernel

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.width)


CONDITIONERS = {
    "layer": keras.layers.Dense,
    "own layer": OwnLayer,
    "sequential": lambda width: keras.Sequential(
        [keras.layers.Dense(4), keras.layers.Dense(width)]
    ),
    "functional": functional,
    "subclassed": Subclassed,
    "MLP": lambda width: make_mlp_conditioner(2, width // 6, hidden=(4,)),
    "shared": lambda width: make_shared_mlp_conditioner(2, width // 6, hidden=(4,)),
    "residual": lambda width: make_residual_conditioner(2, width // 6, hidden_width=4),
}


@pytest.mark.parametrize("name", CONDITIONERS)
def test_any_layer_or_model_conditions(name):
    layer = MixtureCDFCoupling([True, False, True, False], CONDITIONERS[name](12), num_components=2)
    layer.build((None, 4))
    # Its weights are the layer's, which trains and saves them.
    assert len(layer.trainable_variables) == len(layer.conditioner.trainable_variables) > 0
    x = rows(4)
    z, _ = layer.forward_and_log_det(x)
    np.testing.assert_allclose(numbers(layer.inverse(z)), x, atol=2e-5)


@pytest.mark.parametrize("wrong", [11, 13, 6])
@pytest.mark.parametrize("name", ["layer", "functional", "subclassed"])
def test_a_conditioner_of_another_width_is_refused_with_both_numbers(name, wrong):
    layer = MixtureCDFCoupling(
        [True, False, True, False], CONDITIONERS[name](wrong), num_components=2
    )
    with pytest.raises(ValueError, match=rf"width of 12 in .* Received: .*{wrong}"):
        layer.build((None, 4))


def test_what_is_no_layer_is_no_conditioner():
    with pytest.raises(ValueError, match="Received: conditioner=<"):
        AffineCoupling([True, False], lambda x: x)


@pytest.mark.parametrize("mask", [[True, False, True], [False, False, False]])
def test_a_condition_moves_the_active_side(mask):
    layer = built(AffineCoupling, mask, condition_dim=2)
    x, condition = rows(3), rows(2, seed=2)
    z, log_det = layer.forward_and_log_det(x, condition)
    other, other_log_det = layer.forward_and_log_det(x, condition[::-1].copy())
    active = ~np.array(mask)
    np.testing.assert_array_equal(numbers(z)[:, ~active], x[:, ~active])
    assert np.all(numbers(z)[:, active] != numbers(other)[:, active])
    assert np.all(numbers(log_det) != numbers(other_log_det))
    np.testing.assert_allclose(numbers(layer.inverse(z, condition)), x, atol=1e-5)


def test_a_condition_that_is_missing_or_too_wide_is_refused():
    layer = built(AffineCoupling, [True, False, True], condition_dim=2)
    with pytest.raises(ValueError, match="Received: condition=None"):
        layer.forward_and_log_det(rows(3))
    with pytest.raises(ValueError, match=r"Received: condition.shape=\(6, 3\)"):
        layer.forward_and_log_det(rows(3), rows(3))
    with pytest.raises(ValueError, match="Received: condition_dim=0"):
        AffineCoupling([True, False], condition_dim=0)


@pytest.mark.parametrize("cls", [AffineCoupling, RQSplineCoupling])
def test_a_zero_head_is_the_identity(cls):
    layer = cls([True, False, True], hidden=(4,))
    layer.build((None, 3))
    x = rows(3)
    z, log_det = layer.forward_and_log_det(x)
    np.testing.assert_allclose(numbers(z), x, atol=1e-6)
    np.testing.assert_allclose(numbers(log_det), 0.0, atol=1e-5)


@pytest.mark.parametrize("n_components", [1, 2, 8, 24])
def test_a_zero_head_of_mixtures_is_near_the_identity(n_components):
    """Within 0.45 up to |x| = 10, the slope within e^±0.31, and 0.01 nats from N(0, 1)."""
    layer = MixtureCDFCoupling([True, False], num_components=n_components, hidden=(4,))
    layer.build((None, 2))
    x = np.zeros((401, 2), "float32")
    x[:, 1] = np.linspace(-10.0, 10.0, 401)
    z, log_det = map(numbers, layer.forward_and_log_det(x))
    np.testing.assert_array_equal(z[:, 0], x[:, 0])
    assert np.all(np.abs(z - x) <= 0.45)
    assert np.all(np.abs(log_det) <= 0.31)
    normal = np.exp(-0.5 * x[:, 1] ** 2)
    log_ratio = 0.5 * z[:, 1] ** 2 - 0.5 * x[:, 1] ** 2 - log_det
    assert abs(np.sum(normal * log_ratio) / np.sum(normal)) <= 0.01


def test_a_zero_head_is_the_marginal_layer_at_its_start():
    coupling = MixtureCDFCoupling([True, False], num_components=4, hidden=(4,))
    coupling.build((None, 2))
    marginal = MixtureCDFGaussianization(4)
    marginal.build((None, 1))
    x = 3 * rows(2)
    z, log_det = coupling.forward_and_log_det(x)
    expected, expected_log_det = marginal.forward_and_log_det(x[:, 1:])
    np.testing.assert_allclose(numbers(z)[:, 1:], numbers(expected), rtol=1e-6)
    np.testing.assert_allclose(numbers(log_det), numbers(expected_log_det), atol=2e-6)


def spread(parameters):
    """The least difference between two components, over all mixtures."""
    parts = np.stack(parameters)  # (3, ..., K)
    difference = np.abs(parts[..., :, None] - parts[..., None, :]).max(axis=0)
    n_components = difference.shape[-1]
    return difference[..., ~np.eye(n_components, dtype=bool)].min()


def two_moons(n_rows):
    rng = np.random.default_rng(0)
    angle = np.pi * rng.random(n_rows)
    upper = rng.random(n_rows) < 0.5
    x = np.where(upper, np.cos(angle), 1 - np.cos(angle))
    y = np.where(upper, np.sin(angle), 0.5 - np.sin(angle))
    x = np.stack([x, y], axis=1) + 0.05 * rng.normal(size=(n_rows, 2))
    return ((x - x.mean(0)) / x.std(0)).astype("float32")


def test_components_of_every_coupling_separate_in_twenty_steps():
    """With a zero head and equal components they receive the same gradient for ever."""
    n_components = 4
    flow = make_coupling_flow(2, num_blocks=1, num_components=n_components, hidden=(4,))
    flow.compile(keras.optimizers.Adam(3e-3))
    x = two_moons(640)
    flow.fit(x, batch_size=32, epochs=1, verbose=0)
    assert int(flow.optimizer.iterations) == 20
    couplings = [b for b in flow.bijector_layers if isinstance(b, MixtureCDFCoupling)]
    assert len(couplings) == 2
    for layer in couplings:
        mixture = layer.mixture(rows(1, 3))
        effective = (mixture.log_weights, mixture.means, mixture.log_scales)
        assert spread([numbers(part) for part in effective]) > 1e-2
        # What training has added differs too: not the start alone keeps them apart.
        added = ops.reshape(layer.raw_parameters(rows(1, 3)), (3, 1, 3, n_components))
        assert spread(numbers(ops.transpose(added, (2, 0, 1, 3)))) > 1e-5


class EqualStart(Bijector):
    """The marginal layer as the public code has it: all components alike at the start."""

    def build(self, input_shape):
        super().build(input_shape)
        self.raw = self.add_weight(shape=(3, 1, self.input_dim, 4), initializer="zeros")

    def _forward(self, x, condition):
        raw = self._tensor(self.raw)
        z, log_det = MixtureOfGaussians(raw[0], raw[1], raw[2]).gaussianize(x)
        return z, ops.sum(log_det, axis=-1)


def test_equal_components_would_never_separate():
    layer = EqualStart()
    flow = GaussianizationFlow([layer], input_dim=2)
    flow.compile(keras.optimizers.Adam(3e-3))
    flow.fit(two_moons(640) + 1.0, batch_size=32, epochs=1, verbose=0)
    assert np.any(numbers(layer.raw) != 0)
    assert spread(numbers(layer.raw)) == 0.0


def test_clamps():
    tanh, sigmoid = tanh_log_scale_clamp(2.0), sigmoid_log_scale_clamp(-1.0, 3.0)
    raw = np.array([-1e9, -100.0, -0.01, 0.0, 0.01, 100.0, 1e9], "float32")
    np.testing.assert_allclose(
        numbers(tanh(raw)), [-2, -2, -0.01, 0, 0.01, 2, 2], rtol=1e-4, atol=1e-6
    )
    np.testing.assert_allclose(
        numbers(sigmoid(raw)), [-1, -1, 0.99, 1, 1.01, 3, 3], rtol=1e-4, atol=1e-6
    )
    for clamp, value in ((tanh, 1.3), (sigmoid, 2.2)):
        back = clamp(np.float32(clamp.inverse(np.array(value))))
        np.testing.assert_allclose(float(back), value, rtol=1e-5)
        twin = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(clamp))
        np.testing.assert_array_equal(numbers(twin(raw)), numbers(clamp(raw)))


@pytest.mark.parametrize("bound", [0.0, -1.0, np.inf, np.nan])
def test_a_bad_clamp_is_refused(bound):
    with pytest.raises(ValueError, match=f"Received: bound={bound}"):
        tanh_log_scale_clamp(bound)
    with pytest.raises(ValueError, match=f"Received: min_log_scale=1.0, max_log_scale={bound}"):
        sigmoid_log_scale_clamp(1.0, bound)


@pytest.mark.parametrize("clamp", ["tanh", "sigmoid", None, tanh_log_scale_clamp(0.5)])
def test_a_clamp_bounds_what_a_network_can_do(clamp):
    layer = MixtureCDFCoupling(
        [True, False],
        keras.layers.Dense(6, kernel_initializer="ones"),
        num_components=2,
        log_scale_clamp=clamp,
    )
    layer.build((None, 2))
    start = numbers(layer.mixture(np.zeros((1, 1), "float32")).log_scales)
    moved = numbers(layer.mixture(np.full((1, 1), 1e3, "float32")).log_scales)
    bound = getattr(clamp, "bound", np.inf if clamp is None else 5.0)
    assert np.all(np.abs(moved - start) <= bound * (1 + 1e-5))
    if clamp is None:
        assert np.all(np.abs(moved - start) > 5.0)


def test_an_unknown_clamp_is_refused():
    with pytest.raises(ValueError, match="Received: log_scale_clamp='hard'"):
        MixtureCDFCoupling([True, False], log_scale_clamp="hard")
    with pytest.raises(ValueError, match="Received: log_scale_clamp=3"):
        MixtureCDFCoupling([True, False], log_scale_clamp=3)
