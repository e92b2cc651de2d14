"""The layers. Each is a flowjax bijection whose `transform` goes from data to latent."""

from gauss_flows.bijections.actnorm import ActNorm
from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.block_chain import BlockChain
from gauss_flows.bijections.conditioners import MLP, ResidualMLP, SharedMLP, SiluMLP
from gauss_flows.bijections.deep_sigmoid import DeepSigmoidCoupling
from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.householder import HouseholderRotation
from gauss_flows.bijections.lu_linear import LULinearPermute
from gauss_flows.bijections.mixture_cdf import MixtureGaussianCDF, MixtureLogisticCDF
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.bijections.mixture_rosenblatt import MixtureRosenblatt
from gauss_flows.bijections.orthogonal import OrthogonalRotation
from gauss_flows.bijections.residual import ResidualCoupling
from gauss_flows.bijections.spline import RQSplineMarginal
from gauss_flows.bijections.spline_coupling import RQSplineCoupling

__all__ = [
    "MLP",
    "ActNorm",
    "AffineCoupling",
    "BlockChain",
    "DeepSigmoidCoupling",
    "FixedRotation",
    "HouseholderRotation",
    "LULinearPermute",
    "MixtureGaussianCDF",
    "MixtureGaussianCDFCoupling",
    "MixtureLogisticCDF",
    "MixtureRosenblatt",
    "OrthogonalRotation",
    "RQSplineCoupling",
    "RQSplineMarginal",
    "ResidualCoupling",
    "ResidualMLP",
    "SharedMLP",
    "SiluMLP",
]
