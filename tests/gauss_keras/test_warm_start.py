"""The warm start: every layer set from the rows it receives."""

import jax
import jax.random as jr
import keras
import numpy as np
import pytest

import gauss_flows as gf
from gaussianization import gauss_keras as gk
from gaussianization.gauss_keras.conversion import from_gauss_flows, to_gauss_flows
from gaussianization.gauss_keras.numerics import rational_quadratic
from gaussianization.gauss_keras.spline_start import fitted_splines

MASK = np.array([True, False, True])
TOLERANCE = {"float32": 1e-6, "float64": 1e-12}


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


def skewed(n_rows=2000, n_dims=3, dtype="float32", seed=0):
    """Standardised gamma columns, mixed a little."""
    rng = np.random.default_rng(seed)
    x = rng.gamma(2.0, size=(n_rows, n_dims))
    x[:, 1:] += 0.5 * x[:, :1]
    return ((x - x.mean(0)) / x.std(0)).astype(dtype)


def numbers(value):
    return np.asarray(keras.ops.convert_to_numpy(value))


def score(flow, x, *condition):
    """Mean log-likelihood in nats."""
    return float(np.mean(numbers(flow.log_prob(x, *condition))))


def alone(*layers, n_dims=3, **kwargs):
    return gk.GaussianizationFlow(layers, input_dim=n_dims, **kwargs)


def shaken(flow, seed=0):
    """A flow that has been trained, so far as the warm start can tell."""
    rng = np.random.default_rng(seed)
    for weight in flow.trainable_variables:
        if not weight.path.endswith("vectors"):
            weight.assign(0.2 * rng.normal(size=tuple(weight.shape)))
    return flow


# What they reach on standardised, mixed gamma columns; independent normals have −4.26.
FLOWS = {
    "diagonal": (lambda: gk.make_gaussianization_flow(3, 2), -3.95),
    "coupling": (lambda: gk.make_coupling_flow(3, 2), -3.95),
    "coupling, shared": (lambda: gk.make_coupling_flow(3, 2, shared_mixture=True), -3.95),
    "norm and splines": (
        lambda: alone(gk.ActNorm(), gk.RQSplineCoupling(MASK), gk.RQSplineCoupling(~MASK)),
        -4.0,
    ),
    "affine": (lambda: alone(gk.AffineCoupling(MASK), gk.AffineCoupling(~MASK)), -4.26),
}


@pytest.mark.parametrize("name", FLOWS)
def test_every_family_fits_better_and_returns_its_latents(name):
    make, reached = FLOWS[name]
    flow, x = shaken(make()), skewed()
    before = score(flow, x)
    z = gk.initialize_flow_from_ig(flow, x)
    assert score(flow, x) > max(before, reached)
    np.testing.assert_allclose(z, numbers(flow(x)), atol=1e-4)
    assert np.abs(z.mean(0)).max() < 0.05
    if name != "affine":
        assert np.abs(z.var(0) - 1.0).max() < 0.1


def diagonal_and_coupled(n_blocks, dtype):
    """A diagonal flow and a coupling flow with the same rotations."""
    diagonal = gk.make_gaussianization_flow(3, n_blocks, 4, dtype=dtype)
    coupled = shaken(gk.make_coupling_flow(3, n_blocks, 4, (6,), mask=MASK, dtype=dtype))
    rotations = [layer for layer in coupled.bijector_layers if isinstance(layer, gk.Householder)]
    for own, other in zip(diagonal.bijector_layers[::2], rotations, strict=True):
        other.vectors.assign(np.array(numbers(own.vectors)))
    return diagonal, coupled


