"""scikit-learn's own checks of an estimator."""

import pytest
from sklearn.utils.estimator_checks import parametrize_with_checks

from gauss_flows.estimators import FlowDensity, FlowOutlierDetector, Gaussianizer


# One Gaussian: the checks are of the face, and fit a hundred times.
@pytest.mark.filterwarnings("ignore:Whole numbers", "ignore:The columns of x are nearly")
@parametrize_with_checks(
    [Gaussianizer("gaussian"), FlowDensity("gaussian"), FlowOutlierDetector("gaussian")]
)
def test_scikit_learns_checks(estimator, check):
    check(estimator)
