"""Gaussianization flows in Keras 3, on its JAX, TensorFlow and PyTorch backends."""

# Looked for by name, so that the message can say what to install.
try:
    import keras as _keras  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError(
        "gaussianization.gauss_keras needs Keras: pip install 'gauss-flows[keras]', and one of "
        "its backends."
    ) from error

from gaussianization.gauss_keras.bijectors import (
    ActNorm,
    AffineCoupling,
    Bijector,
    FixedOrtho,
    GaussianizationFlow,
    Householder,
    MixtureCDFCoupling,
    MixtureCDFGaussianization,
    RQSplineCoupling,
    default_half_mask,
    make_mlp_conditioner,
    make_residual_conditioner,
    make_shared_mlp_conditioner,
    sigmoid_log_scale_clamp,
    tanh_log_scale_clamp,
)
from gaussianization.gauss_keras.factories import make_coupling_flow, make_gaussianization_flow
from gaussianization.gauss_keras.losses import base_nll_loss
from gaussianization.gauss_keras.mixtures import MixtureOfGaussians
from gaussianization.gauss_keras.warm_start import initialize_flow_from_ig

__all__ = [
    "ActNorm",
    "AffineCoupling",
    "Bijector",
    "FixedOrtho",
    "GaussianizationFlow",
    "Householder",
    "MixtureCDFCoupling",
    "MixtureCDFGaussianization",
    "MixtureOfGaussians",
    "RQSplineCoupling",
    "base_nll_loss",
    "default_half_mask",
    "initialize_flow_from_ig",
    "make_coupling_flow",
    "make_gaussianization_flow",
    "make_mlp_conditioner",
    "make_residual_conditioner",
    "make_shared_mlp_conditioner",
    "sigmoid_log_scale_clamp",
    "tanh_log_scale_clamp",
]
