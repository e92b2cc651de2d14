"""Entropy, total correlation, mutual information and divergence, in nats, with their errors."""

from gauss_flows.information.dependence import (
    conditional_mutual_information,
    dual_total_correlation,
    mutual_information,
    total_correlation,
)
from gauss_flows.information.divergence import kl_divergence
from gauss_flows.information.entropy import entropy, negentropy
from gauss_flows.information.summary import Measures, measures

__all__ = [
    "Measures",
    "conditional_mutual_information",
    "dual_total_correlation",
    "entropy",
    "kl_divergence",
    "measures",
    "mutual_information",
    "negentropy",
    "total_correlation",
]
