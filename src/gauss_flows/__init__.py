"""Gaussianization flows in JAX: turn data into a standard normal, and back."""

# Looked for by name, so that the message can say what to install.
try:
    import equinox  # noqa: F401
    import flowjax  # noqa: F401
    import jax  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError("gauss_flows needs JAX: pip install 'gauss-flows[jax]'") from error

from gauss_flows._version import __version__
from gauss_flows.bijections import (
    MLP,
    ActNorm,
    AffineCoupling,
    BlockChain,
    DeepSigmoidCoupling,
    FixedRotation,
    HouseholderRotation,
    LULinearPermute,
    MixtureGaussianCDF,
    MixtureGaussianCDFCoupling,
    MixtureLogisticCDF,
    MixtureRosenblatt,
    OrthogonalRotation,
    ResidualCoupling,
    ResidualMLP,
    RQSplineCoupling,
    RQSplineMarginal,
    SharedMLP,
    SiluMLP,
)
from gauss_flows.flows import (
    affine_coupling_flow,
    coupling_gaussianization_flow,
    flow_from_blocks,
    forward_with_intermediates,
    gaussianization_flow,
    mixture_coupling_flow,
)
from gauss_flows.rbig import RBIGRecord, fit_rbig, fit_rbig_coupling, warm_start
from gauss_flows.serialization import FlowFileError, load, load_metadata, register_layer, save
from gauss_flows.training import fit_gaussianization_flow

__all__ = [
    "MLP",
    "ActNorm",
    "AffineCoupling",
    "BlockChain",
    "DeepSigmoidCoupling",
    "FixedRotation",
    "FlowFileError",
    "HouseholderRotation",
    "LULinearPermute",
    "MixtureGaussianCDF",
    "MixtureGaussianCDFCoupling",
    "MixtureLogisticCDF",
    "MixtureRosenblatt",
    "OrthogonalRotation",
    "RBIGRecord",
    "RQSplineCoupling",
    "RQSplineMarginal",
    "ResidualCoupling",
    "ResidualMLP",
    "SharedMLP",
    "SiluMLP",
    "__version__",
    "affine_coupling_flow",
    "coupling_gaussianization_flow",
    "fit_gaussianization_flow",
    "fit_rbig",
    "fit_rbig_coupling",
    "flow_from_blocks",
    "forward_with_intermediates",
    "gaussianization_flow",
    "load",
    "load_metadata",
    "mixture_coupling_flow",
    "register_layer",
    "save",
    "warm_start",
]
