"""Factories: which layers in which order. No mathematics."""

from gauss_flows.flows.assemble import (
    flow_from_blocks,
    forward_with_intermediates,
    standard_normal,
)
from gauss_flows.flows.coupling import (
    affine_coupling_flow,
    coupling_gaussianization_flow,
    mixture_coupling_flow,
)
from gauss_flows.flows.diagonal import gaussianization_flow

__all__ = [
    "affine_coupling_flow",
    "coupling_gaussianization_flow",
    "flow_from_blocks",
    "forward_with_intermediates",
    "gaussianization_flow",
    "mixture_coupling_flow",
    "standard_normal",
]
