"""Points with weights, smeared by isotropic normal noise: the density and its entropy."""

import math

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float
from scipy.special import xlogy

from gauss_flows.datasets._quadrature import settled

# Beyond so many deviations lies less than 1e-18 of a normal's mass.
_REACH = 9
_MOST_TERMS = 1 << 22
_COLUMNS = 8


def log_smoothed(
    x: Float[Array, "*n 2"],
    points: Float[Array, "*n_or_none k 2"],
    log_weights: Float[Array, "*n_or_none k"],
    noise: float,
) -> Float[Array, "*n"]:
    r"""Log-density of a normal mixture with one isotropic deviation.

    $$\log \sum_k w_k \, N(x; c_k, s^2 I)$$

    With the nodes of a quadrature rule for centres this is the density of a smeared curve.

    Args:
        x: Where, of shape (..., 2).
        points: The centres, of shape (k, 2) or (..., k, 2).
        log_weights: Logarithms of their weights, of shape (k,) or (..., k).
        noise: Deviation s.

    Returns:
        The log-densities in nats, of shape (...).
    """
    squares = [(x[..., j, None] - points[..., j]) ** 2 for j in (0, 1)]
    exponent = log_weights - sum(squares) / (2 * noise**2)
    return jax.nn.logsumexp(exponent, axis=-1) - math.log(2 * math.pi * noise**2)


def by_rows(function, x: Float[Array, "*n 2"], terms: int) -> Float[Array, "*n"]:
    """Evaluate a function of points block by block, so that memory stays bounded.

    Args:
        function: From points of shape (rows, 2) to numbers of shape (rows,).
        x: Points of shape (..., 2).
        terms: How many numbers the function holds for each point.

    Returns:
        The numbers, of shape (...).
    """
    rows = x.reshape(-1, 2)
    size = max(1, _MOST_TERMS // terms)
    if len(rows) <= size:
        return function(rows).reshape(x.shape[:-1])
    padded = jnp.pad(rows, ((0, -len(rows) % size), (0, 0)))
    values = jax.lax.map(function, padded.reshape(-1, size, 2)).ravel()
    return values[: len(rows)].reshape(x.shape[:-1])


def smoothed_entropy(
    points: Float[np.ndarray, "k 2"], weights: Float[np.ndarray, " k"], noise: float
) -> float:
    """Entropy of the mixture, by a tensor rule whose panels are one deviation wide.

    On a tensor grid the mixture is a product of two matrices, one for each coordinate. Columns of
    the grid are taken a few at a time, with the centres that reach them.

    Args:
        points: The centres, of shape (k, 2).
        weights: Their weights, of shape (k,), of sum 1.
        noise: Deviation.

    Returns:
        The entropy in nats.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.datasets._smoothed import smoothed_entropy
        >>> entropy = smoothed_entropy(np.zeros((1, 2)), np.ones(1), 0.5)
        >>> print(round(entropy - np.log(2 * np.pi * np.e * 0.25), 9) + 0.0)
        0.0
    """

    def integral(order):
        total = 0.0
        columns = _cells(points[:, 0], noise)
        for start in range(0, len(columns), _COLUMNS):
            block = columns[start : start + _COLUMNS]
            low, high = (block[0] - _REACH) * noise, (block[-1] + 1 + _REACH) * noise
            near = (points[:, 0] >= low) & (points[:, 0] <= high)
            x, x_weights = _rule(block, noise, order)
            y, y_weights = _rule(_cells(points[near, 1], noise), noise, order)
            along_x = _kernel(x, points[near, 0], noise) * weights[near]
            p = along_x @ _kernel(y, points[near, 1], noise).T
            total -= x_weights @ (xlogy(p, p) @ y_weights)
        return float(total)

    return settled(integral)


def _kernel(x, centres, noise):
    u = (x[:, None] - centres) / noise
    return np.exp(-0.5 * u**2) / (math.sqrt(2 * math.pi) * noise)


def _cells(centres, noise):
    """Numbers of the cells, one deviation wide, that lie within reach of a centre."""
    own = np.floor(centres / noise)[:, None]
    return np.unique(own + np.arange(-_REACH, _REACH + 1))


def _rule(cells, noise, order):
    unit, unit_weights = np.polynomial.legendre.leggauss(order)
    nodes = (cells[:, None] + 0.5 + 0.5 * unit) * noise
    weights = np.broadcast_to(0.5 * noise * unit_weights, nodes.shape)
    return nodes.ravel(), weights.ravel()
