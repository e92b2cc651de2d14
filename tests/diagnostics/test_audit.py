"""The audit passes what is right and catches what is broken, by name."""

import jax.numpy as jnp
import numpy as np
import pytest
from flowjax.distributions import StudentT

import gauss_flows as gf
from diagnostics.flows import (
    Doubling,
    FailingInverse,
    WrongInverse,
    WrongLogDet,
    WrongSign,
    regression,
    regression_rows,
    with_layer,
)
from gauss_flows.diagnostics import audit_flow, draw_audit

ROWS = np.random.default_rng(0).normal(size=(100, 2))


def test_a_sound_flow_passes():
    audit = audit_flow(with_layer(Doubling()), ROWS)
    assert audit.failed == ()
    assert [layer.name for layer in audit.layers] == ["ActNorm", "Doubling", "FixedRotation"]
    assert audit.log_det_sum.largest < 1e-12
    assert (audit.n_rows, audit.n_jacobians) == (100, 5)


@pytest.mark.parametrize(
    ("layer", "failed"),
    [
        (WrongLogDet(), ("log-determinants and Jacobians",)),
        (WrongSign(), ("log-determinants there and back",)),
        (WrongInverse(), ("data to latent and back",)),
        (FailingInverse(), ("data to latent and back",)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_broken_layer_is_caught_and_named(layer, failed):
    x = ROWS.copy()
    x[37] = [3.5, 0.0]  # the one row that the wrong inverses are wrong for
    audit = audit_flow(with_layer(layer), x)
    assert audit.failed[-1] == f"layer 2, {type(layer).__name__}"
    assert set(failed) <= set(audit.failed)
    assert [one.passed for one in audit.layers] == [True, False, True]
    if "data to latent and back" in failed:
        assert audit.data_round_trip.row == 37
        assert audit.data_round_trip.median < 1e-6
        assert audit.layers[1].round_trip.row == 37


def test_sizes_of_discrepancies():
    wrong = audit_flow(with_layer(WrongLogDet()), ROWS).layers[1]
    assert wrong.log_det_jacobian.largest == pytest.approx(np.log(2))
    assert wrong.log_det_sum.largest == 0
    sign = audit_flow(with_layer(WrongSign()), ROWS)
    assert sign.log_det_sum.median == pytest.approx(4 * np.log(2))
    x = ROWS.copy()
    x[37] = [3.5, 0.0]
    off = audit_flow(with_layer(WrongInverse()), x).data_round_trip.largest
    assert 0.5e-3 < off * x.std(0).mean() < 2e-3
    assert audit_flow(with_layer(FailingInverse()), x).data_round_trip.largest == np.inf


def test_precisions_of_a_fitted_flow():
    x = np.random.default_rng(0).gamma(2.0, size=(150, 2))
    flow = gf.fit_rbig(x, n_layers=1, n_components=2)
    double = audit_flow(flow, x)
    single = audit_flow(flow, x, precision="float32")
    assert double.failed == single.failed == ()
    assert double.log_det_sum.largest < 1e-9
    assert 1e-8 < single.log_det_sum.largest < 1e-3
    assert audit_flow(flow, x, tolerance=1e-30).failed


def test_conditional_flow():
    x, c = regression_rows(60)
    audit = audit_flow(regression(), x, c)
    assert audit.failed == ()
    assert audit.log_det_jacobian.largest < 1e-7


def test_one_row_will_do():
    audit = audit_flow(with_layer(Doubling()), ROWS[:1])
    assert audit.failed == ()
    assert audit.n_jacobians == 1


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="'float32' or 'float64'; got 'float16'"):
        audit_flow(regression(), [[0.0]], precision="float16")
    with pytest.raises(ValueError, match="got nan in row 1, column 1"):
        audit_flow(with_layer(Doubling()), [[0.0, 0.0], [0.0, np.nan]])
    with pytest.raises(ValueError, match="Expected a flow whose latent is normal"):
        audit_flow(StudentT(jnp.ones(2)), ROWS)


def test_picture_has_a_mark_for_each_layer_and_the_flow():
    from matplotlib.figure import Figure

    audit = audit_flow(with_layer(WrongSign()), ROWS)
    axes = draw_audit(audit, Figure().subplots())
    sums = axes.lines[1].get_ydata()
    assert len(sums) == 4
    np.testing.assert_allclose(sums[[1, 3]], 4 * np.log(2))
