"""The mixture layers against fifty digits, and the faults of the public code, which are gone."""

import functools

import keras
import mpmath
import numpy as np
import pytest
from keras import ops
from mpmath import mp, mpf
from scipy.special import logsumexp
from scipy.stats import norm

from gauss_keras.autodiff import (
    compiled,
    gradients,
    numbers,
    second_derivative,
    weight_gradients,
)
from gaussianization.gauss_keras import (
    GaussianizationFlow,
    MixtureCDFCoupling,
    MixtureCDFGaussianization,
    MixtureOfGaussians,
)
from numerics import mixture_reference as reference

REACH = {"float32": 12.0, "float64": 37.0}
TOLERANCE = {"float32": 5e-6, "float64": 1e-12}
# Where components cancel near the median, the rounding of one weight alone moves z by a unit in the
# last place of one half: below these scores no relative bound holds.
FLOOR = {name: np.finfo(name).eps / TOLERANCE[name] for name in TOLERANCE}
QUANTILE = {"float32": 1e-5, "float64": 1e-12}
SHARES = np.array([-1.0, -0.7, -0.3, -0.05, 0.01, 0.2, 0.5, 0.9])
KINDS = {
    "one component": functools.partial(reference.random_mixtures, 1, 4, 1),
    "few components": functools.partial(reference.random_mixtures, 2, 4, 4),
    "many components": functools.partial(reference.random_mixtures, 3, 4, 32),
    "two far modes": functools.partial(reference.gap_mixtures, 4, 4, 4),
}
# Layers and batches are of one size, since JAX compiles every operation anew for each.
N_ROWS, N_DIMS, N_COMPONENTS = 8, 2, 4


def rounded(mixtures, precision):
    """Parameters (n, 1, K) as the library receives them: log-weights, means, log-scales."""
    return [part[:, None].astype(precision) for part in mixtures]


def points(mixtures, scores, precision):
    """x (n, n_scores) at which z is close to the scores."""
    scores = np.broadcast_to(scores, (len(mixtures[0]), len(scores)))
    wide = [part.astype(float) for part in mixtures]
    return reference.points_at_scores("gaussian", scores, *wide).astype(precision)


def truth(x, mixtures):
    """z and log_det by mpmath at every point, as object arrays."""
    rows = [
        [reference.evaluate("gaussian", point, *(part[i, 0] for part in mixtures)) for point in row]
        for i, row in enumerate(x)
    ]
    return [np.array([[cell[name] for cell in row] for row in rows]) for name in ("z", "log_det")]


def true_quantile(z, log_weights, means, log_scales):
    """x (mpmath) whose score is exactly z, by Newton's method on fifty digits."""
    x = reference.points_at_scores("gaussian", np.array(z, float), log_weights, means, log_scales)
    with mp.workdps(reference.DIGITS):
        x = mpf(float(x))
        groups = [[mpf(float(v)) for v in part] for part in (log_weights, means, log_scales)]
        for _ in range(30):
            at = reference.evaluate_exact("gaussian", x, *groups)
            step = (at["z"] - mpf(float(z))) / mpmath.exp(at["log_det"])
            x -= step
            if abs(step) <= mpf(10) ** -22 * abs(x):
                return x
    raise RuntimeError("the reference did not converge")


def errors(found, exact):
    """Absolute errors as floats; infinite where the value is NaN."""
    found = np.vectorize(lambda v: mpf(float(v)), otypes=[object])(numbers(found))
    difference = np.abs(found - exact).astype(float)
    return np.where(np.isnan(difference), np.inf, difference)


def layer_of(logits, means, log_scales, dtype):
    """A marginal layer whose effective mixtures are these, (d, K), up to rounding."""
    n_dims, n_components = means.shape
    layer = MixtureCDFGaussianization(n_components, dtype=dtype)
    layer.build((None, n_dims))
    # What it adds its weight to, and how much of it, is seen from outside.
    start = [numbers(part)[0] for part in effective(layer)]
    layer.raw.assign(np.ones(tuple(layer.raw.shape)))
    gain = float(numbers(effective(layer)[1])[0, 0, 0] - start[1][0, 0])
    wanted = np.stack([logits, means, log_scales], axis=1)
    layer.raw.assign((wanted - np.stack(start, axis=1)) / gain)
    return layer


def effective(layer):
    """Log-weights, means and log-scales in effect, each (1, d, K)."""
    mixture = layer.mixture
    return mixture.log_weights, mixture.means, mixture.log_scales


