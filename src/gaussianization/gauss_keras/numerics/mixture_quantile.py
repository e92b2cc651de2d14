r"""The quantile of a mixture at a normal score: free Newton steps, then steps inside a bracket.

The root of $\Phi^{-1}(F(x)) = z$ lies between the smallest and the largest of the components' own
quantiles at $z$. Most elements arrive in a few Newton steps on a scale where the curve is nearly
straight, which is all that they cost; those that are left take more, inside the bracket.
"""

import math
from typing import Any

import keras
import numpy as np
from keras import ops

from gaussianization.gauss_keras.numerics.components import component_sums
from gaussianization.gauss_keras.numerics.guarded_search import guarded_search
from gaussianization.gauss_keras.numerics.normal import dtype_of, machine_epsilon
from gaussianization.gauss_keras.numerics.tail_steps import PLAIN_LIMIT, free_steps, tail_problem
from gaussianization.gauss_keras.numerics.tracing import concrete

_FREE_STEPS = {"float32": 5, "float64": 6}
# A long batch that shares one mixture starts from a table, scores this far out and this close.
_TABULATED_BATCH = 1024
_TABLE_LIMIT = 5.0
_PER_SCORE = 16.0
_FEW_STEPS = 2
# A compiled program goes on with this share of the elements at a time, or with so many.
_SHARE_LEFT = 32
_LEAST_ROOM = 256


def mixture_quantile(z: Any, log_weights: Any, means: Any, log_scales: Any) -> Any:
    """Solve gaussianize(x) = z; parameters (K, ...) broadcast against z of shape (...).

    Returns:
        x of z's shape, NaN where the search failed.
    """
    parameters = (log_weights, means, log_scales)
    shape = z.shape
    n_steps = _FREE_STEPS[dtype_of(z)]
    shared = len(shape) == 2 and all(len(p.shape) == 3 and p.shape[1] == 1 for p in parameters)
    if shared and keras.backend.backend() == "jax":
        # XLA's CPU compiler vectorises along the last axis, which had better be the long one.
        turned = [ops.transpose(part, (0, 2, 1)) for part in parameters]
        return ops.transpose(_search(ops.transpose(z), None, n_steps, turned))
    if shared and shape[0] is not None and shape[0] >= _TABULATED_BATCH:
        return _search(z, _tabulated(z, parameters), _FEW_STEPS, parameters)
    return _search(z, None, n_steps, parameters)


def _tabulated(z, parameters):
    """The quantile interpolated between its values on a grid of scores, for a shared mixture."""
    steps = int(2 * _TABLE_LIMIT * _PER_SCORE)
    scores = np.linspace(-_TABLE_LIMIT, _TABLE_LIMIT, steps + 1).reshape(-1, 1)
    scores = ops.broadcast_to(
        ops.convert_to_tensor(scores, dtype=dtype_of(z)), (steps + 1, z.shape[1])
    )
    table = _search(scores, None, _FREE_STEPS[dtype_of(z)], parameters)
    position = (ops.clip(z, -_TABLE_LIMIT, _TABLE_LIMIT) + _TABLE_LIMIT) * _PER_SCORE
    cell = ops.cast(position, "int32")
    cell = ops.where(cell < steps, cell, steps - 1)
    left = ops.take_along_axis(table, cell, axis=0)
    right = ops.take_along_axis(table, cell + 1, axis=0)
    # Beyond the table, its last step goes on.
    return left + (right - left) * ((z + _TABLE_LIMIT) * _PER_SCORE - ops.cast(cell, dtype_of(z)))


def _search(z, start, n_steps, parameters):
    mean, lower, upper = _start(z, *parameters)
    start = mean if start is None else ops.clip(start, lower, upper)
    x, arrived = free_steps(start, lower, upper, tail_problem(z, *parameters), n_steps)
    plain = ops.abs(z) <= PLAIN_LIMIT[dtype_of(z)]
    pending = ops.logical_not(plain & arrived)
    # Where the tails are no plain numbers, the steps went nowhere.
    state = (z, ops.where(plain, x, mean), lower, upper)
    known = concrete(pending)
    if known is None:
        return _finish_compiled(pending, x, state, parameters)
    if keras.backend.backend() == "jax":
        # It compiles an operation anew for every shape: here none may depend on the values.
        return ops.where(pending, guarded_search(*state, *parameters), x) if known.any() else x
    return _finish_eager(known, x, state, parameters)


def _start(z, log_weights, means, log_scales):
    """A first guess, and the bracket, with room for the rounding of its own ends."""
    scales = ops.exp(log_scales)
    quantiles = means + scales * z
    lower, upper = ops.min(quantiles, axis=0), ops.max(quantiles, axis=0)
    distance = ops.abs(z)
    largest = ops.abs(lower) + ops.abs(upper) + ops.max(scales, axis=0) * distance
    rounding = 8.0 * machine_epsilon(z) * largest
    (mean,) = component_sums(lambda w, q: (ops.exp(w) * q,), log_weights, quantiles)
    lower, upper = lower - rounding, upper + rounding
    return ops.clip(mean, lower, upper), lower, upper


def _finish_eager(pending, x, state, parameters):
    """Where every operation runs at once, only what has not arrived goes on."""
    left = np.flatnonzero(pending)
    if left.size == 0:
        return x
    shape = pending.shape
    found = np.array(ops.convert_to_numpy(x)).ravel()
    state = [_take(part, shape, left, axis=0) for part in state]
    own = [_take(part, shape, left, axis=1) for part in parameters]
    found[left] = ops.convert_to_numpy(guarded_search(*state, *own))
    return ops.reshape(ops.convert_to_tensor(found, dtype=dtype_of(x)), shape)


def _finish_compiled(pending, x, state, parameters):
    """Inside a compiled program: those left are gathered, so many at a time."""
    shape = tuple(x.shape)
    if None in shape:
        return ops.where(pending, guarded_search(*state, *parameters), x)
    size = math.prod(shape)
    room = min(size, max(_LEAST_ROOM, size // _SHARE_LEFT))

    def unfinished(x, left):
        return ops.any(left)

    def some(x, left):
        place = ops.cumsum(ops.cast(left, "int32")) - 1
        taken = left & (place < room)
        slot = ops.where(taken, place, room)
        # The last slot collects all others; empty slots hold the first element, again and again.
        counting = ops.arange(size, dtype="int32")
        here = ops.scatter(ops.expand_dims(slot, 1), counting, (room + 1,))[:room]
        few = [_take(part, shape, here, axis=0) for part in state]
        own = [_take(part, shape, here, axis=1) for part in parameters]
        found = guarded_search(*few, *own)
        return ops.scatter_update(x, ops.expand_dims(here, 1), found), left & ~taken

    flat = (ops.reshape(x, (size,)), ops.reshape(pending, (size,)))
    x, _ = ops.while_loop(unfinished, some, flat)
    return ops.reshape(x, shape)


def _take(array, shape, index, *, axis):
    """Elements of an array that broadcasts against ``shape``, by their flat place there."""
    own = tuple(int(size) for size in array.shape[axis:])
    size = math.prod(own)
    if own != tuple(shape):
        places = np.broadcast_to(np.arange(size).reshape(own), shape).ravel()
        known = isinstance(index, np.ndarray)
        index = places[index] if known else ops.take(places.astype("int32"), index)
    flat = ops.reshape(array, (*array.shape[:axis], size))
    return ops.take(flat, index, axis=axis)
