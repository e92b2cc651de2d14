"""Numbers as they are written."""

import numpy as np
import pytest

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.blocks import Recipe
from gauss_flows.selection.words import shown


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (-1.0474, 0.1234, "-1.05 ± 0.12"),
        (-1.0474, float("nan"), "-1.05 ± ?"),
        (-1e-9, 1e-9, "0.0000 ± 0.0000"),
        (-1e-9, float("nan"), "0.00 ± ?"),
        (-3.5e305, 1.7e305, "-3.5e+305 ± 1.7e+305"),
        (float("-inf"), float("nan"), "-inf ± ?"),
    ],
)
def test_estimates(value, error, text):
    assert shown(Estimate(value, error)) == text


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("far", [-np.inf, -1e305])
def test_mean_of_rows_that_are_far_away_is_silent(far):
    estimate = Estimate.of_mean(np.array([-1.0, far]))
    assert estimate.value <= far / 2
    assert not np.isfinite(estimate.standard_error)


def test_one_component():
    assert str(Recipe(True, 1)) == "marginals first, 1 component"
    assert str(Recipe(False, 2)) == "rotation first, 2 components"
