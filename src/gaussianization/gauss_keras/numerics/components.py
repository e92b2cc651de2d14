"""Sums over the components of mixtures, in the form that each backend is fast at."""

from collections.abc import Callable
from typing import Any

import keras
from keras import ops

# XLA's CPU compiler runs a reduction over a leading axis element by element, ten times slower
# than the same sum written out; written-out sums of many terms take long to compile.
_WRITTEN_OUT = 16


def component_sums(function: Callable[..., tuple[Any, ...]], *parts: Any) -> tuple[Any, ...]:
    """Sum what a function makes of each component.

    Args:
        function: Of one component's arrays, shape (...), or of all, shape (K, ...), elementwise.
        *parts: Arrays of shape (K, ...).

    Returns:
        The sum over the components of each of the function's results, shape (...).
    """
    n_components = parts[0].shape[0]
    if keras.backend.backend() == "jax" and n_components <= _WRITTEN_OUT:
        terms = [function(*(part[k] for part in parts)) for k in range(n_components)]
        return tuple(sum(column[1:], start=column[0]) for column in zip(*terms, strict=True))
    return tuple(ops.sum(result, axis=0) for result in function(*parts))
