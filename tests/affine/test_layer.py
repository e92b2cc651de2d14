"""The layer of Lemma 1, and what Lemma 2 says of it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from affine.laws import BEST, BEST_DEGREES, rows
from gauss_flows.affine import closed_form_coupling, conditional_moments
from gauss_flows.datasets import WU, TwoGaussians, W


def layer_of(x, **options):
    return closed_form_coupling(conditional_moments(x[:, :1], x[:, 1:]), **options)


def test_it_standardises():
    x = rows(W(), 4000)
    layer = layer_of(x)
    z, log_det = jax.vmap(layer.transform_and_log_det)(jnp.asarray(x))
    moments = conditional_moments(x[:, :1], x[:, 1:])
    deviation = np.sqrt(np.asarray(moments.variance(x[:, :1])))
    np.testing.assert_array_equal(z[:, 0], jnp.asarray(x)[:, 0])
    expected = (x[:, 1:] - np.asarray(moments.mean(x[:, :1]))) / deviation
    np.testing.assert_allclose(z[:, 1:], expected, rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(log_det, -np.log(deviation)[:, 0], rtol=1e-4, atol=1e-5)
    back = jax.vmap(layer.inverse)(z)
    np.testing.assert_allclose(back, x, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_it_standardises_in_any_unit(x64, unit):
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.normal(size=2000), unit * (3.0 + rng.normal(size=2000))])
    z, log_det = jax.vmap(layer_of(x).transform_and_log_det)(x)
    assert abs(z[:, 1].mean()) < 0.02
    assert abs(z[:, 1].std() - 1) < 0.02
    assert abs(log_det.mean() + np.log(unit)) < 0.02


@pytest.mark.parametrize("step", [0.3, 1.0])
def test_a_step_goes_a_share_of_the_way(step):
    x = rows(W(), 2000)
    whole = jax.vmap(layer_of(x).transform)(jnp.asarray(x))
    part = jax.vmap(layer_of(x, step=step).transform)(jnp.asarray(x))
    np.testing.assert_allclose(part, (1 - step) * x + step * whole, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("step", [0.0, -1.0, 1.1, np.nan, "a", None, True, [0.5]])
def test_other_steps_are_refused(step):
    with pytest.raises(ValueError, match="step"):
        layer_of(rows(W(), 100), step=step)


def test_a_step_may_be_jax_s():
    x = rows(W(), 100)
    half = jax.vmap(layer_of(x, step=0.5).transform)(jnp.asarray(x))
    same = jax.vmap(layer_of(x, step=jnp.asarray(0.5)).transform)(jnp.asarray(x))
    np.testing.assert_array_equal(half, same)


@pytest.mark.parametrize("moments", ["spline", None, 1.0])
def test_other_moments_are_refused(moments):
    with pytest.raises(ValueError, match="Expected moments that JAX can evaluate"):
        closed_form_coupling(moments)


def test_several_active_coordinates():
    rng = np.random.default_rng(0)
    p = rng.normal(size=(2000, 1))
    a = np.hstack([p**2, -p]) + 0.2 * rng.normal(size=(2000, 2))
    layer = closed_form_coupling(conditional_moments(p, a))
    z = np.asarray(jax.vmap(layer.transform)(jnp.asarray(np.hstack([p, a]))))
    assert np.abs(np.corrcoef(z[:, 1], p[:, 0] ** 2)[0, 1]) < 0.1
    np.testing.assert_allclose(z[:, 1:].std(0), 1.0, atol=0.05)


_BINS = 16


def dependence(p, z, rng, n_permutations=99):
    """P-value of the chi-squared statistic of 16 by 16 equally filled bins, by permutation."""

    def bins(values):
        return (np.argsort(np.argsort(values)) * _BINS) // len(values)

    left, right = bins(p), bins(z)

    def statistic(order):
        counts = np.bincount(_BINS * left + order, minlength=_BINS**2)
        return np.sum((counts - len(p) / _BINS**2) ** 2)

    seen = statistic(right)
    null = [statistic(rng.permutation(right)) for _ in range(n_permutations)]
    return (1 + sum(value >= seen for value in null)) / (1 + n_permutations)


def p_values(density, turn, n, seeds):
    rng = np.random.default_rng(0)
    degrees = 0.0 if turn is None else np.deg2rad(BEST_DEGREES)
    values = []
    for seed in seeds:
        x = rows(density, n, seed)
        y = x if turn is None else x @ turn.T
        mean, variance = density.conditional_moments(y[:, 0], degrees)
        values.append(dependence(y[:, 0], (y[:, 1] - mean) / np.sqrt(variance), rng))
    return np.array(values)


@pytest.mark.parametrize("density", [W(), WU()])
def test_active_and_passive_are_independent_after_it(density):
    """The null holds: p-values of the best layer's output are spread over (0, 1)."""
    values = p_values(density, None, 4000, range(20))
    assert (values < 0.05).sum() <= 4
    assert values.mean() > 0.3


@pytest.mark.parametrize("density", [W(), WU()])
def test_nor_does_a_fitted_layer_leave_a_dependence(density):
    """The layer that was set from many rows, on others."""
    layer = layer_of(rows(density, 65_536, 99))
    rng = np.random.default_rng(0)
    values = []
    for seed in range(10):
        x = rows(density, 2000, seed)
        z = np.asarray(jax.vmap(layer.transform)(jnp.asarray(x)))
        values.append(dependence(x[:, 0], z[:, 1], rng))
    assert sum(value < 0.05 for value in values) <= 3
    raw = rows(density, 2000, 0)
    assert dependence(raw[:, 0], raw[:, 1], rng) == 0.01


def test_the_mixture_s_are_not():
    values = p_values(TwoGaussians(), BEST, 16_000, range(4))
    assert (values < 0.05).mean() >= 0.75