def assert_same(diagonal, coupled, x, dtype):
    for method in ("__call__", "log_prob"):
        own, other = (numbers(getattr(flow, method)(x)) for flow in (diagonal, coupled))
        np.testing.assert_allclose(other, own, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


def test_the_coupling_flow_starts_as_the_diagonal_flow(dtype):
    x = skewed(dtype=dtype)
    # After a block in float32 the two may differ in a last digit, which another fit magnifies.
    flows = diagonal_and_coupled(1 if dtype == "float32" else 2, dtype)
    for flow in flows:
        gk.initialize_flow_from_ig(flow, x)
    assert_same(*flows, x, dtype)


def test_the_zero_kernel_coupling_flow_is_the_diagonal_flow(dtype):
    x = skewed(dtype=dtype)
    diagonal, coupled = diagonal_and_coupled(2, dtype)
    gk.initialize_flow_from_ig(diagonal, x)
    marginals = np.repeat(diagonal.bijector_layers[1::2], 2)
    couplings = [layer for layer in coupled.bijector_layers if hasattr(layer, "mask")]
    for marginal, coupling in zip(marginals, couplings, strict=True):
        raw = numbers(marginal.raw)[~np.array(coupling.mask)]
        head = coupling.conditioner.layers[-1]
        head.kernel.assign(np.zeros(head.kernel.shape))
        head.bias.assign(raw.ravel() / coupling.conditioner_gain)
    assert_same(diagonal, coupled, x, dtype)


@pytest.mark.parametrize("name", ["gaussianization_flow", "mixture_coupling_flow"])
def test_it_is_the_warm_start_of_gauss_flows(name):
    x = skewed()
    flow = getattr(gf, name)(jr.key(0), n_dims=3, n_layers=2, n_components=4)
    ours = from_gauss_flows(flow)
    gk.initialize_flow_from_ig(ours, x)
    theirs = gf.warm_start(flow, x)
    assert abs(score(ours, x) - float(theirs.log_prob(x).mean())) < 1e-3
    first = to_gauss_flows(ours).bijection.bijection.bijections[1]
    other = theirs.bijection.bijection.bijections[1]
    for own, wanted in zip(jax.tree.leaves(first), jax.tree.leaves(other), strict=True):
        # Two runs of the same EM, one in single precision, stop where it hardly gains any more.
        np.testing.assert_allclose(own, wanted, atol=0.1)


def test_one_layer_is_the_mixture_that_was_fitted(dtype):
    x = skewed(dtype=dtype)
    flow = alone(gk.MixtureCDFGaussianization(4, dtype=dtype), dtype=dtype)
    gk.initialize_flow_from_ig(flow, x)
    fit = gk.warm_start.fit_mixtures(x, 4, dtype=dtype)
    expected = gk.MixtureOfGaussians(*(part[None] for part in fit[:3])).log_pdf(x.astype("float64"))
    np.testing.assert_allclose(
        numbers(flow.log_prob(x)), numbers(expected).sum(1), rtol=2e-5, atol=2e-5
    )


def test_the_norm_and_the_affine_coupling_standardise():
    x = 3.0 + 2.0 * skewed()
    for flow in (alone(gk.ActNorm()), alone(gk.AffineCoupling(MASK), gk.AffineCoupling(~MASK))):
        z = gk.initialize_flow_from_ig(flow, x)
        np.testing.assert_allclose(z.mean(0), 0.0, atol=1e-4)
        np.testing.assert_allclose(z.std(0), 1.0, atol=1e-4)


def test_a_spline_coupling_starts_far_above_the_identity():
    rng = np.random.default_rng(3)
    x = rng.gamma(1.5, size=(4000, 2))
    x = ((x - x.mean(0)) / x.std(0)).astype("float32")
    flow = alone(gk.RQSplineCoupling([True, False]), gk.RQSplineCoupling([False, True]), n_dims=2)
    before = score(flow, x)
    gk.initialize_flow_from_ig(flow, x)
    after = score(flow, x)
    # The mixtures themselves, whose knots these are, are the mark.
    marginals = alone(gk.MixtureCDFGaussianization(8), n_dims=2)
    gk.initialize_flow_from_ig(marginals, x)
    assert after > before + 0.38
    assert after > score(marginals, x) - 0.12


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_splines_of_columns_of_any_scale_are_finite(scale):
    raw = fitted_splines(scale * skewed(500).astype("float64"), num_bins=3, interval=2.0)
    assert raw.shape == (3, 13)
    assert np.isfinite(raw).all()


def test_packed_splines_pass_through_their_knots(dtype):
    rng = np.random.default_rng(0)
    inner = np.sort(rng.uniform(-2.5, 2.5, size=(2, 4, 3)), axis=1)
    ends = np.full((2, 1, 3), 3.0)
    x, z = np.concatenate([-ends, inner, ends], axis=1)
    slopes = rng.uniform(-2.0, 2.0, size=(6, 3))
    raw = rational_quadratic.pack(x, z, slopes, interval=3.0)
    tensor = keras.ops.convert_to_tensor
    at, log_det = rational_quadratic.forward(
        tensor(x, dtype=dtype), tensor(np.repeat(raw[:, None], 6, axis=1), dtype=dtype), 3.0
    )
    tolerance = 10 * TOLERANCE[dtype]
    np.testing.assert_allclose(numbers(at), z, atol=tolerance)
    # At an inner knot, rounding decides between two bins that agree there.
    np.testing.assert_allclose(numbers(log_det), slopes, atol=2000 * tolerance)
    with pytest.raises(ValueError, match=r"as many knots.*Received"):
        rational_quadratic.pack(x, z[1:], slopes, interval=3.0)


@pytest.mark.parametrize("rotation", ["pca", "random", "search", "fit"])
def test_rotations_are_chosen_from_the_data(rotation):
    flow, x = gk.make_gaussianization_flow(3, 2), skewed()
    twin = gk.make_gaussianization_flow(3, 2)
    z = gk.initialize_flow_from_ig(flow, x, rotation=rotation, random_state=1)
    np.testing.assert_array_equal(
        gk.initialize_flow_from_ig(twin, x, rotation=rotation, random_state=1), z
    )
    q = numbers(flow.bijector_layers[0].matrix)
    np.testing.assert_allclose(q @ q.T, np.eye(3), atol=1e-5)
    if rotation == "pca":
        np.testing.assert_allclose(np.cov((x @ q.T).T) * (1 - np.eye(3)), 0.0, atol=1e-3)


def test_the_rotation_that_fits_best_is_found_among_modes():
    """Two far modes are told apart along one axis only, wherever it points."""
    rng = np.random.default_rng(0)
    x = np.c_[rng.normal(size=2000), 5.0 * rng.choice([-1.0, 1.0], 2000) + rng.normal(size=2000)]
    angle = 0.6
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    x = (x @ turn.T).astype("float32")
    flow = gk.make_gaussianization_flow(2, 1)
    gk.initialize_flow_from_ig(flow, x, rotation="fit", smooth=True)
    found = numbers(flow.bijector_layers[0].matrix) @ turn
    np.testing.assert_allclose(np.sort(np.abs(found), axis=None), [0, 0, 1, 1], atol=0.05)
    truth = 2 * 0.5 * np.log(2 * np.pi * np.e) + np.log(2)
    assert abs(score(flow, x) + truth) < 0.05


def test_smoothed_mixtures_follow_chance_less_and_are_a_little_wide():
    rng = np.random.default_rng(0)
    x, fresh = (rng.normal(size=(n_rows, 8)).astype("float32") for n_rows in (500, 20_000))
    plain, smooth = (alone(gk.MixtureCDFGaussianization(8), n_dims=8) for _ in range(2))
    gk.initialize_flow_from_ig(plain, x)
    z = gk.initialize_flow_from_ig(smooth, x, smooth=True)
    assert score(smooth, x) < score(plain, x)
    assert score(smooth, fresh) > score(plain, fresh) + 0.02
    # The latents lack the kernel's variance, 1.44 n^(-2/3).
    np.testing.assert_allclose(z.std(0), (1 + 1.44 * 500 ** (-2 / 3)) ** -0.5, atol=0.01)


def test_rotations_stay_unless_asked():
    flow = gk.make_gaussianization_flow(3, 2)
    before = numbers(flow.bijector_layers[0].vectors).copy()
    gk.initialize_flow_from_ig(flow, skewed())
    np.testing.assert_array_equal(numbers(flow.bijector_layers[0].vectors), before)


def test_a_conditional_flow_starts_the_same_for_every_condition():
    x, condition = skewed(), np.random.default_rng(1).normal(size=(2000, 2)).astype("float32")
    flow = shaken(gk.make_coupling_flow(3, 2, 4, (6,), condition_dim=2))
    z = gk.initialize_flow_from_ig(flow, x, condition=condition)
    np.testing.assert_array_equal(z, gk.initialize_flow_from_ig(flow, x, condition=0 * condition))
    own, other = (numbers(flow.log_prob(x, c)) for c in (condition, 0 * condition))
    np.testing.assert_allclose(own, other, atol=1e-5)


@pytest.mark.parametrize(
    "make", [gk.make_shared_mlp_conditioner, gk.make_residual_conditioner, gk.make_mlp_conditioner]
)
def test_every_built_in_conditioner_takes_the_fit(make):
    x = skewed()
    marginal = alone(gk.MixtureCDFGaussianization(4))
    expected = gk.initialize_flow_from_ig(marginal, x)[:, ~MASK]
    flow = shaken(alone(gk.MixtureCDFCoupling(MASK, make(1, 4), 4)))
    z = gk.initialize_flow_from_ig(flow, x)
    np.testing.assert_allclose(z[:, ~MASK], expected, atol=1e-6)
    np.testing.assert_array_equal(z[:, MASK], x[:, MASK])


def functional(*, doubled=False, width=12):
    inputs = keras.Input((2,))
    hidden = keras.layers.Dense(6, "relu")(inputs)
    hidden = keras.layers.Concatenate()([hidden, keras.layers.Dense(5, "tanh")(inputs)])
    outputs = keras.layers.Dense(width)(hidden)
    return keras.Model(inputs, outputs + outputs if doubled else outputs, name="mine")


def test_a_conditioner_of_ones_own_that_ends_in_a_dense_layer_takes_the_fit():
    x = skewed()
    flow = shaken(alone(gk.MixtureCDFCoupling(MASK, functional(), 4)))
    z = gk.initialize_flow_from_ig(flow, x)
    expected = gk.initialize_flow_from_ig(alone(gk.MixtureCDFGaussianization(4)), x)
    np.testing.assert_allclose(z[:, 1], expected[:, 1], atol=1e-6)


def refused(conditioner, message):
    """A coupling whose conditioner cannot be made constant stays as it was."""
    flow = shaken(alone(gk.MixtureCDFCoupling(MASK, conditioner, 4)))
    before = [np.array(weight) for weight in flow.get_weights()]
    with pytest.raises(ValueError, match=message):
        gk.initialize_flow_from_ig(flow, skewed())
    for own, other in zip(flow.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: keras.layers.Dense(12), "ends in a Dense layer.*Received: conditioner="),
        (
            lambda: keras.Sequential([keras.layers.Dense(6), keras.layers.Dense(12, "tanh")]),
            "ends in a Dense layer.*Received: conditioner=",
        ),
        (
            lambda: keras.Sequential([keras.layers.Dense(12, use_bias=False)]),
            "ends in a Dense layer.*Received: conditioner=",
        ),
        (lambda: functional(doubled=True), "that of its last layer. Received: conditioner=mine"),
    ],
)
def test_a_conditioner_that_cannot_be_constant_is_refused(make, message):
    refused(make(), message)