@pytest.mark.parametrize("kind", KINDS)
def test_z_and_log_det_to_fifty_digits(kind, precision):
    mixtures = rounded(KINDS[kind](), precision)
    x = points(mixtures, REACH[precision] * SHARES, precision)
    z, log_det = MixtureOfGaussians(*mixtures).gaussianize(x)
    assert keras.backend.standardize_dtype(z.dtype) == precision
    assert keras.backend.standardize_dtype(log_det.dtype) == precision
    exact_z, exact_log_det = truth(x, mixtures)
    size, size_log_det = (np.abs(part).astype(float) for part in (exact_z, exact_log_det))
    inside = size <= REACH[precision]
    assert np.mean(inside) > 0.5
    tolerance = TOLERANCE[precision]
    allowed = tolerance * np.maximum(size, FLOOR[precision])
    assert np.all((errors(z, exact_z) <= allowed)[inside])
    allowed = tolerance * np.maximum(np.maximum(1, size**2), size_log_det)
    assert np.all((errors(log_det, exact_log_det) <= allowed)[inside])


def test_compiled_as_exact_as_eager(precision):
    mixtures = rounded(KINDS["two far modes"](), precision)
    x = points(mixtures, REACH[precision] * SHARES, precision)
    z, log_det = compiled(lambda x: MixtureOfGaussians(*mixtures).gaussianize(x))(
        ops.convert_to_tensor(x)
    )
    exact_z, exact_log_det = truth(x, mixtures)
    size = np.maximum(np.abs(exact_z).astype(float), FLOOR[precision])
    assert np.all(errors(z, exact_z) <= TOLERANCE[precision] * size)
    size = np.maximum(np.maximum(1, size**2), np.abs(exact_log_det).astype(float))
    assert np.all(errors(log_det, exact_log_det) <= TOLERANCE[precision] * size)


def random_layer(precision, seed=0):
    rng = np.random.default_rng(seed)
    parts = rng.normal(size=(3, N_DIMS, N_COMPONENTS))
    return layer_of(parts[0], 2 * parts[1], 0.5 * parts[2], precision)


def start_layer(precision):
    layer = MixtureCDFGaussianization(N_COMPONENTS, dtype=precision)
    layer.build((None, N_DIMS))
    return layer


def batch(values, precision):
    """Numbers as rows of two coordinates, the second with the opposite sign; eight rows."""
    column = np.resize(np.asarray(values, float), N_ROWS)
    return np.stack([column, -column], axis=1).astype(precision)


def test_the_layer_to_fifty_digits(precision):
    layer = random_layer(precision)
    mixtures = [np.swapaxes(numbers(part), 0, 1) for part in effective(layer)]
    x = points(mixtures, REACH[precision] * SHARES, precision)
    z, log_det = layer.forward_and_log_det(x.T)
    exact_z, exact_log_det = truth(x, mixtures)
    size = np.abs(exact_z).astype(float)
    tolerance = TOLERANCE[precision]
    assert np.all(errors(numbers(z).T, exact_z) <= tolerance * np.maximum(size, FLOOR[precision]))
    allowed = np.maximum(np.maximum(1, size**2), np.abs(exact_log_det).astype(float))
    assert np.all(errors(log_det, exact_log_det.sum(0)) <= tolerance * allowed.sum(0))


def test_latents_far_out_come_back_to_the_true_x(precision):
    layer = random_layer(precision, seed=1)
    mixture = [numbers(part)[0] for part in effective(layer)]
    z = batch([5.0, 8.0, 40.0, -5.0, -8.0, -40.0], precision)
    x, log_det = layer.inverse_and_log_det(z)
    assert np.all(np.isfinite(numbers(log_det)))
    alone = layer.inverse(z)
    exact = np.array(
        [
            [true_quantile(z[i, j], *(part[j] for part in mixture)) for j in range(N_DIMS)]
            for i in range(N_ROWS)
        ]
    )
    for found in (x, alone):
        assert np.all(errors(found, exact) <= QUANTILE[precision] * np.abs(exact).astype(float))


def test_points_far_out_come_back(precision):
    """Clipped at 1e-6, x = 6 comes back 2.3 off."""
    layer = start_layer(precision)
    x = batch([6.0, 12.0, 40.0], precision)
    z, log_det = layer.forward_and_log_det(x)
    back, log_det_back = layer.inverse_and_log_det(z)
    np.testing.assert_allclose(numbers(back), x, rtol=QUANTILE[precision] / 3)
    np.testing.assert_allclose(
        numbers(log_det), -numbers(log_det_back), atol=100 * QUANTILE[precision]
    )


