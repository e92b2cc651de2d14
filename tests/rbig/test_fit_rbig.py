"""RBIG: the seed's figures, known total correlations, when it stops, and the coupling twin."""

import warnings

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import logsumexp
from sklearn.datasets import make_moons

from gauss_flows.bijections import MixtureGaussianCDFCoupling
from gauss_flows.flows import forward_with_intermediates
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig import fit_mixtures, fit_rbig, fit_rbig_coupling


def moons(n, seed=0):
    x, _ = make_moons(n_samples=n, noise=0.1, random_state=seed)
    return (x - x.mean(0)) / x.std(0)


def n_parameters(flow):
    return sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(flow, eqx.is_inexact_array)))


def n_blocks(flow):
    return flow.bijection.bijection.n_blocks


def normal_rows(seed, n, d):
    """Correlated normal rows and their total correlation."""
    rng = np.random.default_rng([seed, d])
    root = rng.normal(size=(d, d)) + np.eye(d)
    covariance = root @ root.T
    scale = np.sqrt(np.diag(covariance))
    correlation = covariance / np.outer(scale, scale)
    return rng.normal(size=(n, d)) @ root.T + 3.0, -0.5 * np.linalg.slogdet(correlation)[1]


class TestSeed001:
    """Two moons, four blocks, eight components."""

    def test_figures(self, precision):
        x = jnp.asarray(moons(5000))
        options = {"n_layers": 4, "n_components": 8, "random_state": 0}
        diagonal = fit_rbig(x, **options)
        coupling = fit_rbig_coupling(x, jr.key(0), **options)
        assert (n_parameters(diagonal), n_parameters(coupling)) == (212, 46804)
        couplings = [
            layer
            for layer in coupling.bijection.bijection.bijections
            if isinstance(layer, MixtureGaussianCDFCoupling)
        ]
        assert len(couplings) == 8
        assert all(
            jnp.max(jnp.abs(layer._coupling.conditioner.layers[-1].weight)) == 0
            for layer in couplings
        )
        z = jax.vmap(diagonal.bijection.inverse)(x)
        z_coupling = jax.vmap(coupling.bijection.inverse)(x)
        tolerance = 1e-10 if precision == "float64" else 1e-5
        assert np.linalg.norm(z - z_coupling, axis=1).max() <= tolerance
        log_p = diagonal.log_prob(x)
        # A row far out, of density e⁻⁹, has that many nats to round.
        assert np.all(np.abs(log_p - coupling.log_prob(x)) <= tolerance * np.maximum(1, -log_p))
        assert log_p.mean() >= -2.198
        back = jax.vmap(coupling.bijection.transform)(z_coupling)
        assert np.abs(back - x).max() <= (1e-9 if precision == "float64" else 1e-4)

    def test_blocks_are_a_rotation_and_a_marginal_in_data_order(self):
        flow = fit_rbig(moons(500), n_layers=3)
        names = [type(layer).__name__ for layer in flow.bijection.bijection.bijections]
        assert names == 3 * ["FixedRotation", "MixtureGaussianCDF"]
        flow = fit_rbig_coupling(moons(500), jr.key(0), n_layers=2)
        names = [type(layer).__name__ for layer in flow.bijection.bijection.bijections]
        assert names == 2 * ["FixedRotation", *(2 * ["MixtureGaussianCDFCoupling"])]


def test_a_coupling_flow_is_its_diagonal_twin_for_any_mask_and_odd_dimensions():
    rng, d = np.random.default_rng(0), 5
    x = rng.gamma(2.0, size=(400, d)) @ rng.normal(size=(d, d))
    mask = np.array([False, True, False, False, True])
    diagonal = fit_rbig(x, n_layers=2, n_components=4)
    coupling = fit_rbig_coupling(x, jr.key(1), n_layers=2, n_components=4, mask=mask)
    probe = np.concatenate([x, 20 * x[:5]])
    z, z_coupling = (jax.vmap(flow.bijection.inverse)(probe) for flow in (diagonal, coupling))
    assert np.allclose(z, z_coupling, rtol=1e-5, atol=1e-5)


def test_one_dimension_is_the_mixture_itself(x64):
    x = np.random.default_rng(0).standard_t(4, size=(2000, 1))
    flow = fit_rbig(x, n_layers="auto", n_components=5)
    assert n_blocks(flow) == 1
    fit = fit_mixtures(x, 5)
    u = (x - fit.means) / np.exp(fit.log_scales)
    terms = fit.log_weights - fit.log_scales - 0.5 * u**2 - 0.5 * np.log(2 * np.pi)
    assert np.allclose(flow.log_prob(x), logsumexp(terms, axis=1), atol=1e-9)
    assert n_blocks(fit_rbig(x, n_layers=2)) == 2


