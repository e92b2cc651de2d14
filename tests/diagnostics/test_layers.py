"""What layers leave, where the truth is known."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flowjax.bijections import Exp, Invert, Scan
from flowjax.distributions import Normal, StandardNormal, StudentT, Transformed
from scipy.integrate import quad
from scipy.stats import lognorm

import gauss_flows as gf
from diagnostics.flows import (
    RHO,
    TOTAL_CORRELATION,
    correlated_normal,
    correlated_rows,
    regression,
    regression_rows,
)
from gauss_flows.diagnostics import draw_layer_states, layer_states
from gauss_flows.diagnostics.pushforward import (
    Rows,
    layer_name,
    layers_of,
    open_flow,
    push,
    to_data,
    to_latent,
)
from gauss_flows.flows import forward_with_intermediates

TURN = np.array([[1.0, 1.0], [-1.0, 1.0]]) / np.sqrt(2)


def within(figure, i, truth):
    value, error = (np.asarray(part)[i] for part in figure)
    return abs(value - truth) < 3.5 * error + 0.01


def test_a_rotation_that_makes_independent():
    """N(0, Σ): the rotation takes all total correlation, and leaves two normals."""
    scales = jnp.sqrt(jnp.array([1 + RHO, 1 - RHO]))
    scaled = eqx.tree_at(lambda one: one.log_scale, gf.ActNorm(2), jnp.log(scales))
    flow = gf.flow_from_blocks([(gf.FixedRotation(TURN), scaled)])
    states = layer_states(flow, correlated_rows(2000))
    assert states.name == ("data", "FixedRotation", "ActNorm")
    for i, total in enumerate((TOTAL_CORRELATION, 0.0, 0.0)):
        assert within(states.total_correlation, i, total)
        assert within(states.negentropy, i, 0.0)


def test_a_marginal_layer_takes_negentropy_and_no_dependence():
    """exp of N(0, Σ): negentropies of two lognormals, and the same total correlation."""
    flow = Transformed(correlated_normal(), Exp((2,)))
    states = layer_states(flow, np.exp(correlated_rows(2000)))
    assert states.name[:2] == ("data", "inverse of Exp")
    law = lognorm(1.0)
    entropy = 0.5 * np.log(2 * np.pi * np.e)
    negentropy = 0.5 * np.log(2 * np.pi * np.e * law.var()) - entropy
    value, error = (np.asarray(part) for part in states.negentropy)
    # The sample's variance of a lognormal is what is uncertain.
    assert value[0] == pytest.approx(2 * negentropy, abs=4 * error[0] + 0.1)
    assert within(states.negentropy, 1, 0.0)
    for i in (0, 1):
        assert within(states.total_correlation, i, TOTAL_CORRELATION)
    assert within(states.total_correlation, -1, 0.0)


def test_what_a_wrong_flow_leaves_is_found_in_z():
    """Independent normals as the model of correlated rows."""
    flow = Transformed(Normal(jnp.zeros(2)), gf.ActNorm(2))
    states = layer_states(flow, correlated_rows(2000))
    assert states.name == ("data",)  # an identity is no step
    assert within(states.total_correlation, -1, TOTAL_CORRELATION)


def test_errors_cover():
    flow = correlated_normal()
    found = [layer_states(flow, correlated_rows(400, seed)) for seed in range(25)]
    values, errors = (
        np.array([np.asarray(one.total_correlation[part])[0] for one in found]) for part in (0, 1)
    )
    assert np.mean(np.abs(values - TOTAL_CORRELATION) < 2 * errors) > 0.8
    assert abs(values.mean() - TOTAL_CORRELATION) < 0.02


@pytest.mark.parametrize("n", [100, 400])
def test_nothing_is_found_in_normal_rows(n):
    flow = Transformed(Normal(jnp.zeros(2)), gf.ActNorm(2))
    rng = np.random.default_rng(n)
    found = [layer_states(flow, rng.normal(size=(n, 2))).negentropy for _ in range(12)]
    far = [abs(float(one.value[0])) > 2 * float(one.standard_error[0]) for one in found]
    assert sum(far) <= 2
    assert abs(np.mean([one.value[0] for one in found])) < 0.03


def test_states_are_those_of_the_flow():
    x = np.random.default_rng(0).gamma(2.0, size=(300, 3))
    flow = gf.fit_rbig(x, n_layers=2, n_components=2)
    opened = open_flow(flow)
    state = Rows(x, None)
    expected = forward_with_intermediates(flow, x)
    total = np.zeros(300)
    for layer, after in zip(layers_of(opened), expected[1:], strict=True):
        pushed = push(layer, state)
        np.testing.assert_allclose(pushed.rows, after, atol=1e-4)
        state = Rows(pushed.rows, None)
        total += pushed.log_det
    whole = to_latent(opened, Rows(x, None))
    np.testing.assert_allclose(state.x, whole.rows, atol=1e-10)
    np.testing.assert_allclose(total, whole.log_det, atol=1e-10)
    np.testing.assert_allclose(to_data(opened, state).rows, x, atol=1e-5)


def test_layers_of_scans_and_inverses_are_found_in_data_order():
    one, three = (gf.ActNorm.from_data(np.array(x)) for x in ([[0.0], [2.0]], [[1.0], [7.0]]))
    scales = jax.tree.map(lambda *leaves: jnp.stack(leaves), one, three)
    flow = Transformed(StandardNormal((1,)), Scan(scales))
    layers = layers_of(open_flow(flow))
    assert [layer_name(layer) for layer in layers] == ["inverse of ActNorm"] * 2
    x = Rows(np.array([[5.0]]), None)
    # Latent to data is (x − 1) and then (x − 4) / 3, so that data to latent undoes the last first.
    assert push(layers[0], x).rows == pytest.approx(3 * 5.0 + 4)
    both = layers_of(open_flow(Transformed(flow, Invert(gf.ActNorm(1)))))
    assert [layer_name(layer) for layer in both] == ["ActNorm", *["inverse of ActNorm"] * 2]


def test_conditional_flow():
    x, c = regression_rows(2000)
    states = layer_states(regression(), x, c)
    truth = 0.5 * np.log(np.var(np.sin(c)) / 0.25 + 1)
    first, error = (np.asarray(part)[0] for part in states.total_correlation)
    # One column has no total correlation: what is left to remove is what the condition tells,
    # ½ log of the variances' ratio for a normal and less the negentropy of what is none.
    entropy_gap, _ = quad(lambda t: _log_marginal(t) * np.exp(_log_marginal(t)), -5, 5)
    truth = -entropy_gap - 0.5 * np.log(2 * np.pi * np.e * 0.25)
    assert abs(first - truth) < 3.5 * error + 0.01
    assert within(states.total_correlation, -1, 0.0)


def _log_marginal(t):
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    density = np.exp(-((t - np.sin(nodes)) ** 2) / (2 * 0.25)) / np.sqrt(2 * np.pi * 0.25)
    return np.log(weights @ density / weights.sum())


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="Expected at least 50 rows of x; got 30"):
        layer_states(correlated_normal(), np.zeros((30, 2)))
    with pytest.raises(ValueError, match="Expected x to have 2 columns; got 3"):
        layer_states(correlated_normal(), np.zeros((60, 3)))
    with pytest.raises(ValueError, match="Expected a flow .* got str"):
        layer_states("flow", np.zeros((60, 3)))
    with pytest.raises(ValueError, match="one with base _StandardStudentT"):
        layer_states(StudentT(jnp.ones(2)), np.zeros((60, 2)))


def test_picture_has_both_figures():
    from matplotlib.figure import Figure

    states = layer_states(correlated_normal(), correlated_rows(2000))
    axes = draw_layer_states(states, Figure().subplots())
    np.testing.assert_allclose(axes.lines[0].get_ydata(), states.total_correlation.value)
    np.testing.assert_allclose(axes.lines[1].get_ydata(), states.negentropy.value)