def test_a_refusal_half_way_leaves_the_flow_as_it_was():
    layers = [gk.ActNorm(), gk.MixtureCDFGaussianization(2), gk.AffineCoupling(MASK)]
    dense = keras.layers.Dense(2)
    flow = shaken(alone(*layers, gk.AffineCoupling(MASK, dense)))
    before = [np.array(weight) for weight in flow.get_weights()]
    with pytest.raises(ValueError, match="ends in a Dense layer"):
        gk.initialize_flow_from_ig(flow, skewed())
    for own, other in zip(flow.get_weights(), before, strict=True):
        np.testing.assert_array_equal(own, other)


@pytest.mark.parametrize("clamp", ["tanh", "sigmoid"])
def test_a_clamp_that_does_not_bind_changes_nothing(clamp):
    x = skewed()
    free, bound = (
        alone(gk.MixtureCDFCoupling(MASK, num_components=4, log_scale_clamp=c))
        for c in (None, clamp)
    )
    own, other = (gk.initialize_flow_from_ig(flow, x) for flow in (free, bound))
    np.testing.assert_allclose(other, own, atol=1e-4)


def test_a_clamp_that_binds_is_reached_and_not_crossed():
    x = np.random.default_rng(0).choice([-1.0, 1.0], size=(2000, 3)).astype("float32")
    x += 1e-3 * np.random.default_rng(1).normal(size=x.shape).astype("float32")
    clamp = gk.tanh_log_scale_clamp(0.5)
    layer = gk.MixtureCDFCoupling(MASK, num_components=2, log_scale_clamp=clamp)
    flow = alone(layer)
    z = gk.initialize_flow_from_ig(flow, x)
    assert np.isfinite(z).all()
    base = numbers(gk.MixtureCDFGaussianization(2)(x[:1]))  # builds; its scales are the base's
    assert base.shape == (1, 3)
    scales = numbers(layer.mixture(keras.ops.convert_to_tensor(x[:1][:, MASK])).log_scales)
    assert scales.min() > -0.5 + np.log(0.8) - 0.2