def test_every_layer_is_fitted_to_what_the_ones_before_it_made(precision):
    x = moons(1000)
    flow = fit_rbig(x, n_layers=3)
    states = forward_with_intermediates(flow, jnp.asarray(x))
    marginals = flow.bijection.bijection.bijections[1::2]
    for layer, state in zip(marginals, states[1::2], strict=True):
        z, log_det = jax.vmap(layer.transform_and_log_det)(state)
        reached = np.mean(log_det - 0.5 * (z**2).sum(1)) - np.log(2 * np.pi)
        assert np.isclose(reached, fit_mixtures(state, 8).log_likelihood.sum(), atol=1e-3)
        assert np.abs(z.mean(0)).max() < 0.02
        assert np.abs(z.std(0) - 1).max() < 0.02


class TestTotalCorrelation:
    @pytest.mark.parametrize(
        ("d", "n", "n_layers"), [(2, 1000, "auto"), (3, 4000, 3), (8, 2000, "auto")]
    )
    def test_of_correlated_normal_rows_is_known(self, d, n, n_layers):
        errors = []
        for seed in range(5):
            x, truth = normal_rows(seed, n, d)
            _, record = fit_rbig(
                x, n_layers=n_layers, random_state=seed, return_record=True, n_components=4
            )
            total = record.total_correlation
            errors.append((total.value - truth) / total.standard_error)
        assert np.all(np.abs(errors) < 4.0), errors
        assert abs(np.mean(errors)) < 4.0 / np.sqrt(5)

    def test_of_independent_rows_is_zero_and_needs_one_layer(self):
        for seed in range(5):
            rng = np.random.default_rng(seed)
            x = np.stack(
                [rng.gamma(1.0, size=1500), rng.normal(size=1500), rng.beta(0.5, 0.5, 1500)], 1
            )
            flow, record = fit_rbig(x, n_layers="auto", random_state=seed, return_record=True)
            assert n_blocks(flow) == 1
            assert record.total_correlation_drops == (Estimate(0.0, 0.0),)
            total = record.total_correlation
            assert abs(total.value) < 4 * total.standard_error

    @pytest.mark.parametrize("rotation", ["pca", "ica", "random", "sliced"])
    def test_of_uncorrelated_but_dependent_rows_is_found(self, rotation):
        rng = np.random.default_rng(1)
        angle = rng.uniform(0, 2 * np.pi, 3000)
        x = np.stack([np.cos(angle), np.sin(angle)], 1) + 0.1 * rng.normal(size=(3000, 2))
        flow, record = fit_rbig(x, n_layers="auto", rotation=rotation, return_record=True)
        assert n_blocks(flow) > 4
        total = record.total_correlation
        assert total.value > 10 * total.standard_error
        # The drops are those of the layers kept, and account for nearly all of it.
        assert len(record.total_correlation_drops) == n_blocks(flow)
        kept = sum(drop.value for drop in record.total_correlation_drops)
        assert abs(kept - total.value) < 3 * total.standard_error
        one = fit_rbig(x, n_layers=1)
        assert flow.log_prob(x).mean() > one.log_prob(x).mean() + 0.2

    def test_the_limit_of_layers_is_kept_with_a_warning(self):
        with pytest.warns(UserWarning, match="Stopped at max_layers = 5 layers"):
            flow = fit_rbig(moons(2000), n_layers="auto", max_layers=5)
        assert n_blocks(flow) == 5


class TestValidation:
    def test_blocks_end_where_held_out_rows_are_likeliest(self):
        x, held_out = moons(150), moons(1000, seed=1)
        flow, record = fit_rbig(
            x, n_layers=30, rotation="random", validation=held_out, return_record=True
        )
        likelihoods = record.validation_log_likelihoods
        assert n_blocks(flow) == np.argmax(likelihoods) + 1
        assert len(likelihoods) - n_blocks(flow) in {3, 30 - n_blocks(flow)}
        assert np.isclose(flow.log_prob(held_out).mean(), max(likelihoods), atol=1e-4)
        every = fit_rbig(x, n_layers=30, rotation="random")
        assert flow.log_prob(held_out).mean() > every.log_prob(held_out).mean()

    def test_a_share_of_the_rows_can_be_held_out(self):
        options = {"n_layers": "auto", "validation": 0.25, "random_state": 5}
        flow = fit_rbig(moons(800), **options)
        assert 1 < n_blocks(flow) < 100
        again = fit_rbig(moons(800), **options)
        assert all(map(np.array_equal, jax.tree.leaves(flow), jax.tree.leaves(again)))

    @pytest.mark.parametrize("share", [0.0, 1.0, -0.5, 2])
    def test_a_share_lies_between_nothing_and_all(self, share):
        with pytest.raises(ValueError, match="rows or a share between 0 and 1"):
            fit_rbig(moons(100), validation=share)

    def test_held_out_rows_are_checked(self):
        with pytest.raises(ValueError, match="Expected validation to have 2 columns; got 3"):
            fit_rbig(moons(100), validation=np.zeros((5, 3)))


