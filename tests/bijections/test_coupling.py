"""The frame every coupling shares, and what each of the four layers makes of it."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import AbstractBijection

from coupling_checks import check_gradients, check_layer, check_outliers, randomise
from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.conditioners import ResidualMLP, SharedMLP, with_constant_output
from gauss_flows.bijections.coupling import Coupling
from gauss_flows.bijections.deep_sigmoid import DeepSigmoidCoupling
from gauss_flows.bijections.mixture_cdf import MixtureGaussianCDF
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.bijections.spline_coupling import RQSplineCoupling

LAYERS = {
    "mixture": (MixtureGaussianCDFCoupling, {"n_components": 2}, 6),
    "spline": (RQSplineCoupling, {"n_bins": 4}, 16),
    "affine": (AffineCoupling, {}, 2),
    "deep_sigmoid": (DeepSigmoidCoupling, {"n_components": 2}, 6),
}
AFFINE = LAYERS["affine"]


@pytest.fixture(params=LAYERS)
def kind(request):
    return LAYERS[request.param]


def make(kind, **settings):
    layer, options, _ = kind
    return layer(jr.key(0), **{"nn_width": 8, "nn_depth": 1, **options, **settings})


def points(n_dims, n_rows=40):
    return 1.5 * jr.normal(jr.key(7), (n_rows, n_dims))


class BrokenLogDet(AbstractBijection):
    """A layer whose log_det is off by a thousandth."""

    layer: AbstractBijection
    shape: tuple[int, ...]
    cond_shape: ClassVar[None] = None

    def transform_and_log_det(self, x, condition=None):
        z, log_det = self.layer.transform_and_log_det(x)
        return z, log_det + 1e-3

    def inverse_and_log_det(self, y, condition=None):
        return self.layer.inverse_and_log_det(y)


class BrokenInverse(AbstractBijection):
    """A layer whose inverse is off by a hundred-thousandth."""

    layer: AbstractBijection
    shape: tuple[int, ...]
    cond_shape: ClassVar[None] = None

    def transform_and_log_det(self, x, condition=None):
        return self.layer.transform_and_log_det(x)

    def inverse_and_log_det(self, y, condition=None):
        x, log_det = self.layer.inverse_and_log_det(y)
        return x + 1e-4, log_det


class NoGradient(AbstractBijection):
    """A layer whose parameters never learn."""

    layer: AbstractBijection
    shape: tuple[int, ...]
    cond_shape: ClassVar[None] = None

    def transform_and_log_det(self, x, condition=None):
        return jax.lax.stop_gradient(self.layer).transform_and_log_det(x)

    def inverse_and_log_det(self, y, condition=None):
        return self.layer.inverse_and_log_det(y)


def test_every_layer_in_an_odd_dimension(kind, precision):
    check_layer(randomise(make(kind, n_dims=3), jr.key(1)), points(3))


def test_gradients(kind, precision):
    layer = randomise(make(kind, n_dims=3, cond_dim=2), jr.key(1))
    check_gradients(layer, points(3), jnp.array([0.4, -1.0]))


def test_far_outliers(kind, precision):
    check_outliers(randomise(make(kind, n_dims=2, cond_dim=1), jr.key(1)))


@pytest.mark.parametrize(("n_dims", "mask"), [(1, None), (2, None), (3, (False,) * 3)])
def test_condition(n_dims, mask, precision):
    layer = randomise(make(AFFINE, n_dims=n_dims, mask=mask, cond_dim=2), jr.key(1))
    condition = jnp.array([0.4, -1.0])
    check_layer(layer, points(n_dims, 10), condition)
    x = points(n_dims, 1)[0]
    assert not np.allclose(layer.transform(x, condition), layer.transform(x, -condition))
    with pytest.raises(ValueError, match="condition"):
        layer.transform(x)


def test_mask_decides_who_passes_and_who_conditions(precision):
    mask = np.array([True, False, False, True, False])
    layer = randomise(make(AFFINE, n_dims=5, mask=mask), jr.key(1))
    check_layer(layer, points(5))
    x = points(5, 1)[0]
    jacobian = np.asarray(jax.jacfwd(layer.transform)(x))
    np.testing.assert_array_equal(layer.transform(x)[mask], x[mask])
    depends = jacobian != 0
    np.testing.assert_array_equal(depends[mask], np.eye(5, dtype=bool)[mask])
    np.testing.assert_array_equal(depends[~mask], (np.eye(5, dtype=bool) | mask)[~mask])


def test_default_mask_lets_the_first_half_condition():
    for n_dims, expected in ((2, (True, False)), (5, (True, True, False, False, False))):
        assert Coupling(jr.key(0), n_dims=n_dims, n_params=1).mask == expected


def test_checks_reject_broken_layers(precision):
    layer = randomise(make(AFFINE, n_dims=2), jr.key(1))
    check_layer(layer, points(2))
    for broken in (BrokenLogDet, BrokenInverse):
        with pytest.raises(AssertionError):
            check_layer(broken(layer, shape=(2,)), points(2))
    with pytest.raises(AssertionError):
        check_gradients(NoGradient(layer, shape=(2,)), points(2))


@pytest.mark.parametrize(
    "mask",
    [
        (True, False),
        (False, True),
        (False, True, False, True, True),
        (True, True, False),
        (False, False, True, False, False),
    ],
)
def test_merge_undoes_split(mask):
    coupling = Coupling(jr.key(0), n_dims=len(mask), n_params=1, mask=mask)
    x = jnp.arange(1.0, len(mask) + 1)
    passive, active = coupling.split(x)
    np.testing.assert_array_equal(passive, x[np.array(mask)])
    np.testing.assert_array_equal(active, x[~np.array(mask)])
    np.testing.assert_array_equal(coupling.merge(passive, active), x)


def test_conditioner_reads_the_passive_half_then_the_condition():
    coupling = Coupling(
        jr.key(0), n_dims=4, n_params=2, cond_dim=2, conditioner=lambda inputs: 10 * inputs
    )
    passive, _ = coupling.split(jnp.arange(4.0))
    parameters = coupling.parameters(passive, jnp.array([8.0, 9.0]))
    np.testing.assert_array_equal(parameters, [[0.0, 10.0], [80.0, 90.0]])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_dims": 0}, "n_dims >= 1; got 0"),
        ({"n_dims": 2, "mask": (True, True)}, "at least one False.*got all True"),
        ({"n_dims": 2, "mask": (True, False, True)}, r"shape \(2,\); got \(3,\)"),
        ({"n_dims": 2, "mask": (1, 0)}, "booleans.*got int64"),
        ({"n_dims": 2, "cond_dim": 0}, "cond_dim >= 1.*got 0"),
        ({"n_dims": 2, "nn_depth": 0}, "nn_depth >= 1.*got 0"),
        ({"n_dims": 2, "nn_width": 0}, "nn_width >= 1; got 0"),
    ],
)
def test_faulty_settings_are_refused(kind, settings, message):
    with pytest.raises(ValueError, match=message):
        make(kind, **settings)


@pytest.mark.parametrize("settings", [{"n_dims": 1}, {"n_dims": 3, "mask": (False,) * 3}])
def test_nothing_to_couple_names_the_layer_to_use(kind, settings):
    with pytest.raises(ValueError, match=r"cond_dim.*use (Mixture|RQSpline|ActNorm)"):
        make(kind, **settings)


class Doubling(eqx.Module):
    """A conditioner of a user's own."""

    matrix: jax.Array

    def __call__(self, inputs):
        return self.matrix @ inputs


