"""Flows in NumPyro: as a distribution, and as a guide for variational inference."""

# Looked for by name, so that the message can say what to install.
try:
    import numpyro  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "gauss_flows.numpyro needs NumPyro: pip install 'gauss-flows[numpyro]'"
    ) from error

from gauss_flows.numpyro.flow_dist import FlowDist
from gauss_flows.numpyro.flow_guide import FlowGuide
from gauss_flows.numpyro.flow_transform import FlowTransform

__all__ = ["FlowDist", "FlowGuide", "FlowTransform"]
