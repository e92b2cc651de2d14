"""The mixture close to N(0, 1) that a layer's raw parameters move."""

import math
from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.special import ndtri

# How far one unit of a raw parameter moves the mixture. Adam's step is about the learning
# rate per parameter, so this sets what a given rate does.
GAIN = 4.0

_SPREAD = 0.9
_UNIT_WEIGHT = 0.15


@lru_cache
def base_mixture(n_components: int) -> Float[np.ndarray, "3 K"]:
    """Return the base mixture: components that all differ, of which the widest has unit scale.

    Its mean is 0 and its variance 1 for every K.

    Args:
        n_components: Number of components `K`.

    Returns:
        Log-weights, means and log-scales in float64, shape `(3, K)`.

    Example:
        >>> import numpy as np
        >>> from gaussianization.marginals import base_mixture
        >>> log_weights, means, log_scales = base_mixture(4)
        >>> second_moment = np.exp(log_weights) @ (means**2 + np.exp(2 * log_scales))
        >>> bool(np.isclose(second_moment, 1.0))
        True
    """
    if n_components == 1:
        return np.zeros((3, 1))
    if n_components == 2:
        # One narrower component beside the unit one, balanced about zero.
        offset = 0.3
        scales = np.array([math.sqrt(1.0 - 2.0 * offset**2), 1.0])
        return np.stack([np.log([0.5, 0.5]), np.array([offset, -offset]), np.log(scales)])
    n_spread = n_components - 1
    means = _SPREAD * ndtri((np.arange(n_spread) + 0.5) / n_spread)
    scale = math.sqrt(1.0 - np.mean(means**2))
    log_weights = np.log(np.r_[np.full(n_spread, (1.0 - _UNIT_WEIGHT) / n_spread), _UNIT_WEIGHT])
    log_scales = np.log(np.r_[np.full(n_spread, scale), 1.0])
    return np.stack([log_weights, np.r_[means, 0.0], log_scales])
