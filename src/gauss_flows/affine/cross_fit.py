"""What rows gain from a closed-form layer that neither chose nor fitted it."""

from typing import NamedTuple

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float, Int

from gauss_flows.affine.moments import ConditionalMoments, MomentMethod, conditional_moments

N_FOLDS = 5


class Standardized(NamedTuple):
    """Active coordinates after a closed-form layer.

    Args:
        active: The coordinates, shape (n, d_active).
        log_det: Log-determinant of the way there, in nats, shape (n,).
    """

    active: Float[np.ndarray, "n d_active"]
    log_det: Float[np.ndarray, " n"]


def standardized(
    a: Float[np.ndarray, "n d_active"],
    mean: Float[np.ndarray, "n d_active"],
    log_variance: Float[np.ndarray, "n d_active"],
    step: float,
) -> Standardized:
    """Active coordinates moved by a layer of these moments at their rows.

    Args:
        a: The coordinates, shape (n, d_active).
        mean: Means, of the same shape.
        log_variance: Logarithms of the variances, of the same shape.
        step: Share of the way that the layer goes, in (0, 1].
    """
    deviation = np.exp(0.5 * log_variance)
    active = (1.0 - step) * a + step * (a - mean) / deviation
    return Standardized(active, np.log(1.0 - step + step / deviation).sum(1))


def deal_folds(n_rows: int, seed: int) -> Int[np.ndarray, " n"]:
    """The number of each row's fold, 0 to 4, all of equal size but for one row."""
    return np.random.default_rng(seed).permutation(n_rows) % N_FOLDS


def cross_fitted_gain(
    x: Float[Array | np.ndarray, "n d"],
    folds: Int[np.ndarray, " n"],
    rotations: Float[np.ndarray, "k d d"],
    n_active: int,
    *,
    method: MomentMethod,
    step: float,
) -> Float[np.ndarray, " n"]:
    """Log-density that each row gains from a layer made without the row's fold.

    Args:
        x: Data of shape (n, D).
        folds: Number of each row's fold, shape (n,).
        rotations: The rotation chosen without each fold, shape (K, D, D).
        n_active: Number of active coordinates.
        method: How the layer estimates moments.
        step: Share of the way that it goes.

    Returns:
        The gains in nats, shape (n,).
    """
    gains = np.empty(len(x))
    for fold, rotation in enumerate(rotations):
        held = folds == fold
        y = np.asarray(x, np.float64) @ rotation.T
        p, a = y[:, :-n_active], y[:, -n_active:]
        moments = conditional_moments(p[~held], a[~held], method=method)
        # All rows are evaluated, so that every fold has the same shapes to compile for.
        mean, variance = (np.asarray(part, np.float64)[held] for part in _at(moments, p))
        moved = standardized(a[held], mean, np.log(variance), step)
        change = np.sum(a[held] ** 2 - moved.active**2, axis=1)
        gains[held] = moved.log_det + 0.5 * change
    return gains


@eqx.filter_jit
def _at(moments: ConditionalMoments, p: Array) -> tuple[Array, Array]:
    return moments.mean(p), moments.variance(p)
