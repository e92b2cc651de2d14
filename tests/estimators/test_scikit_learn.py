"""scikit-learn's own checks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from gauss_flows.estimators import FlowDensity, FlowOutlierDetector, Gaussianizer


@pytest.mark.filterwarnings(
    "ignore:Whole numbers",
    "ignore:The columns of x are nearly",
    "ignore:Columns of X",
)
@parametrize_with_checks(
    [
        estimator(*family)
        for estimator in (Gaussianizer, FlowDensity, FlowOutlierDetector)
        for family in ((), ("gaussian",))
    ]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
