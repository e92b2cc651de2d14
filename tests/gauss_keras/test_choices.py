"""What is chosen: rotations from data, by a seed or by chance, and what a factory is told."""

from itertools import combinations, pairwise

import keras
import numpy as np
import pytest
from keras import ops

from gauss_keras.autodiff import numbers
from gaussianization import gauss_keras as gk
from gaussianization.marginals import GAIN, base_mixture

EXACT = {"float32": 3e-6, "float64": 1e-13}
FAR_OFF = 4.5  # standard errors, of some dozens of means at fixed seeds


def rotations(flow):
    """The matrices of a flow's rotations, (layers, d, d)."""
    kinds = (gk.Householder, gk.FixedOrtho)
    return np.stack([numbers(b.matrix) for b in flow.bijector_layers if isinstance(b, kinds)])


def couplings(flow):
    return [b for b in flow.bijector_layers if isinstance(b, gk.MixtureCDFCoupling)]


def differ(matrices):
    """Whether no two of them are alike."""
    return all(np.abs(one - other).max() > 0.01 for one, other in combinations(matrices, 2))


SOURCES = {
    "light tails": lambda rng: rng.choice([-1.0, 1.0], (6000, 2)) + rng.normal(0, 0.3, (6000, 2)),
    "heavy tails": lambda rng: rng.laplace(size=(6000, 2)),
}


def turned_sources(kind):
    """Two independent columns of variance 1 after a rotation, and that rotation."""
    sources = SOURCES[kind](np.random.default_rng(0))
    sources = (sources - sources.mean(0)) / sources.std(0)
    mixing = np.array([[np.cos(0.4), -np.sin(0.4)], [np.sin(0.4), np.cos(0.4)]])
    return (sources @ mixing.T).astype("float32"), mixing


def non_normality(z):
    """Mean size of the columns' excess kurtosis, which normal columns do not have."""
    z = (z - z.mean(0)) / z.std(0)
    return float(np.mean(np.abs(np.mean(z**4, axis=0) - 3.0)))


@pytest.mark.parametrize("cls", [gk.Householder, gk.FixedOrtho])
@pytest.mark.parametrize("kind", SOURCES)
def test_search_finds_the_least_normal_directions(kind, cls):
    x, mixing = turned_sources(kind)

    def chosen(rotation, state=0):
        layer = cls()
        layer.set_matrix(np.eye(2))
        flow = gk.GaussianizationFlow([layer], input_dim=2)
        z = gk.initialize_flow_from_ig(flow, x, rotation=rotation, random_state=state)
        return numbers(layer.matrix), non_normality(z)

    of_sources = non_normality(x @ mixing)
    for state in range(4):
        found, reached = chosen("search", state)
        # Its rows are the sources' directions, but for order and sign.
        assert np.all(np.abs(found @ mixing).max(axis=1) > np.cos(np.deg2rad(10)))
        # By an angle t beside them a column keeps 1 − sin²(2t) / 2 of the kurtosis.
        assert reached > 0.9 * of_sources
    # At equal variances chance correlation puts the principal axes halfway between the sources.
    assert chosen("pca")[1] < 0.6 * of_sources
    assert chosen("keep")[1] < 0.8 * of_sources
    assert np.mean([chosen("random", state)[1] for state in range(10)]) < 0.85 * of_sources


@pytest.mark.parametrize("cls", [gk.Householder, gk.FixedOrtho])
def test_random_rotations_follow_the_random_state(cls):
    x = np.random.default_rng(0).normal(size=(200, 3)).astype("float32")

    def chosen(state):
        flow = gk.GaussianizationFlow([cls(), gk.ActNorm(), cls()], input_dim=3)
        gk.initialize_flow_from_ig(flow, x, rotation="random", random_state=state)
        return rotations(flow)

    found = [chosen(state) for state in range(4)]
    for state, matrices in enumerate(found):
        np.testing.assert_array_equal(chosen(state), matrices)
    assert differ(np.concatenate(found))


