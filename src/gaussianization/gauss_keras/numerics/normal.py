r"""The standard normal without a clip: tails and quantiles of log-probabilities.

Written for backends that run one operation after the other, where what counts is how many there
are: the backends' own `erf` and `erfc` do most of the work.
"""

import math
from typing import Any

import numpy as np
from keras import backend, ops

SQRT_2PI = math.sqrt(2.0 * math.pi)
LOG_SQRT_2PI = math.log(SQRT_2PI)
SQRT_HALF = math.sqrt(0.5)

CENTRAL_HALF_WIDTH = 0.425

# Up to here the scaled tail is erfc's, beyond the asymptotic series is exact to rounding.
_SERIES_FROM = {"float32": 8.0, "float64": 26.0}
_SERIES = (1.0, -1.0, 3.0, -15.0, 105.0)
# Hastings' rational approximation 26.2.23: within 4.5e-4 of the quantile in every tail. By
# falling powers of t = √(−2 log p): the numerator from t², the denominator from t³.
_HASTINGS = ((0.010328, 0.802853, 2.515517), (0.001308, 0.189269, 1.432788, 1.0))
# Newton's steps from there; each squares an error of 4.5e-4.
POLISHES = {"float32": 1, "float64": 2}


def dtype_of(x: Any) -> str:
    """The name of a tensor's dtype: float32 or float64."""
    name = backend.standardize_dtype(x.dtype)
    if name not in POLISHES:
        raise ValueError(f"Expected numbers in float32 or float64. Received: dtype={name}")
    return name


def machine_epsilon(x: Any) -> float:
    """The spacing of floating-point numbers at 1 in the dtype of ``x``."""
    return float(np.finfo(dtype_of(x)).eps)


def largest_distance(x: Any) -> float:
    """The distance up to which squares, and so log-densities, are held: 2⁶⁰ in float32."""
    return 2.0 ** (int(np.finfo(dtype_of(x)).maxexp) // 2 - 4)


def at_most(x: Any, bound: Any) -> Any:
    """The smaller of two, element by element; `ops.minimum` rounds to float32 on PyTorch."""
    return ops.where(x > bound, ops.convert_to_tensor(bound, dtype=dtype_of(x)), x)


def at_least(x: Any, bound: Any) -> Any:
    """The larger of two, element by element; `ops.maximum` rounds to float32 on PyTorch."""
    return ops.where(x < bound, ops.convert_to_tensor(bound, dtype=dtype_of(x)), x)


def polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    """Evaluate a polynomial, lowest power first, by Horner's rule."""
    total = coefficients[-1] * x + coefficients[-2]
    for coefficient in coefficients[-3::-1]:
        total = total * x + coefficient
    return total


def scaled_tail(u: Any) -> Any:
    r"""The normal's tail with its exponential taken out, $S(u) = \Phi(-u)\,e^{u^2/2}$.

    Args:
        u: Distances from the centre, in standard deviations, none negative. Any shape.

    Returns:
        ``S(u)``, of the same shape: ½ at 0, falling as 1/(u√2π). Where u² / 2 loses digits, so
        does its exponential: the relative error is about u² / 2 units in the last place up to
        u = 8 in float32 and 26 in float64, and a few units beyond.
    """
    switch = _SERIES_FROM[dtype_of(u)]
    inner = at_most(u, switch)
    near = ops.erfc(SQRT_HALF * inner) * ops.exp(0.5 * inner * inner) * 0.5
    inverse = 1.0 / at_least(at_most(u, largest_distance(u)), switch)
    series = polynomial(_SERIES, inverse * inverse) * inverse * (1.0 / SQRT_2PI)
    return ops.where(u < switch, near, series)


def rough_quantile(log_p: Any) -> Any:
    r"""The quantile of a tail's log-probability, $-\Phi^{-1}(p)$ for p ≤ ½, to 4.5e-4.

    References:
        Hastings (1955), *Approximations for Digital Computers*, sheet 68.
    """
    t = ops.sqrt(-2.0 * log_p)
    # By powers of 1/t no power overflows.
    inverse = 1.0 / t
    numerator, denominator = (polynomial(part, inverse) for part in _HASTINGS)
    return t - inverse * numerator / denominator


def quantile_from_log_tail(log_p: Any) -> Any:
    r"""The distance at which the normal's tail has a given log-probability.

    Solves $\log\Phi(-z) = \log p$ by Newton's method.

    Args:
        log_p: Log-probability of one tail, below log ½. Any shape.

    Returns:
        ``z``, of the same shape and positive, for any finite ``log_p``.
    """
    z = rough_quantile(log_p)
    for _ in range(POLISHES[dtype_of(log_p)]):
        scaled = scaled_tail(z)
        z = z + (ops.log(scaled) - 0.5 * z * z - log_p) * scaled * SQRT_2PI
    return z


def standard_normal_log_density(z: Any) -> Any:
    r"""The standard normal log-density $-z^2/2 - \log\sqrt{2\pi}$, in nats."""
    return -0.5 * z * z - LOG_SQRT_2PI
