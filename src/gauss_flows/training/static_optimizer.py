"""An optax optimizer that compares by what it does rather than by which object it is.

Optax builds optimizers from fresh closures, so two calls of ``optax.adam(1e-3)`` are
unequal and every fit with a new one would compile the training epoch again.
"""

import functools
import types
from collections.abc import Hashable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

_SCALARS = (type(None), bool, int, str, bytes, type)


class StaticOptimizer:
    """A hashable holder for an optimizer, equal to another built in the same way.

    Functions of optax are compared by their code and by what their closures hold. All
    else, a user's own function included, is compared by identity: its globals may have
    changed under the same code.

    Args:
        optimizer: The optax transformation.

    Example:
        >>> StaticOptimizer(optax.adam(1e-3)) == StaticOptimizer(optax.adam(1e-3))
        True
        >>> StaticOptimizer(optax.adam(1e-3)) == StaticOptimizer(optax.adam(1e-2))
        False
    """

    def __init__(self, optimizer: optax.GradientTransformation):
        self.optimizer = optax.with_extra_args_support(optimizer)
        self._structure = _structure(optimizer, ())

    def __hash__(self) -> int:
        return hash(self._structure)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, StaticOptimizer) and self._structure == other._structure

    def describe(self) -> str:
        """The optimizer in words that are the same in another process."""
        return repr(self._structure)


class _Named:
    """A function's code, printed as its name."""

    def __init__(self, function: types.FunctionType):
        self._code = function.__code__
        self._name = f"{function.__module__}.{function.__qualname__}"

    def __hash__(self) -> int:
        return hash(self._code)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Named) and self._code == other._code

    def __repr__(self) -> str:
        return self._name


class _Opaque:
    """An object compared by identity, printed as its name or its type's."""

    def __init__(self, value: object):
        # Held, so that its identity is not given to another object.
        self._value = value

    def __hash__(self) -> int:
        return id(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Opaque) and self._value is other._value

    def __repr__(self) -> str:
        # What has no name of its own, as a function has, goes by its type's.
        kind = type(self._value)
        module = getattr(self._value, "__module__", kind.__module__)
        return f"{module}.{getattr(self._value, '__qualname__', kind.__qualname__)}"


def _structure(value: Any, above: tuple[int, ...]) -> Hashable:
    if id(value) in above:  # a function that refers to itself
        return "above", len(above) - above.index(id(value))
    inner = functools.partial(_structure, above=(*above, id(value)))
    if type(value) in _SCALARS:
        return type(value).__name__, value
    if type(value) is float:
        return "float", repr(value)  # a nan equals itself here
    if isinstance(value, tuple | list):
        return type(value).__name__, tuple(inner(item) for item in value)
    if type(value) is dict:
        return "dict", tuple((repr(name), inner(item)) for name, item in value.items())
    if isinstance(value, jax.Array) and jnp.issubdtype(value.dtype, jax.dtypes.prng_key):
        return "key", inner(jax.random.key_data(value))
    if isinstance(value, np.ndarray | np.generic | jax.Array):
        array = np.asarray(value)
        return "array", str(value.dtype), array.shape, array.tobytes()
    if type(value) is functools.partial:
        return "partial", inner(value.func), inner(value.args), inner(value.keywords)
    if isinstance(value, types.FunctionType) and value.__module__.startswith("optax."):
        cells = tuple(inner(cell.cell_contents) for cell in value.__closure__ or ())
        return _Named(value), cells, inner(value.__defaults__), inner(value.__kwdefaults__)
    return _Opaque(value)
