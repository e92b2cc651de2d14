"""Every density against its own integrals and samples, and each check against a broken one."""

import dataclasses
import inspect
import pickle

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from datasets import density_checks as checks
from datasets.dataset_registry import ALL, BOUNDED, DENSITIES, SMOOTH, VARIANTS, Altered
from gauss_flows import datasets
from gauss_flows.datasets import Density, EightGaussians, Rings, TwoGaussians, UniformSquare

every = pytest.mark.parametrize("name", DENSITIES)


def test_none_is_missing_from_the_registry():
    exported = {getattr(datasets, name) for name in datasets.__all__}
    concrete = {kind for kind in exported if not inspect.isabstract(kind)}
    assert concrete == {type(density) for density in DENSITIES.values()} | {datasets.Standardized}


@every
def test_samples_have_the_entropy_and_moments_claimed(name):
    checks.check_samples(DENSITIES[name])


@pytest.mark.parametrize("fault", ["mass 1.01", "entropy", "mean", "covariance"])
def test_a_wrong_claim_about_samples_is_rejected(fault):
    checks.check_samples(Altered(TwoGaussians(), "none"))
    with pytest.raises(AssertionError):
        checks.check_samples(Altered(TwoGaussians(), fault))


@pytest.mark.parametrize("fault", ["sample too wide", "sample shifted", "rows in pairs"])
@pytest.mark.parametrize("density", [TwoGaussians(), UniformSquare()])
def test_wrong_samples_are_rejected(density, fault):
    with pytest.raises(AssertionError):
        checks.check_samples(Altered(density, fault))


@pytest.mark.parametrize("name", ALL | VARIANTS)
def test_the_log_density_integrates_to_one_and_to_the_entropy_and_moments(name):
    density, rule = (ALL | VARIANTS)[name]
    checks.check_integrals(density, rule())


@pytest.mark.parametrize("fault", ["mass 1.01", "entropy", "mean", "covariance"])
def test_a_wrong_integral_is_rejected(fault):
    density, rule = ALL["two_gaussians"]
    checks.check_integrals(Altered(density, "none"), rule())
    with pytest.raises(AssertionError):
        checks.check_integrals(Altered(density, fault), rule())


@pytest.mark.parametrize("name", sorted(set(SMOOTH) - {"w"}))
def test_far_away_and_at_the_origin_nothing_breaks(precision, name):
    checks.check_far(DENSITIES[name], precision)


def test_far_along_the_active_coordinate_w_does_not_underflow(precision):
    x = jnp.asarray([[-1.9, 1e4], [0.0, -1e4], [2.0, 300.0], [0.0, 0.0]], precision)
    assert np.isfinite(DENSITIES["w"].log_prob(x)).all()
    assert np.isfinite(jax.vmap(jax.grad(DENSITIES["w"].log_prob))(x)).all()


@pytest.mark.parametrize("fault", ["underflow", "gradient", "support closed by a large number"])
def test_what_breaks_far_away_is_rejected(precision, fault):
    checks.check_far(Altered(TwoGaussians(), "none"), precision)
    with pytest.raises(AssertionError):
        checks.check_far(Altered(TwoGaussians(), fault), precision)


@pytest.mark.parametrize("name", [*BOUNDED, "w"])
def test_outside_the_support_there_is_no_mass(precision, name):
    checks.check_outside(DENSITIES[name], precision, [[4.01, 0.1], [-1e4, 3.0], [-4.001, -4.001]])


def test_the_board_is_filled_from_its_corners(precision):
    x = jnp.asarray([[-3.0, -3.0], [3.0, 3.0], [1.0, -3.0], [4.0, 4.0], [-4.0, -4.0]], precision)
    assert np.allclose(DENSITIES["checkerboard"].log_prob(x), -np.log(32))
    checks.check_outside(DENSITIES["checkerboard"], precision, [[-3.0, 3.0], [3.0, -3.0], [3, 1]])


def test_mass_outside_the_support_is_rejected(precision):
    broken = Altered(UniformSquare(), "support closed by a large number")
    with pytest.raises(AssertionError):
        checks.check_outside(broken, precision, [[2.0, 2.0]])


@every
def test_float32_and_float64_agree(name):
    checks.check_precision(DENSITIES[name])


def test_lost_precision_is_rejected():
    with pytest.raises(AssertionError):
        checks.check_precision(Altered(TwoGaussians(), "float32 always"))


