r"""Halley's method for the quantile of a mixture, inside a bracket that it cannot leave.

The root of $g(x) = \Phi^{-1}(F(x)) - z$ is looked for on the exact tails. On that scale $g$ is
nearly straight, and its curvature comes with the evaluation, so a few cubic steps are enough.
"""

from typing import Any

import numpy as np
from keras import ops

from gaussianization.gauss_keras.numerics.mixture import evaluate
from gaussianization.gauss_keras.numerics.normal import at_least, machine_epsilon
from gaussianization.gauss_keras.numerics.tracing import concrete

_MAX_EVALUATIONS = 120


def guarded_search(z: Any, start: Any, lower: Any, upper: Any, *parameters: Any) -> Any:
    """Solve gaussianize(x) = z for lower ≤ x ≤ upper.

    Args:
        z: Normal scores, shape (...).
        start: Where to begin, shape (...).
        lower: Where z(x) is known to be below, shape (...).
        upper: Where it is known to be above, shape (...).
        *parameters: Log-weights, means and log-scales, (K, ...).

    Returns:
        x, shape (...); NaN where the search failed.
    """
    done = ops.logical_not(ops.isfinite(start))
    state = (z, start, lower, upper, ops.full_like(start, np.inf), done)
    if concrete(z) is None:
        # The parameters travel with the state: bodies without closures are traced once.
        state = ops.while_loop(
            _unfinished, _step, (*state, *parameters), maximum_iterations=_MAX_EVALUATIONS
        )
    else:
        state = (*state, *parameters)
        for _ in range(_MAX_EVALUATIONS):
            state = _step(*state)
            if ops.convert_to_numpy(state[5]).all():
                break
    return ops.where(state[5], state[1], np.nan)


def _unfinished(z, x, lower, upper, last_residual, done, *parameters):
    return ops.logical_not(ops.all(done))


def _step(z, x, lower, upper, last_residual, done, *parameters):
    at = evaluate(x, *parameters, anywhere=True)
    slope = ops.exp(at.log_det)
    score = -ops.sum(at.densities * at.u * at.inverse_scales, axis=0) / at.density
    eps = machine_epsilon(z)
    g = at.z - z
    size = ops.abs(g)
    # A point is accepted on the residual that was seen there, never on one foreseen:
    # a narrow component may hide ahead. Half an ulp of x may be all that can be had.
    tolerance = at_least(8.0 * eps * at_least(ops.abs(z), 1.0), 0.5 * eps * ops.abs(x) * slope)
    near = size <= tolerance
    lower = ops.where(g < 0, x, lower)
    upper = ops.where(g > 0, x, upper)
    newton = -g / slope
    # Halley's correction is trusted only where the curve is mild over the step.
    bend = 0.5 * newton * (score + at.z * slope)
    candidate = x + newton / (1.0 + ops.clip(bend, -0.5, 1.0))
    slow = size > 0.5 * last_residual
    kept = (candidate > lower) & (candidate < upper) & ops.logical_not(slow)
    candidate = ops.where(kept, candidate, 0.5 * lower + 0.5 * upper)
    # Rounding may leave no number between the bounds.
    narrow = (candidate <= lower) | (candidate >= upper)
    done = done | near | narrow
    x = ops.where(done, x, candidate)
    return (z, x, lower, upper, ops.where(slow, np.inf, size), done, *parameters)


__all__ = ["guarded_search"]