def test_data_around_a_thousand_come_back_as_a_thousand(precision):
    """Bracketed at ±50, they come back as 50."""
    x = batch([999.0, 1000.0, 1001.0, 1003.0], precision)
    means = np.array([[999.0, 1000.0, 1000.5, 1002.0], [-1001.0, -1000.0, -999.5, -998.0]])
    there = layer_of(0 * means, means, 0 * means, precision)
    for layer in (start_layer(precision), there):
        back = layer.inverse(layer.forward_and_log_det(x)[0])
        np.testing.assert_allclose(numbers(back), x, rtol=QUANTILE[precision] / 3)


def test_gradients_through_the_inverse_equal_finite_differences(x64):
    """Bisected without a gradient of its own, they are zero."""
    layer = random_layer("float64", seed=2)
    z = batch([-7.0, 0.3, 1.2, 6.0], "float64")
    seeds = np.random.default_rng(2).normal(size=z.shape)

    def scalar(z):
        return ops.sum(layer.inverse(z) * ops.convert_to_tensor(seeds))

    to_raw, to_z = weight_gradients(scalar, [layer.raw], z)
    raw = numbers(layer.raw).copy()
    assert np.all(to_z != 0)
    assert np.all(to_raw != 0)

    def difference(set_to, at, index):
        values = []
        for sign in (1, -1):
            moved = at.copy()
            moved[index] += sign * 1e-5
            values.append(set_to(moved))
        return (values[0] - values[1]) / 2e-5

    def of_raw(values):
        layer.raw.assign(values)
        return float(scalar(ops.convert_to_tensor(z)))

    for index in np.ndindex(4, N_DIMS):
        expected = difference(lambda moved: float(scalar(ops.convert_to_tensor(moved))), z, index)
        np.testing.assert_allclose(to_z[index], expected, rtol=1e-6, atol=1e-7)
    for index in np.ndindex(raw.shape):
        np.testing.assert_allclose(
            to_raw[index], difference(of_raw, raw, index), rtol=1e-6, atol=1e-7
        )


def test_gradients_of_the_map_equal_finite_differences(x64):
    rng = np.random.default_rng(3)
    parameters = [rng.normal(size=(2, 3)) for _ in range(3)]
    x = np.array([0.3, -9.0])
    seeds = np.array([1.0, -0.7])

    def scalar(x, *parameters):
        z, log_det = MixtureOfGaussians(*parameters).gaussianize(x)
        return ops.sum(z * ops.convert_to_tensor(seeds)) + ops.sum(log_det * log_det)

    found = gradients(scalar, x, *parameters)
    arguments = [x, *parameters]
    for which, gradient in enumerate(found):
        for index in np.ndindex(gradient.shape):
            values = []
            for sign in (1, -1):
                moved = [part.copy() for part in arguments]
                moved[which][index] += sign * 1e-5
                values.append(float(scalar(*map(ops.convert_to_tensor, moved))))
            expected = (values[0] - values[1]) / 2e-5
            np.testing.assert_allclose(gradient[index], expected, rtol=1e-5, atol=1e-6)


def test_one_outlier_leaves_a_batch_finite(precision):
    layer = random_layer(precision, seed=4)
    x = np.random.default_rng(4).normal(size=(N_ROWS, N_DIMS)).astype(precision)

    def scalar(x):
        z, log_det = layer.forward_and_log_det(x)
        return ops.mean(0.5 * ops.sum(z * z, axis=-1) - log_det)

    for size in (1e2, 1e4, 1e6, -1e6):
        x[0, 0] = size
        z, log_det = layer.forward_and_log_det(x)
        assert np.all(np.isfinite(numbers(z)))
        assert np.all(np.isfinite(numbers(log_det)))
        np.testing.assert_allclose(numbers(layer.inverse(z))[0, 0], size, rtol=1e-5)
    to_raw, to_x = weight_gradients(scalar, [layer.raw], x)
    assert np.all(np.isfinite(to_raw))
    assert np.all(np.isfinite(to_x))
    assert np.all(to_x != 0)