CLAMPS = [
    (gk.tanh_log_scale_clamp(0.5), -0.5, 0.5),
    (gk.sigmoid_log_scale_clamp(-1.0, 2.0), -1.0, 2.0),
    ("tanh", -5.0, 5.0),
    (None, None, None),
]


@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize(("clamp", "least", "most"), CLAMPS)
def test_a_factorys_clamp_bounds_every_coupling(clamp, least, most, shared):
    flow = gk.make_coupling_flow(3, 2, 2, (4,), shared, log_scale_clamp=clamp)
    twin = gk.GaussianizationFlow.from_config(flow.get_config())
    assert len(couplings(flow)) == len(couplings(twin)) == 4
    for layer in couplings(flow) + couplings(twin):
        head = layer.conditioner.layers[-1]
        holder = head.offsets if shared else head.bias
        passive = np.zeros((1, sum(layer.mask)), "float32")
        for sign, bound in ((-1.0, least), (1.0, most)):
            holder.assign(np.full(tuple(holder.shape), sign * 1e5))
            deviation = numbers(layer.mixture(passive).log_scales) - base_mixture(2)[2]
            if clamp is None:
                bound = sign * 1e5 * layer.conditioner_gain * GAIN
            np.testing.assert_allclose(deviation, bound, rtol=1e-4)
        assert (layer.get_config()["log_scale_clamp"] is None) == (clamp is None)


def dense(*widths):
    """Parameters of a stack of dense layers with biases."""
    return sum((n_in + 1) * n_out for n_in, n_out in pairwise(widths))


HIDDEN = [(5,), (7, 3), (2, 9, 4)]


@pytest.mark.parametrize("hidden", HIDDEN)
@pytest.mark.parametrize("condition_dim", [None, 2])
@pytest.mark.parametrize("shared", [False, True])
def test_hidden_widths_reach_every_coupling(shared, condition_dim, hidden):
    flow = gk.make_coupling_flow(5, 2, 3, hidden, shared, condition_dim=condition_dim)
    size = 2 * 5 * 5
    for n_passive, n_active in 2 * [(2, 3), (3, 2)]:
        size += dense(n_passive + (condition_dim or 0), *hidden)
        # A shared head has no bias, but an offset for every coordinate.
        size += (hidden[-1] + n_active) * 9 if shared else dense(hidden[-1], 9 * n_active)
    assert flow.count_params() == size


@pytest.mark.parametrize("hidden", HIDDEN)
def test_hidden_widths_reach_a_conditional_diagonal_flow(hidden):
    flow = gk.make_gaussianization_flow(4, 2, 3, condition_dim=2, hidden=hidden)
    assert flow.count_params() == 2 * (4 * 4 + dense(2, *hidden, 4 * 3 * 3))


@pytest.mark.parametrize("factory", [gk.make_gaussianization_flow, gk.make_coupling_flow])
@pytest.mark.parametrize("n_reflectors", [1, 2, 3, 4, 7, None])
def test_a_factorys_rotations_have_the_reflectors_asked_for(n_reflectors, factory):
    flow = factory(4, 2, 2, num_reflectors=n_reflectors)
    wanted = 4 if n_reflectors is None else n_reflectors
    sizes = [tuple(b.vectors.shape) for b in flow.bijector_layers if isinstance(b, gk.Householder)]
    assert sizes == 2 * [(wanted, 4)]
    for matrix in rotations(flow):
        np.testing.assert_allclose(np.linalg.det(matrix), (-1.0) ** wanted, rtol=1e-4)
        # r reflections leave alone all that is orthogonal to their vectors, and no more.
        if wanted <= 4:
            assert np.linalg.matrix_rank(matrix - np.eye(4), tol=1e-4) == wanted