def test_a_clamp_without_an_inverse_is_refused():
    flow = alone(gk.MixtureCDFCoupling(MASK, log_scale_clamp=lambda raw: raw))
    with pytest.raises(ValueError, match=r"inverse\(log_scale\).*Received: log_scale_clamp="):
        gk.initialize_flow_from_ig(flow, skewed())


def test_many_rows_go_through_in_parts(monkeypatch):
    flow, x = alone(gk.AffineCoupling(MASK, condition_dim=1, hidden=(6,))), skewed(500)
    condition = x[:, :1]
    whole = gk.initialize_flow_from_ig(flow, x, condition=condition)
    monkeypatch.setattr(gk.warm_start, "_ROWS_AT_ONCE", 200)
    parts = gk.initialize_flow_from_ig(flow, x, condition=condition)
    np.testing.assert_allclose(parts, whole, atol=1e-5)


def broken(row, column, value):
    x = skewed(50)
    x[row, column] = value
    return x


@pytest.mark.parametrize(
    ("x", "options", "message"),
    [
        (skewed(50)[:, :2], {}, r"Received: x.shape=\(50, 2\)"),
        (skewed(50)[0], {}, r"Received: x.shape=\(3,\)"),
        (skewed(50)[:0], {}, r"Received: x.shape=\(0, 3\)"),
        (np.array([["a", "b", "c"]]), {}, r"numbers in x. Received: x.dtype="),
        (broken(7, 1, np.nan), {}, r"finite.*x\[7, 1\]=nan"),
        (broken(3, 2, np.inf), {}, r"finite.*x\[3, 2\]=inf"),
        (broken(slice(None), 1, 2.0), {}, r"columns that vary.*x\[:, 1\]=2.0"),
        (skewed(7), {}, r"at least 8 rows.*Received: x.shape=\(7, 3\)"),
        (skewed(50), {"rotation": "ica"}, r"Received: rotation='ica'"),
        (skewed(50), {"condition": skewed(50)}, r"no condition.*Received: condition.shape="),
    ],
)
def test_what_does_not_fit_is_refused(x, options, message):
    flow = gk.make_gaussianization_flow(3, 1)
    with pytest.raises(ValueError, match="Expected.*" + message):
        gk.initialize_flow_from_ig(flow, x, **options)


def test_a_missing_condition_and_an_unbuilt_flow_are_refused():
    flow = gk.make_gaussianization_flow(3, 1, condition_dim=2, hidden=(4,))
    for condition in (None, skewed(49)[:, :2], np.full((50, 2), np.nan)):
        with pytest.raises(ValueError, match=r"Expected.*condition.*Received"):
            gk.initialize_flow_from_ig(flow, skewed(50), condition=condition)
    with pytest.raises(ValueError, match="to be built"):
        gk.initialize_flow_from_ig(gk.GaussianizationFlow([gk.ActNorm()]), skewed(50))