def test_one_outlier_leaves_a_coupling_finite():
    layer = MixtureCDFCoupling([True, False], num_components=3, hidden=(4,))
    layer.build((None, 2))
    rng = np.random.default_rng(5)
    for weight in layer.trainable_variables:
        weight.assign(0.2 * rng.normal(size=tuple(weight.shape)))
    x = rng.normal(size=(6, 2)).astype("float32")
    x[0] = [-1e6, 1e6]

    def scalar(x):
        z, log_det = layer.forward_and_log_det(x)
        return ops.mean(0.5 * ops.sum(z * z, axis=-1) - log_det)

    for gradient in weight_gradients(scalar, layer.trainable_variables, x):
        assert np.all(np.isfinite(gradient))


def test_density_is_the_mixtures_and_integrates_to_one(precision):
    weights, means, scales = (
        np.array([0.2, 0.5, 0.3]),
        np.array([-3.0, 0.5, 2.0]),
        np.array([0.3, 1.0, 0.1]),
    )
    layer = layer_of(np.log(weights)[None], means[None], np.log(scales)[None], precision)
    flow = GaussianizationFlow([layer], input_dim=1)
    x = np.linspace(-12.0, 12.0, 4001)
    found = numbers(flow.log_prob(x[:, None].astype(precision))).astype(float)
    expected = logsumexp(np.log(weights) + norm.logpdf(x[:, None], means, scales), axis=1)
    tolerance = 1e-5 if precision == "float32" else 1e-12
    np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(np.trapezoid(np.exp(found), x), 1.0, atol=tolerance)


def test_density_and_tails_of_the_mixture(precision):
    weights, means, scales = np.array([0.3, 0.7]), np.array([-1.0, 0.5]), np.array([0.5, 1.5])
    mixture = MixtureOfGaussians(
        *(part[None].astype(precision) for part in (np.log(weights), means, np.log(scales)))
    )
    x = np.linspace(-15.0, 15.0, 13)
    argument = x[:, None].astype(precision)
    terms = [
        logsumexp(np.log(weights) + function(x[:, None], means, scales), axis=1)
        for function in (norm.logpdf, norm.logcdf, norm.logsf)
    ]
    tolerance = 2e-5 if precision == "float32" else 1e-11
    found = (mixture.log_pdf(argument), mixture.log_cdf(argument), mixture.log_survival(argument))
    for value, expected in zip(found, terms, strict=True):
        np.testing.assert_allclose(numbers(value)[:, 0], expected, rtol=tolerance, atol=tolerance)
    for value, expected in ((mixture.pdf(argument), terms[0]), (mixture.cdf(argument), terms[1])):
        np.testing.assert_allclose(numbers(value)[:, 0], np.exp(expected), rtol=0, atol=tolerance)


def test_quantiles_between_far_narrow_modes(precision):
    """Where x jumps over a gap no value is better than its neighbours: z lies between theirs."""
    mixtures = rounded(reference.gap_mixtures(6, 4, 2), precision)
    shares = np.exp(mixtures[0][:, 0].astype(float))
    # The scores at which all of the lower mode is spent, and on both sides of it.
    jump = norm.ppf(shares[:, 0] / shares.sum(1))[:, None]
    offsets = np.array([-6.0, -1.0, -1e-3, -1e-6, 0.0, 1e-6, 1e-3, 1.0, 6.0])
    z = (jump + offsets).astype(precision)
    mixture = MixtureOfGaussians(*mixtures)
    x = numbers(mixture.quantile(z))
    assert np.all(np.isfinite(x))
    room = 8 * np.finfo(precision).eps * np.maximum(1, np.abs(z.astype(float)))
    for sign in (-1, 1):
        beside = x
        for _ in range(4):
            beside = np.nextafter(beside, np.array(sign * np.inf, precision))
        score = numbers(mixture.gaussianize(beside)[0]).astype(float)
        assert np.all(sign * (score - z) >= -room)


def test_a_second_derivative_is_refused_rather_than_wrong():
    parameters = [np.array([[0.2, -0.3]], "float32") * k for k in (1, 2, 3)]
    mixture = MixtureOfGaussians(*parameters)

    def log_det(x):
        # The other term has a second derivative, which must not pass for the whole of it.
        return ops.sum(x * x) + ops.sum(mixture.gaussianize(x)[1])

    def score(x):
        return ops.sum(mixture.gaussianize(x)[0] ** 2)

    def quantile(z):
        return ops.sum(z * z) + ops.sum(mixture.quantile(z))

    for function in (log_det, score, quantile):
        with pytest.raises(NotImplementedError, match="gauss_flows"):
            second_derivative(function, np.array([0.5], "float32"))
