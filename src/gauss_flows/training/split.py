"""Which rows are trained on and which are held out, for a key."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from jaxtyping import Int, PRNGKeyArray


def split_rows(
    key: PRNGKeyArray, n_rows: int, val_prop: float
) -> tuple[Int[np.ndarray, " n_fitted"], Int[np.ndarray, " n_held_out"]]:
    """The rows that ``fit_gaussianization_flow`` fits with a key, and those it holds out.

    Args:
        key: The key that is given to the trainer.
        n_rows: Number of rows. Rows without weight are none: the trainer leaves them out first.
        val_prop: Share of the rows held out, rounded to whole rows; one row at least is fitted.

    Returns:
        Numbers of the rows fitted, of shape (n_fitted,) and in the trainer's order, and of those
        held out, of shape (n_held_out,), which may be 0.

    Raises:
        ValueError: If the key is no jax random key, ``n_rows`` below 1 or ``val_prop`` not in
            [0, 1).

    Example:
        >>> import jax.random as jr
        >>> from gauss_flows.training import split_rows
        >>> fitted, held_out = split_rows(jr.key(0), 10, 0.2)
        >>> len(fitted), len(held_out), sorted({*fitted.tolist(), *held_out.tolist()})
        (8, 2, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9])
    """
    if not isinstance(val_prop, int | float) or not 0 <= val_prop < 1:
        raise ValueError(f"Expected val_prop in [0, 1); got {val_prop!r}.")
    if n_rows < 1:
        raise ValueError(f"Expected n_rows to be at least 1; got {n_rows}.")
    split_seed, _ = seeds_of(key)
    n_fitted = count_fitted(n_rows, val_prop)
    order = np.arange(n_rows)
    if n_fitted < n_rows:
        order = np.random.default_rng(split_seed).permutation(n_rows)
    return order[:n_fitted], order[n_fitted:]


def count_fitted(n_rows: int, val_prop: float) -> int:
    """How many rows are fitted where a share of them is held out.

    Args:
        n_rows: Number of rows.
        val_prop: The share.

    Returns:
        The number, at least 1.
    """
    return max(n_rows - round(val_prop * n_rows), 1)


def seeds_of(key: PRNGKeyArray) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Two seeds for numpy, for the split and for the shuffles.

    Args:
        key: A jax random key, of the new style or the old.

    Returns:
        The seeds.

    Raises:
        ValueError: If it is not one key.
    """
    if not eqx.is_array(key):
        raise ValueError(f"Expected a jax random key; got {key!r}.")
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        key = jr.key_data(key)
    words = np.asarray(key)
    if words.dtype != np.uint32 or words.ndim != 1:
        raise ValueError(f"Expected one jax random key; got {key.dtype}{key.shape}.")
    seed = tuple(int(word) for word in words)
    return (*seed, 0), (*seed, 1)