def test_weights_count_as_repetitions(x64):
    x = moons(600)
    weight = np.random.default_rng(0).integers(0, 4, 600).astype(float)
    repeated = fit_rbig(np.repeat(x, weight.astype(int), axis=0), n_layers=3)
    for factor in (1.0, 0.1):
        weighted = fit_rbig(x, n_layers=3, sample_weight=factor * weight)
        assert np.allclose(weighted.log_prob(x), repeated.log_prob(x), atol=1e-6)


def test_weights_leave_the_total_correlation_calibrated():
    x, truth = normal_rows(11, 4000, 3)
    keep = np.random.default_rng(0).uniform(0.0, 1.0, 4000)
    _, record = fit_rbig(x, n_layers="auto", sample_weight=keep, return_record=True)
    total = record.total_correlation
    assert abs(total.value - truth) < 4 * total.standard_error


def test_more_layers_than_normal_data_need_do_no_harm(precision):
    x = np.random.default_rng(0).normal(size=(2000, 2))
    flow = fit_rbig(x, n_layers=4)
    angles = jnp.linspace(0, 2 * jnp.pi, 16)
    circle = jnp.stack([jnp.cos(angles), jnp.sin(angles)], 1)
    values = np.array([flow.log_prob(radius * circle) for radius in (1.0, 5.0, 8.0, 20.0)])
    assert np.all(np.isfinite(values))
    assert np.all(np.diff(values.mean(1)) < 0)
    for radius in (5.0, 20.0):
        point = radius * circle[3]
        jacobian = jax.jacobian(flow.bijection.inverse)(point)
        _, log_det = flow.bijection.inverse_and_log_det(point)
        rtol = 1e-9 if precision == "float64" else 1e-3
        assert np.isclose(jnp.linalg.slogdet(jacobian)[1], log_det, rtol=rtol, atol=rtol)


def test_a_second_fit_does_not_compile(caplog):
    x = np.random.default_rng(0).gamma(2.0, size=(500, 2))
    fit_rbig(x, n_layers=2)
    with jax.log_compiles():
        fit_rbig(x[::-1] ** 1.5, n_layers=7, random_state=3)
    compiled = [r.getMessage() for r in caplog.records if "XLA compilation" in r.getMessage()]
    # Stacking seven blocks has shapes of its own; nothing else has.
    assert not [m for m in compiled if "stack" not in m and "concatenate" not in m], compiled


def test_the_same_seed_gives_the_same_flow_and_nothing_global_moves():
    x = moons(300)
    np.random.seed(0)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # noqa: NPY002
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        one, same, other = (
            fit_rbig(x, n_layers=2, rotation="random", random_state=s) for s in (1, 1, 2)
        )
    assert np.array_equal(before, np.random.get_state()[1])  # noqa: NPY002
    assert np.array_equal(one.log_prob(x), same.log_prob(x))
    assert not np.array_equal(one.log_prob(x), other.log_prob(x))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_layers": 0}, 'Expected n_layers to be a positive integer or "auto"; got 0.'),
        ({"n_layers": "all"}, "Expected n_layers to be a positive integer or \"auto\"; got 'all'."),
        ({"n_components": 2.5}, "Expected n_components to be a positive integer; got 2.5."),
        ({"max_layers": 0}, "Expected max_layers to be a positive integer; got 0."),
        (
            {"random_state": None},
            "Expected random_state to be an integer of at least 0; got None.",
        ),
        ({"random_state": -3}, "Expected random_state to be an integer of at least 0; got -3."),
        (
            {"rotation": "pcb"},
            "Expected rotation to be one of ('pca', 'ica', 'random', 'sliced'); got 'pcb'.",
        ),
    ],
)
def test_faulty_options_are_named(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        fit_rbig(moons(100), **options)
    assert str(error.value) == message
