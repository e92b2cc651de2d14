"""From balls of some size to balls of none."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.special import gammaln

# Sizes of bias at the most neighbours, in nats, that are weighed against each other.
_SIZES = np.array([0.0, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0])


class Limit(NamedTuple):
    """What a curve tends to.

    Args:
        value: The limit, in nats.
        variance: Its variance, from the noise of the curve and from what is not known of its bias.
        bias: The bias at the most neighbours that was taken off.
    """

    value: float
    variance: float
    bias: float


def limit_of(
    curve: Float[np.ndarray, " k"],
    noise: Float[np.ndarray, "k k"],
    orders: Int[np.ndarray, " k"],
    n_dims: int,
    *,
    has_edges: bool,
) -> Limit:
    r"""Extrapolate estimates from the k-th neighbours to balls of no size.

    The mean volume of the ball that reaches the k-th neighbour is proportional to k. Where the
    density has edges the bias goes as the radius, and else as its square, so that

    $$v_k = v + b \, \frac{\Gamma(k + s/d)}{\Gamma(k)} + \text{noise}, \qquad s = 1 \text{ or } 2,$$

    with b normal about 0. How large it is the curve itself says: sizes are weighed by the
    likelihood they give it, no bias at all being one of them.

    Args:
        curve: Estimates v_k shape (K,).
        noise: Their covariance, shape (K, K).
        orders: The numbers k of neighbours, shape (K,).
        n_dims: Dimensions d.
        has_edges: Whether the bias goes as the radius.

    Returns:
        The limit.

    References:
        Berrett, Samworth and Yuan, *Efficient Multivariate Entropy Estimation via k-Nearest
        Neighbour Distances* (2019).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information.extrapolation import limit_of
        >>> orders = np.arange(1, 21)
        >>> curve, noise = 1.0 - 0.01 * orders, 1e-6 / np.maximum.outer(orders, orders)
        >>> print(f"{limit_of(curve, noise, orders, 2, has_edges=False).value:.3f}")
        1.000
    """
    shape = _shape(orders, (1 if has_edges else 2) / n_dims)
    logs, values, variances = [], [], []
    for size in _SIZES:
        factor = np.linalg.cholesky(noise + size**2 * np.outer(shape, shape))
        one, seen = np.linalg.solve(factor, np.stack([np.ones_like(curve), curve], axis=1)).T
        precision = one @ one
        value = one @ seen / precision
        left = seen - value * one
        log_volume = np.log(np.diagonal(factor)).sum()
        prior = 0.0 if size == 0 else -np.log(len(_SIZES) - 1)
        logs.append(prior - 0.5 * (left @ left + np.log(precision)) - log_volume)
        values.append(value)
        variances.append(1 / precision)
    weights = np.exp(np.array(logs) - max(logs))
    weights /= weights.sum()
    value = float(weights @ values)
    variance = float(weights @ (variances + (np.array(values) - value) ** 2))
    return Limit(value, variance, float(curve[-1] - value))


def _shape(orders, power):
    logs = gammaln(orders + power) - gammaln(orders)
    return np.exp(logs - logs[-1])