def test_custom_conditioner(precision):
    layer = make(AFFINE, n_dims=3, conditioner=Doubling(0.3 * jr.normal(jr.key(3), (4, 1))))
    check_layer(layer, points(3))
    check_gradients(layer, points(3))


def test_conditioner_of_the_wrong_width_is_refused(kind):
    n_params = kind[2]
    expected, got = 2 * n_params, 2 * n_params + 1
    with pytest.raises(ValueError, match=rf"shape \({expected},\).*got shape \({got},\)"):
        make(kind, n_dims=3, conditioner=Doubling(jnp.zeros((got, 1))))
    with pytest.raises(ValueError, match=r"from shape \(1,\).*got a failure"):
        make(kind, n_dims=3, conditioner=Doubling(jnp.zeros((expected, 2))))
    with pytest.raises(ValueError, match=r"got .*tuple"):
        make(kind, n_dims=3, conditioner=lambda inputs: (inputs,))
    with pytest.raises(ValueError, match="int32"):
        make(kind, n_dims=3, conditioner=lambda inputs: jnp.zeros(expected, jnp.int32))


def test_built_in_conditioners(precision):
    for conditioner in (
        ResidualMLP(jr.key(2), in_size=1, out_size=4, nn_width=8, nn_depth=3),
        SharedMLP(jr.key(2), in_size=1, n_coordinates=2, n_params=2, nn_width=8, nn_depth=1),
    ):
        layer = randomise(make(AFFINE, n_dims=3, conditioner=conditioner), jr.key(1))
        check_layer(layer, points(3))
        check_gradients(layer, points(3))


def test_parameter_counts_are_those_of_the_published_runs():
    def count(layer):
        return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(layer, eqx.is_inexact_array)))

    mixture = MixtureGaussianCDFCoupling(jr.key(0), n_dims=2, n_components=8)
    spline = RQSplineCoupling(jr.key(0), n_dims=2, n_bins=8, nn_width=16, nn_depth=1)
    assert (count(mixture), count(spline)) == (5848, 508)


def test_zero_kernel_mixture_coupling_is_the_diagonal_layer(precision):
    diagonal = randomise(MixtureGaussianCDF(2, n_components=8), jr.key(4))
    start = MixtureGaussianCDFCoupling(jr.key(0), n_dims=4, n_components=8)
    conditioner = with_constant_output(start._coupling.conditioner, diagonal.raw)
    coupling = eqx.tree_at(lambda layer: layer._coupling.conditioner, start, conditioner)
    x = points(4)
    z, log_det = jax.jit(jax.vmap(coupling.transform_and_log_det))(x)
    expected, expected_log_det = jax.jit(jax.vmap(diagonal.transform_and_log_det))(x[:, 2:])
    last_digits = 16 * np.finfo(precision).eps
    np.testing.assert_allclose(z, np.c_[x[:, :2], expected], rtol=last_digits, atol=last_digits)
    np.testing.assert_allclose(log_det, expected_log_det, rtol=last_digits, atol=last_digits)