RANDOM = {
    "a layer": lambda: gk.GaussianizationFlow([gk.Householder()], input_dim=3),
    "a diagonal flow": lambda: gk.make_gaussianization_flow(3, 3, 2),
    "a coupling flow": lambda: gk.make_coupling_flow(3, 3, 2, (2,)),
    "a fixed rotation": lambda: gk.GaussianizationFlow([gk.FixedOrtho.random_haar(3)]),
}


@pytest.mark.parametrize("kind", RANDOM)
def test_without_a_seed_every_rotation_has_a_start_of_its_own(kind):
    def drawn(seed):
        keras.utils.set_random_seed(seed)
        return np.concatenate([rotations(RANDOM[kind]()) for _ in range(2)])

    found = drawn(1)
    np.testing.assert_array_equal(drawn(1), found)
    assert differ(np.concatenate([found, drawn(2)]))


@pytest.mark.parametrize("make", [gk.Householder, gk.FixedOrtho.random_haar])
def test_a_seed_decides_whatever_keras_is_seeded_with(make):
    def drawn(seed, of_keras):
        keras.utils.set_random_seed(of_keras)
        return rotations(gk.GaussianizationFlow([make(3, seed=seed)], input_dim=3))[0]

    found = [drawn(seed, 1) for seed in range(4)]
    assert differ(found)
    for seed, matrix in enumerate(found):
        np.testing.assert_array_equal(drawn(seed, 2), matrix)


def haar_scores(entries):
    """Standard errors that the entries' mean powers are away from those of Haar matrices in 3D.

    An entry of a uniform direction in space is uniform on [−1, 1]: E qᵖ = 1 / (p + 1), p even.
    """
    powers, expected = np.array([1, 2, 4]), np.array([0, 1 / 3, 1 / 5])
    deviation = np.sqrt(1 / (2 * powers + 1) - expected**2)
    means = np.mean(entries[..., None] ** powers, axis=0)
    return np.abs(means - expected) / deviation * len(entries) ** 0.5


def test_random_rotations_are_haar():
    drawn = np.stack([numbers(gk.FixedOrtho.random_haar(3, seed).matrix) for seed in range(1500)])
    np.testing.assert_allclose(np.linalg.inv(drawn), drawn.swapaxes(1, 2), atol=1e-6)
    assert haar_scores(drawn).max() < FAR_OFF
    assert abs(np.linalg.det(drawn).sum()) < FAR_OFF * 1500**0.5  # ±1 equally often
    # Uncorrected factors of normal matrices and shuffled axes are orthogonal too.
    rng = np.random.default_rng(0)
    assert haar_scores(np.linalg.qr(rng.normal(size=(1500, 3, 3)))[0]).max() > 2 * FAR_OFF
    signs = rng.choice([-1.0, 1.0], (1500, 3, 1))
    axes = signs * np.eye(3)[np.argsort(rng.normal(size=(1500, 3)), axis=1)]
    assert haar_scores(axes).max() > 2 * FAR_OFF


def rows_of_known_axes(dtype):
    """Rows whose covariance is Σ λ_i v_i v_iᵀ exactly, v and λ with the largest variance first."""
    axes = np.linalg.qr(np.random.default_rng(5).normal(size=(4, 4)))[0].T
    variances = np.array([0.5, 9.0, 0.02, 2.0])
    spokes = np.sqrt(4 * variances)[:, None] * axes
    x = np.concatenate([spokes, -spokes]) + np.arange(4)
    order = np.argsort(-variances)
    return x.astype(dtype), axes[order], variances[order]


