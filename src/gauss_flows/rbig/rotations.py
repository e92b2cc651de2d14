"""Choose the rotation of an RBIG layer from the data it is to be applied to."""

from functools import partial
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.rbig.options import check_seed

DataRotation = Literal["pca", "ica", "random", "sliced"]

_MOST_SLICED_ROWS = 4096
_SLICED_STEPS = 40
# Farther out, in units of the quartiles' spread, a row says only that it is far: its size would
# make up the covariance that ICA whitens by.
_FARTHEST = 30.0


def choose_rotation(
    rotation: DataRotation,
    x: Float[ArrayLike, "n d"],
    *,
    random_state: int = 0,
    sample_weight: Float[ArrayLike, " n"] | None = None,
) -> FixedRotation:
    """Find a rotation for data.

    Args:
        rotation: `"pca"`, principal axes; `"ica"`, directions as independent as a rotation makes
            them; `"random"`, uniformly drawn; `"sliced"`, directions along which the data are
            furthest from normal, see `sliced_directions`.
        x: Data of shape (n, d).
        random_state: Seed of what is random.
        sample_weight: Weights of the rows, shape (n,).

    Returns:
        The layer.

    Raises:
        ValueError: If the name is unknown, `x` no table of finite numbers or `random_state` no
            seed.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011), for the first three.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.rotations import choose_rotation
        >>> x = np.random.default_rng(0).normal(size=(500, 3)) * np.array([1.0, 5.0, 2.0])
        >>> print(np.abs(choose_rotation("pca", x).matrix.tree).argmax(1))
        [1 2 0]
    """
    check_rotation(rotation)
    check_seed(random_state)
    x = np.asarray(x, np.float64)
    if rotation == "random":
        return FixedRotation.random(jax.random.key(random_state), x.shape[1])
    if rotation == "pca":
        return FixedRotation.from_data(x, sample_weight=sample_weight)
    if rotation == "ica":
        rows = _brought_in(_resampled(x, sample_weight, len(x), random_state))
        return FixedRotation.ica(rows, random_state)
    rows = _resampled(x, sample_weight, _MOST_SLICED_ROWS, random_state)
    return FixedRotation(sliced_directions(rows, random_state=random_state))


def _brought_in(x: np.ndarray) -> np.ndarray:
    """Clip columns far outside their quartiles, where these have a spread."""
    low, median, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    reach = np.where(high > low, _FARTHEST * (high - low), np.inf)
    return np.clip(x, median - reach, median + reach)


def check_rotation(rotation: str, *others: str) -> None:
    """Refuse an unknown name.

    Args:
        rotation: The name.
        *others: Names allowed beside those of `choose_rotation`.

    Raises:
        ValueError: If it is none of them.
    """
    known = (*others, *get_args(DataRotation))
    if rotation not in known:
        raise ValueError(f"Expected rotation to be one of {known}; got {rotation!r}.")


def derived_seed(random_state: int, index: int) -> int:
    """A seed for one of several draws.

    Args:
        random_state: Seed of them all.
        index: Which of them.

    Returns:
        A seed below 2³².
    """
    return int(np.random.SeedSequence([random_state, index]).generate_state(1)[0])


def sliced_directions(
    x: Float[ArrayLike, "n d"], *, random_state: int = 0, n_steps: int = _SLICED_STEPS
) -> Float[Array, "d d"]:
    r"""Orthonormal directions along which data are far from N(0, 1).

    Ascends the total of the squared Wasserstein distances of all directions,

    $$\sum_j \frac1n \sum_r \bigl(y_{(r)j} - q_r\bigr)^2, \qquad y = x Q^\top, \quad
    q_r = \Phi^{-1}\bigl((r - \tfrac12) / n\bigr),$$

    over orthogonal matrices Q, by gradient steps each brought back by a QR factorisation and kept
    only if the total grows.

    Args:
        x: Data of shape (n, d).
        random_state: Seed of the directions it starts from.
        n_steps: Number of gradient steps.

    Returns:
        The directions as rows, furthest from normal first, shape (d, d).

    Raises:
        ValueError: If `random_state` is no seed.

    References:
        Dai and Seljak, *Sliced Iterative Normalizing Flows* (2021).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.rotations import sliced_directions
        >>> rng = np.random.default_rng(0)
        >>> x = rng.normal(size=(1000, 2))
        >>> x[:, 1] = rng.choice([-1.0, 1.0], 1000)
        >>> bool(abs(sliced_directions(x)[0, 1]) > 0.99)
        True
    """
    check_seed(random_state)
    x = jnp.asarray(x, float)
    start = FixedRotation.random(jax.random.key(random_state), x.shape[1])
    return _ascend(x, start.matrix.tree, n_steps)


def _resampled(x, sample_weight, most_rows, random_state):
    """At most so many rows, in proportion to their weights."""
    if sample_weight is None and len(x) <= most_rows:
        return x
    rng = np.random.default_rng(random_state)
    if sample_weight is None:
        return x[rng.choice(len(x), most_rows, replace=False)]
    share = np.asarray(sample_weight) / np.sum(sample_weight)
    return x[rng.choice(len(x), min(len(x), most_rows), p=share)]


def _distances(q, x, normal):
    """Squared Wasserstein distance of every direction (row of q) from N(0, 1), and its gradient."""
    y = q @ x.T
    order = jnp.argsort(y, axis=1)
    excess = jnp.take_along_axis(y, order, axis=1) - normal
    back = jnp.zeros_like(y).at[jnp.arange(len(q))[:, None], order].set(excess)
    return jnp.mean(excess**2, axis=1), 2 * back @ x / len(x)


@partial(jax.jit, static_argnames="n_steps")
def _ascend(x, start, n_steps):
    n = len(x)
    normal = jax.scipy.special.ndtri((jnp.arange(n, dtype=x.dtype) + 0.5) / n)

    def step(state, _):
        q, distances, gradient, size = state
        # The part of the gradient along the orthogonal matrices, scaled so that size is an angle.
        tangent = (gradient @ q.T - q @ gradient.T) @ q
        tangent /= jnp.maximum(jnp.linalg.norm(tangent, axis=1).max(), jnp.finfo(x.dtype).tiny)
        trial = _orthonormal(q + size * tangent)
        trial_distances, trial_gradient = _distances(trial, x, normal)
        better = trial_distances.sum() > distances.sum()
        kept = jax.tree.map(
            lambda new, old: jnp.where(better, new, old),
            (trial, trial_distances, trial_gradient),
            (q, distances, gradient),
        )
        return (*kept, jnp.where(better, 1.3 * size, 0.5 * size)), None

    state = (start, *_distances(start, x, normal), jnp.asarray(0.5, x.dtype))
    (q, distances, _, _), _ = lax.scan(step, state, None, length=n_steps)
    return q[jnp.argsort(-distances)]


def _orthonormal(matrix):
    """Orthonormal rows close to those given."""
    q, r = jnp.linalg.qr(matrix.T)
    return (q * jnp.where(jnp.diagonal(r) < 0, -1.0, 1.0)).T
