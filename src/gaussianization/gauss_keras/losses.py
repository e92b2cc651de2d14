"""The loss of a flow's latents."""

import math
from typing import Any

from keras import ops

from gaussianization.gauss_keras.registration import REGISTER


@REGISTER
def base_nll_loss(y_true: Any, y_pred: Any) -> Any:
    r"""Negative log-density of latents under the standard normal, in nats.

    $$-\log\varphi(z) = \tfrac12 \lVert z \rVert^2 + \tfrac d2 \log 2\pi$$

    A `GaussianizationFlow` compiled with it adds its own log-determinant, so that what Keras
    reports is the full negative log-likelihood $-\log p(x)$.

    Args:
        y_true: Not used: a flow has no targets.
        y_pred: Latents z, shape (batch, d).

    Returns:
        The losses, shape (batch,).

    Example:
        >>> from gaussianization.gauss_keras import base_nll_loss
        >>> [round(float(value), 4) for value in base_nll_loss(None, [[0.0, 0.0]])]
        [1.8379]
    """
    z = ops.convert_to_tensor(y_pred)
    return 0.5 * ops.sum(z * z, axis=-1) + (0.5 * math.log(2.0 * math.pi)) * z.shape[-1]
