"""The energy distance against closed forms, its error and its p-value."""

import mpmath
import numpy as np
import pytest
from scipy.spatial.distance import cdist
from scipy.special import gamma, hyp1f1
from scipy.stats import kstest

from gauss_flows.diagnostics import draw_energy_distance, energy_distance
from gauss_flows.diagnostics.energy import expected_distance


def shifted_truth(d, shift):
    """Squared energy distance between N(μ, I) and N(0, I), ‖μ‖ = shift."""
    mean_norm = np.sqrt(2) * gamma((d + 1) / 2) / gamma(d / 2)
    return 2 * np.sqrt(2) * mean_norm * (hyp1f1(-0.5, d / 2, -(shift**2) / 4) - 1)


def scaled_truth(d, scale):
    """Squared energy distance between N(0, s² I) and N(0, I)."""
    mean_norm = np.sqrt(2) * gamma((d + 1) / 2) / gamma(d / 2)
    return mean_norm * (2 * np.sqrt(1 + scale**2) - np.sqrt(2) * scale - np.sqrt(2))


@pytest.mark.parametrize("d", [1, 2, 5, 64, 700])
def test_mean_distance_to_the_normal(d):
    radius = np.array([0.0, 1e-3, 1.0, 5.0, 33.0, 1e3, 1e8])
    z = np.zeros((len(radius), d))
    z[:, -1] = radius
    half = mpmath.mpf(d) / 2
    factor = mpmath.sqrt(2) * mpmath.gamma(half + mpmath.mpf(1) / 2) / mpmath.gamma(half)
    truth = [factor * mpmath.hyp1f1(-0.5, half, -(mpmath.mpf(r) ** 2) / 2) for r in radius]
    np.testing.assert_allclose(expected_distance(z), np.array(truth, float), rtol=1e-13)


@pytest.mark.filterwarnings("error")
def test_values_that_are_very_far_are_as_far_as_squares_allow():
    z = np.random.default_rng(0).normal(size=(50, 2))
    z[3] = 1e200
    assert np.isfinite(energy_distance(z, n_null=9).estimate).all()
    np.testing.assert_allclose(expected_distance(np.array([[3e200, 0.0]])) / 1e150, 1.0)


@pytest.mark.parametrize(
    ("d", "shift", "scale"), [(1, 0.5, 1.0), (3, 1.0, 1.0), (2, 0.0, 1.5), (10, 0.0, 0.7)]
)
def test_distance_is_unbiased_and_its_error_covers(d, shift, scale):
    truth = shifted_truth(d, shift) if shift else scaled_truth(d, scale)
    rng = np.random.default_rng(d)
    found = []
    for _ in range(150):
        z = scale * rng.normal(size=(200, d))
        z[:, 0] += shift
        found.append(energy_distance(z, n_null=1).estimate)
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 3.5 * values.std() / np.sqrt(len(values))
    assert 0.88 <= np.mean(np.abs(values - truth) < 1.96 * errors) <= 1.0
    assert 0.85 < errors.mean() / values.std() < 1.3


def test_normal_rows_have_distance_zero_and_uniform_p_values():
    rng = np.random.default_rng(0)
    found = [energy_distance(rng.normal(size=(60, 2)), n_null=999) for _ in range(300)]
    values = np.array([one.estimate.value for one in found])
    errors = np.array([one.estimate.standard_error for one in found])
    assert abs(values.mean()) < 3.5 * values.std() / np.sqrt(len(values))
    assert 0.85 < errors.mean() / values.std() < 1.5
    assert kstest([one.p_value for one in found], "uniform").pvalue > 1e-3


def test_p_values_of_many_rows_come_from_few():
    rng = np.random.default_rng(1)
    p_values = [energy_distance(rng.normal(size=(900, 3)), n_null=999).p_value for _ in range(60)]
    assert kstest(p_values, "uniform").pvalue > 1e-3


def test_value_is_that_of_the_definition():
    z = np.random.default_rng(0).gamma(2.0, size=(50, 3))
    y = np.random.default_rng(1).normal(size=(200_000, 3))
    pairs = cdist(z, z).sum() / (50 * 49)
    between = np.mean([cdist(z[i : i + 1], y).mean() for i in range(50)])
    normal = 2 * gamma(2.0) / gamma(1.5)
    value = energy_distance(z, n_null=1).estimate.value
    assert value == pytest.approx(2 * between - pairs - 2 * gamma(2.0) / gamma(1.5), abs=0.01)
    assert normal == pytest.approx(cdist(y[:2000], y[2000:4000]).mean(), rel=0.01)


def test_parts_stay_unbiased():
    rng = np.random.default_rng(2)
    truth = shifted_truth(2, 0.8)
    found = []
    for _ in range(60):
        z = rng.normal(size=(300, 2))
        z[:, 0] += 0.8
        found.append(energy_distance(z, rows_at_once=70, n_null=1).estimate)
    values, errors = np.array(found).T
    assert abs(values.mean() - truth) < 3.5 * values.std() / np.sqrt(len(values))
    assert 0.8 < errors.mean() / values.std() < 1.3
    normal = [
        energy_distance(rng.normal(size=(300, 2)), rows_at_once=70, n_null=499).p_value
        for _ in range(100)
    ]
    assert kstest(normal, "uniform").pvalue > 1e-3


def test_same_seed_same_answer():
    z = np.random.default_rng(0).normal(size=(40, 2))
    first, second = energy_distance(z, random_state=3), energy_distance(z, random_state=3)
    assert first.estimate == second.estimate
    assert first.p_value == second.p_value


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="Expected at least 4 rows of z; got 3"):
        energy_distance(np.zeros((3, 2)))
    with pytest.raises(ValueError, match="n_null to be a positive integer; got 0"):
        energy_distance(np.zeros((9, 2)), n_null=0)
    with pytest.raises(ValueError, match="got inf in row 2, column 1"):
        energy_distance([[0, 0], [0, 0], [0, np.inf], [0, 0]])


def test_picture_has_the_distance_among_the_null():
    from matplotlib.figure import Figure

    found = energy_distance(np.random.default_rng(0).normal(size=(50, 2)))
    axes = draw_energy_distance(found, Figure().subplots())
    (line,) = axes.lines
    assert line.get_xdata()[0] == found.estimate.value
    assert sum(patch.get_height() for patch in axes.patches) == len(found.null)
