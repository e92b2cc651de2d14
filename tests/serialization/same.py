"""What it means that a flow comes back as it was."""

import functools

import jax
import numpy as np

from gauss_flows.serialization import load, save


def same_to_the_bit(first, second):
    assert jax.tree.structure(first) == jax.tree.structure(second)
    for one, other in zip(jax.tree.leaves(first), jax.tree.leaves(second), strict=True):
        if isinstance(one, jax.Array | np.ndarray | np.generic):
            assert type(one) is type(other)
            assert (one.dtype, one.shape) == (other.dtype, other.shape)
            assert np.asarray(one).tobytes() == np.asarray(other).tobytes()
        elif isinstance(one, functools.partial):
            assert (one.func, one.args, one.keywords) == (other.func, other.args, other.keywords)
        else:
            assert isinstance(one, type(other))  # a number of JAX's own comes back a plain one
            assert one == other or (one != one and other != other)


def round_trip(flow, path):
    save(flow, path)
    loaded = load(path)
    same_to_the_bit(flow, loaded)
    return loaded
