"""Every exported layer with random weights, never the identity, and no default arguments."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from gaussianization import gauss_keras as gk
from gaussianization.gauss_keras import Bijector

N_DIMS = 3
CONDITION_DIM = 2
MASK = [True, False, True]
# Frames of layers, which are none themselves.
ABSTRACT = {"Bijector", "CouplingBijector"}


class Entry(NamedTuple):
    """One layer to test: its exported name, how it is made, and its condition's width."""

    name: str
    make: Callable[..., Bijector]
    condition_dim: int | None = None
    variant: str = ""

    @property
    def label(self) -> str:
        """What the test calls it."""
        return f"{self.name}-{self.variant}" if self.variant else self.name


def randomised(layer: Bijector, seed: int = 0) -> Bijector:
    """The layer, built and with random trainable weights."""
    if not layer.built:
        layer.build((None, N_DIMS))
    rng = np.random.default_rng(seed)
    for weight in layer.trainable_variables:
        # The same numbers on every backend; of reflections only directions matter.
        weight.assign(0.2 * rng.normal(size=tuple(weight.shape)))
    return layer


def _coupling(name, **options):
    def make(dtype=None):
        return getattr(gk, name)(MASK, hidden=(5,), dtype=dtype, **options)

    return make


def _mixture_coupling(conditioner):
    def make(dtype=None):
        return gk.MixtureCDFCoupling(
            [False, True, False],
            conditioner(2, 2, dtype=dtype),
            num_components=2,
            log_scale_clamp=gk.sigmoid_log_scale_clamp(-2.0, 1.5),
            dtype=dtype,
        )

    return make


def _haar(dtype=None):
    return gk.FixedOrtho.random_haar(N_DIMS, seed=4, dtype=dtype)


def _shared(*sizes, **kwargs):
    return gk.make_shared_mlp_conditioner(*sizes, hidden=(5,), **kwargs)


def _residual(*sizes, **kwargs):
    return gk.make_residual_conditioner(*sizes, hidden_width=5, **kwargs)


REGISTRY = (
    Entry("ActNorm", lambda dtype=None: gk.ActNorm(dtype=dtype)),
    Entry("AffineCoupling", _coupling("AffineCoupling", max_log_scale=0.3)),
    Entry("FixedOrtho", _haar),
    Entry("Householder", lambda dtype=None: gk.Householder(2, seed=3, dtype=dtype)),
    Entry(
        "MixtureCDFCoupling",
        _coupling(
            "MixtureCDFCoupling",
            num_components=3,
            condition_dim=CONDITION_DIM,
            log_scale_clamp=gk.tanh_log_scale_clamp(2.0),
        ),
        CONDITION_DIM,
    ),
    Entry("MixtureCDFCoupling", _mixture_coupling(_shared), None, "shared"),
    Entry("MixtureCDFCoupling", _mixture_coupling(_residual), None, "residual"),
    Entry(
        "MixtureCDFGaussianization",
        lambda dtype=None: gk.MixtureCDFGaussianization(3, dtype=dtype),
    ),
    Entry(
        "RQSplineCoupling",
        _coupling("RQSplineCoupling", num_bins=3, interval=2.5, condition_dim=CONDITION_DIM),
        CONDITION_DIM,
    ),
)
