"""Invertible layers with exact log-determinants, and the flow that stacks them."""

from gaussianization.gauss_keras.bijectors.actnorm import ActNorm
from gaussianization.gauss_keras.bijectors.affine_coupling import AffineCoupling
from gaussianization.gauss_keras.bijectors.base import Bijector
from gaussianization.gauss_keras.bijectors.clamps import (
    sigmoid_log_scale_clamp,
    tanh_log_scale_clamp,
)
from gaussianization.gauss_keras.bijectors.conditioners import (
    make_mlp_conditioner,
    make_residual_conditioner,
    make_shared_mlp_conditioner,
)
from gaussianization.gauss_keras.bijectors.coupling import CouplingBijector, default_half_mask
from gaussianization.gauss_keras.bijectors.flow import GaussianizationFlow
from gaussianization.gauss_keras.bijectors.marginal import MixtureCDFGaussianization
from gaussianization.gauss_keras.bijectors.mixture_coupling import MixtureCDFCoupling
from gaussianization.gauss_keras.bijectors.rotation import FixedOrtho, Householder
from gaussianization.gauss_keras.bijectors.spline_coupling import RQSplineCoupling

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Bijector",
    "CouplingBijector",
    "FixedOrtho",
    "GaussianizationFlow",
    "Householder",
    "MixtureCDFCoupling",
    "MixtureCDFGaussianization",
    "RQSplineCoupling",
    "default_half_mask",
    "make_mlp_conditioner",
    "make_residual_conditioner",
    "make_shared_mlp_conditioner",
    "sigmoid_log_scale_clamp",
    "tanh_log_scale_clamp",
]