@pytest.mark.parametrize("as_tensor", [False, True])
def test_principal_axes_are_the_covariances_eigenvectors(precision, as_tensor, tmp_path):
    x, axes, variances = rows_of_known_axes(precision)
    given = ops.convert_to_tensor(x, dtype=precision) if as_tensor else x
    layer = gk.FixedOrtho.from_pca(given, dtype=precision)
    q, room = numbers(layer.matrix), EXACT[precision]
    largest = np.take_along_axis(axes, np.abs(axes).argmax(axis=1)[:, None], axis=1)
    np.testing.assert_allclose(q, axes * np.sign(largest), atol=10 * room)
    np.testing.assert_allclose(q @ q.T, np.eye(4), atol=room)
    np.testing.assert_allclose(abs(np.linalg.det(q)), 1.0, atol=room)
    z, log_det = layer.forward_and_log_det(x)
    np.testing.assert_allclose(np.cov(numbers(z).T, bias=True), np.diag(variances), atol=50 * room)
    np.testing.assert_array_equal(numbers(log_det), 0.0)
    np.testing.assert_allclose(numbers(layer.inverse(z)), x, atol=10 * room)
    # The file and the configuration hold the rotation, not the data.
    twin = gk.FixedOrtho.from_config(layer.get_config())
    twin.build((None, 4))
    flow = gk.GaussianizationFlow([layer], input_dim=4, dtype=precision)
    flow.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras").bijector_layers[0]
    for other in (twin, loaded):
        np.testing.assert_array_equal(numbers(other.matrix), q)
        assert numbers(other.matrix).dtype == precision
        assert not other.trainable_variables


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (lambda: gk.Householder().matrix, "built=False"),
        (lambda: gk.FixedOrtho().matrix, "built=False"),
        (lambda: gk.MixtureCDFGaussianization(2).mixture, "built=False"),
        (lambda: gk.MixtureCDFCoupling([True, False]).conditioner_input_dim, "built=False"),
        (lambda: gk.MixtureCDFCoupling([[True], [True, False]]), "mask="),
        (lambda: gk.tanh_log_scale_clamp("a"), "bound=a"),
        (lambda: gk.sigmoid_log_scale_clamp(None, 1.0), "min_log_scale=None"),
        (lambda: gk.RQSplineCoupling([True, False], interval="a"), "interval=a"),
        (lambda: gk.GaussianizationFlow(3), r"bijectors=\[3\]"),
        (lambda: gk.MixtureOfGaussians([[]], [[]], [[]]), r"shapes \(1, 0\)"),
        (lambda: gk.MixtureOfGaussians([[0.0, 0.0]], [[1.0]], [[0.0]]), r"\(1, 2\), \(1, 1\)"),
    ],
)
def test_faults_are_received(fault, message):
    with pytest.raises(ValueError, match=f"Received: .*{message}"):
        fault()


def test_a_condition_has_a_row_for_each_row():
    flow = gk.make_coupling_flow(2, 1, 2, hidden=(3,), condition_dim=1)
    with pytest.raises(ValueError, match=r"Received: condition.shape=\(5, 1\)"):
        flow.log_prob(np.zeros((8, 2)), condition=np.zeros((5, 1)))


def test_a_mixture_of_gaussians_is_serialised():
    mixture = gk.MixtureOfGaussians(*np.random.default_rng(0).normal(size=(3, 2, 4)))
    config = keras.saving.serialize_keras_object(mixture)
    again = keras.saving.deserialize_keras_object(config)
    x = np.array([[0.3], [2.0]])
    np.testing.assert_allclose(
        numbers(again.log_pdf(x)), numbers(mixture.log_pdf(x)), rtol=1e-6, atol=1e-7
    )


def test_a_frozen_conditioner_stays_frozen_when_saved(tmp_path):
    flow = gk.make_coupling_flow(2, 1, 2, hidden=(3,))
    flow.bijector_layers[1].conditioner.trainable = False
    flow.save(tmp_path / "flow.keras")
    loaded = keras.models.load_model(tmp_path / "flow.keras")
    assert len(loaded.trainable_weights) == len(flow.trainable_weights)
    x = np.random.default_rng(0).normal(size=(5, 2))
    np.testing.assert_array_equal(numbers(loaded.log_prob(x)), numbers(flow.log_prob(x)))
