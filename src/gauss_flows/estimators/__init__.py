"""scikit-learn estimators: a flow for whoever has a table."""

from gauss_flows.estimators.density import FlowDensity
from gauss_flows.estimators.gaussianizer import Gaussianizer
from gauss_flows.estimators.outliers import FlowOutlierDetector

__all__ = ["FlowDensity", "FlowOutlierDetector", "Gaussianizer"]