@every
def test_keys_are_all_that_draws_depend_on(name):
    checks.check_keys(DENSITIES[name])


@pytest.mark.parametrize("fault", ["one key for all", "rows repeated"])
def test_misused_keys_are_rejected(fault):
    with pytest.raises(AssertionError):
        checks.check_keys(Altered(TwoGaussians(), fault))


@every
def test_jit_and_vmap_change_nothing(x64, name):
    density = DENSITIES[name]
    x = jnp.asarray(checks.few_points(density), float)
    plain = density.log_prob(x)
    assert plain.shape == (checks.N_FEW,)
    for other in (
        jax.jit(lambda d, x: d.log_prob(x), static_argnums=0)(density, x),
        jax.vmap(density.log_prob)(x),
        density.log_prob(np.asarray(x).reshape(8, 8, 2)).ravel(),
    ):
        assert np.allclose(other, plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ["w", "rings"])
def test_drawing_under_jit_changes_nothing(name):
    density = DENSITIES[name]
    drawn = jax.jit(lambda key: density.sample(key, checks.N_FEW))(jr.key(0))
    assert np.allclose(drawn, checks.few_points(density), rtol=1e-5, atol=1e-6)


@every
def test_gradients_are_those_of_finite_differences(x64, name):
    checks.check_gradient(DENSITIES[name])


@pytest.mark.parametrize("fault", ["gradient", "gradient stopped"])
def test_wrong_gradients_are_rejected(x64, fault):
    with pytest.raises(AssertionError):
        checks.check_gradient(Altered(TwoGaussians(), fault))


@pytest.mark.parametrize("name", ["moons", "spiral"])
def test_blocks_of_rows_join_up(name):
    """More rows than are held at once, and no multiple of a block."""
    x = np.tile(checks.few_points(DENSITIES[name]), (600, 1))[:-5]
    log_prob = np.pad(DENSITIES[name].log_prob(x), (0, 5), mode="edge").reshape(600, -1)
    assert np.allclose(log_prob[:, :-6], log_prob[0, :-6], rtol=1e-5, atol=1e-5)
    assert np.allclose(log_prob[0], DENSITIES[name].log_prob(x[:64]), rtol=1e-5, atol=1e-5)


@every
def test_what_is_not_a_number_has_no_density(name):
    assert np.isnan(DENSITIES[name].log_prob([[np.nan, 0.0], [0.0, np.nan]])).all()


@every
def test_equal_parameters_make_equal_densities(name):
    density = DENSITIES[name]
    again = dataclasses.replace(density)
    assert again is not density
    assert again == density
    assert hash(again) == hash(density)
    assert len({density, again, *DENSITIES.values()}) == len(DENSITIES)
    assert pickle.loads(pickle.dumps(density)) == density
    assert again.entropy() == density.entropy()
    assert eval(repr(density), vars(datasets)) == density
    with pytest.raises(dataclasses.FrozenInstanceError):
        density.other = 1.0  # pyright: ignore[reportAttributeAccessIssue]


def test_other_parameters_or_kinds_make_other_densities():
    assert TwoGaussians() != TwoGaussians(delta=0.5)
    assert DENSITIES["w"] != DENSITIES["wu"]
    assert Altered(TwoGaussians(), "none") != Altered(TwoGaussians(), "mean")
    assert Rings([1, 2], np.float64(0.1)) == Rings((1.0, 2.0), 0.1, weights=(5, 5))
    assert Rings((1, 2)) != Rings((1, 2), weights=(1, 2))


def test_what_is_known_once_cannot_be_spoiled():
    density = EightGaussians()
    density.mean()[:] = 7.0
    density.covariance()[:] = 7.0
    assert np.array_equal(density.mean(), np.zeros(2))
    assert density.covariance()[0, 1] == 0.0


def test_a_density_of_one_s_own_needs_five_methods():
    class Line(Density):
        n_dims = 1  # pyright: ignore[reportAssignmentType]

        def _sample(self, key, n):
            return jr.normal(key, (n, 1))

        def _log_prob(self, x):
            return -0.5 * x[..., 0] ** 2 - 0.5 * np.log(2 * np.pi)

        def _entropy(self):
            return 0.5 * np.log(2 * np.pi * np.e)

        def _moments(self):
            return np.zeros(1), np.eye(1)

    line = Line()
    checks.check_samples(line)
    assert abs(line.kl_to_normal()) < 1e-12
    assert line.standardized().n_dims == 1
