r"""Newton's method for a mixture's quantile, on tails that are held as plain probabilities.

With $p(x)$ the smaller side's tail, reflected so that it is always an upper one, the steps are
for $\mathrm{logit}\,p(x) = \mathrm{logit}\,\Phi(-|z|)$, corrected for how $z$ bends over the logit.
On that scale a mixture is nearly straight in its tails and between its modes alike.
"""

from typing import Any, NamedTuple

from keras import ops

from gaussianization.gauss_keras.numerics.components import component_sums
from gaussianization.gauss_keras.numerics.normal import (
    SQRT_2PI,
    SQRT_HALF,
    dtype_of,
)
from gaussianization.gauss_keras.numerics.tracing import concrete

# Scores up to here have such tails.
PLAIN_LIMIT = {"float32": 9.5, "float64": 32.0}
# How far a component's density and tail are followed, in √2 standard deviations: further out
# they are beneath the rounding of any such tail, and soon subnormal numbers, which are slow.
_REACH = {"float32": 8.0, "float64": 24.0}
# A Newton step of so many of the narrowest scales leaves its square, which is below rounding.
_LAST_STEP = {"float32": 1e-4, "float64": 3e-9}


class TailProblem(NamedTuple):
    """What the steps need of scores z and mixtures: of z's shape, then with an axis K first."""

    side: Any  # of the median, ±1
    log_odds: Any  # of the tail beyond |z|
    bend: Any  # −½ z''/z', of z over the log-odds
    narrowest: Any  # the smallest scale

    half_weights: Any
    means: Any  # reflected
    precisions: Any  # √½ / σ, in units of the reach
    heights: Any  # w / (σ √(2π))


def tail_problem(z: Any, log_weights: Any, means: Any, log_scales: Any) -> TailProblem:
    """Set up the search for the points of scores z; parameters (K, ...) broadcast against z."""
    dtype = dtype_of(z)
    distance = ops.abs(z)
    tail = 0.5 * ops.erfc(SQRT_HALF * distance)
    rest = 1.0 - tail
    # dz / d log-odds, from dp = p (1 − p) d log-odds and dz = −dp / φ(z).
    rate = SQRT_2PI * tail * rest * ops.exp(0.5 * distance * distance)
    side = 1.0 - 2.0 * ops.cast(z < 0, dtype)
    weights, inverse = ops.exp(log_weights), ops.exp(-log_scales)
    return TailProblem(
        side=side,
        log_odds=ops.log(tail / rest),
        bend=0.5 * (2.0 * tail - 1.0 + distance * rate),
        narrowest=ops.exp(ops.min(log_scales, axis=0)),
        half_weights=0.5 * weights,
        means=side * means,
        precisions=(SQRT_HALF / _REACH[dtype]) * inverse,
        heights=(1.0 / SQRT_2PI) * weights * inverse,
    )


def free_steps(
    start: Any, lower: Any, upper: Any, problem: TailProblem, n_steps: int
) -> tuple[Any, Any]:
    """A fixed number of steps, which only the bracket's ends can stop.

    Args:
        start: Where to begin, shape (...).
        lower: The bracket's lower end, shape (...).
        upper: Its upper end, shape (...).
        problem: What is searched for.
        n_steps: Number of steps, at least 1.

    Returns:
        The points reached, and whether they are the root to rounding; shape (...).
    """

    def move(x: Any) -> tuple[Any, Any]:
        step = problem.side * _newton(problem.side * x, problem)
        return ops.clip(x + step, lower, upper), step

    x, step = start, ops.zeros_like(start)
    if concrete(start) is None and tuple(problem.means.shape[1:]) == tuple(start.shape):
        # With a mixture for every element, XLA would work out each anew at every step if they
        # could be fused.
        x, step = ops.fori_loop(0, n_steps, lambda _, state: move(state[0]), (x, step))
    else:
        for _ in range(n_steps):
            x, step = move(x)
    return x, (x > lower) & (x < upper) & _is_last(step, problem)


def _is_last(step, problem):
    # No component is hidden within a step that is short beside the narrowest of them.
    return ops.abs(step) <= _LAST_STEP[dtype_of(step)] * problem.narrowest


def _newton(x, problem):
    """The step that removes the excess of the tail's log-odds at the reflected x."""
    reach = _REACH[dtype_of(x)]

    def tail_and_density(half_weight, mean, precision, height):
        v = ops.hard_tanh((x - mean) * precision)
        return half_weight * ops.erfc(reach * v), height * ops.exp((-reach * reach) * v * v)

    tail, density = component_sums(
        tail_and_density,
        problem.half_weights,
        problem.means,
        problem.precisions,
        problem.heights,
    )
    rest = 1.0 - tail
    excess = ops.log(tail / rest) - problem.log_odds
    return excess * (1.0 + problem.bend * excess) * (tail * rest / density)
