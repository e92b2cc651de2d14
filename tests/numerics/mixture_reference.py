"""One-dimensional mixtures to fifty digits, from the textbook formulas alone.

Every function takes the floating-point numbers the library was given, as they are, and
normalises the weights itself. Nothing here knows how the library computes.
"""

import mpmath
import numpy as np
from mpmath import mp, mpf
from scipy.special import log_expit, log_ndtr, ndtri_exp

DIGITS = 50


def _gaussian(u):
    """Density, lower and upper tail of the standard normal."""
    root = mpmath.sqrt(2)
    density = mpmath.exp(-u * u / 2) / mpmath.sqrt(2 * mp.pi)
    tail = mpmath.erfc(abs(u) / root) / 2
    return (density, tail, 1 - tail) if u < 0 else (density, 1 - tail, tail)


def _logistic(u):
    """Density, lower and upper tail of the standard logistic."""
    fall = mpmath.exp(-abs(u))
    small, large = fall / (1 + fall), 1 / (1 + fall)
    return (small * large, small, large) if u < 0 else (small * large, large, small)


COMPONENT = {"gaussian": _gaussian, "logistic": _logistic}
LOG_CDF = {"gaussian": log_ndtr, "logistic": log_expit}


def normal_score(lower, upper):
    """Φ⁻¹ of a probability given by both of its tails, and log φ there."""
    log_p = mpmath.log(min(lower, upper))
    if upper == lower:
        z = mpf(0)
    elif log_p > -1e-6 + mpmath.log(0.5):
        z = (upper - lower) * mpmath.sqrt(2 * mp.pi) / 2  # of Φ(z) = lower, near the median
        z = abs(z)
    else:
        z = mpf(-float(ndtri_exp(float(log_p)))) if log_p > -1e12 else mpmath.sqrt(-2 * log_p)
    root = mpmath.sqrt(2)
    for _ in range(60):
        tail = mpmath.erfc(z / root) / 2
        density = mpmath.exp(-z * z / 2) / mpmath.sqrt(2 * mp.pi)
        step = (mpmath.log(tail) - log_p) * tail / density
        z += step
        if abs(step) <= mpf(10) ** (-DIGITS // 2 - 4) * max(abs(z), mpf(10) ** -20):
            break
    else:
        raise RuntimeError("the reference did not converge")
    log_density = -z * z / 2 - mpmath.log(2 * mp.pi) / 2
    return (z if lower > upper else -z), log_density


def evaluate(family: str, x: float, log_weights, means, log_scales) -> dict:
    """z, log_det, log_density, log_cdf and log_survival of one mixture at one point."""
    with mp.workdps(DIGITS):
        groups = [[mpf(float(v)) for v in np.ravel(p)] for p in (log_weights, means, log_scales)]
        return evaluate_exact(family, mpf(float(x)), *groups)


def evaluate_exact(family: str, x, log_weights, means, log_scales) -> dict:
    """The same for mpmath numbers, at the precision in force."""
    weights = [mpmath.exp(v) for v in log_weights]
    total = mpmath.fsum(weights)
    density = lower = upper = mpf(0)
    for weight, mean, log_scale in zip(weights, means, log_scales, strict=True):
        scale = mpmath.exp(log_scale)
        parts = COMPONENT[family]((x - mean) / scale)
        density += weight / total * parts[0] / scale
        lower += weight / total * parts[1]
        upper += weight / total * parts[2]
    z, log_normal = normal_score(lower, upper)
    log_density = mpmath.log(density)
    return {
        "z": z,
        "log_det": log_density - log_normal,
        "log_density": log_density,
        "log_cdf": mpmath.log(lower) if lower < upper else mpmath.log1p(-upper),
        "log_survival": mpmath.log(upper) if upper < lower else mpmath.log1p(-lower),
    }


def approximate_score(family: str, x, log_weights, means, log_scales):
    """z in plain float64 NumPy, to a few digits: to choose points with, never to judge by."""
    u = (x[..., None] - means) / np.exp(log_scales)
    normalised = log_weights - np.logaddexp.reduce(log_weights, axis=-1, keepdims=True)
    tails = [np.logaddexp.reduce(normalised + LOG_CDF[family](s * u), axis=-1) for s in (1, -1)]
    lower, upper = (np.minimum(t, 0) for t in tails)
    return np.where(lower < upper, ndtri_exp(lower), -ndtri_exp(upper))


def points_at_scores(family: str, z, log_weights, means, log_scales):
    """x (float64) whose z is close to the given one: bisection in NumPy."""
    z = np.asarray(z, float)
    width = np.exp(log_scales) * (z[..., None] ** 2 + 50)
    low = np.broadcast_to(np.min(means - width, axis=-1), z.shape).copy()
    high = np.broadcast_to(np.max(means + width, axis=-1), z.shape).copy()
    for _ in range(90):
        middle = 0.5 * low + 0.5 * high
        below = approximate_score(family, middle, log_weights, means, log_scales) < z
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return 0.5 * low + 0.5 * high


def random_mixtures(seed: int, n_mixtures: int, n_components: int):
    """Mixtures of every temper, each array (n_mixtures, n_components), float64.

    Scales from 1e-3 to 1e3 and weights over many orders, means spread over anything from a
    fraction of the scales to thousands of them.
    """
    rng = np.random.default_rng(seed)
    shape = (n_mixtures, n_components)
    spread = 10 ** rng.uniform(-3, 3, (n_mixtures, 1))
    log_scales = np.log(10) * rng.uniform(-3, 3, shape)
    # Every third mixture has scales alike, so that many components matter at one point.
    alike = np.arange(n_mixtures)[:, None] % 3 == 0
    log_scales = np.where(alike, log_scales[:, :1] + 0.5 * rng.normal(size=shape), log_scales)
    log_scales = np.clip(log_scales, np.log(1e-3), np.log(1e3))
    means = spread * rng.normal(size=shape)
    logits = rng.normal(size=shape) * rng.choice([0.3, 2.0, 10.0], (n_mixtures, 1))
    log_weights = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return log_weights, means, log_scales


def gap_mixtures(seed: int, n_mixtures: int, n_components: int = 2):
    """Two modes, the components of each close together, with an empty gap between them."""
    rng = np.random.default_rng(seed)
    shape = (n_mixtures, n_components)
    scale = 10 ** rng.uniform(-3, 0, (n_mixtures, 1))
    side = np.where(np.arange(n_components) % 2 == 0, -1.0, 1.0)
    gap = scale * 10 ** rng.uniform(1, 2.5, (n_mixtures, 1))
    means = side * gap + 0.3 * scale * rng.normal(size=shape)
    log_scales = np.log(scale) + 0.3 * rng.normal(size=shape)
    logits = rng.normal(size=shape) * rng.choice([0.3, 3.0], (n_mixtures, 1))
    log_weights = logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)
    return log_weights, means, log_scales
