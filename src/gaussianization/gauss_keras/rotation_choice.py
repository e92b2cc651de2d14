"""Rotations chosen from data: principal axes, chance, or the least normal directions."""

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np
from jaxtyping import Float

from gaussianization.gauss_keras.numerics.orthogonal import principal_axes, random_rotation

Rotation = Literal["pca", "random", "search", "fit"]

_N_CANDIDATES = 200
# Columns that are fitted to choose among the best rotations.
_N_FITTED = 40
_N_ROWS = 5000


def check_rotation(rotation: str, *others: str) -> None:
    """Refuse what is no choice of rotation.

    Raises:
        ValueError: If it is none of the choices.
    """
    choices = (*get_args(Rotation), *others)
    if rotation not in choices:
        raise ValueError(
            f"Expected rotation to be one of {choices}. Received: rotation={rotation!r}"
        )


def choose_rotation(
    rotation: Rotation,
    x: Float[np.ndarray, "n d"],
    rng: np.random.Generator,
    log_likelihoods: Callable[[np.ndarray], np.ndarray],
) -> Float[np.ndarray, "d d"]:
    """An orthogonal matrix Q for z = Q x.

    Args:
        rotation: ``"pca"``, the principal axes; ``"random"``, Haar; ``"search"``, of many random
            rotations and the principal axes the one whose coordinates are least normal, since
            it leaves the marginals most to do; ``"fit"``, of the best of several such searches
            the one whose fitted marginals have the highest likelihood.
        x: Rows, shape (n, d).
        rng: Source of chance.
        log_likelihoods: The mean log-likelihood of each column's fit.

    Returns:
        Q, shape (d, d).
    """
    if rotation == "pca":
        return principal_axes(x)
    if rotation == "random":
        return random_rotation(x.shape[1], rng)
    rows = x if len(x) <= _N_ROWS else x[rng.choice(len(x), _N_ROWS, replace=False)]
    others = [random_rotation(x.shape[1], rng) for _ in range(_N_CANDIDATES)]
    candidates = [principal_axes(x), *others]
    if rotation == "search":
        return _least_normal(rows, candidates)
    n_groups = max(1, _N_FITTED // x.shape[1])
    best = [_least_normal(rows, candidates[first::n_groups]) for first in range(n_groups)]
    values = log_likelihoods(np.concatenate([x @ matrix.T for matrix in best], axis=1))
    return best[int(np.argmax(values.reshape(n_groups, -1).sum(axis=1)))]


def _least_normal(x: np.ndarray, candidates: list[np.ndarray]) -> np.ndarray:
    return max(candidates, key=lambda matrix: _negentropy(x @ matrix.T))


def _negentropy(x: np.ndarray) -> float:
    """Sum of the columns' negentropies, up to what a rotation does not change (Vasicek 1976)."""
    ordered = np.sort(x, axis=0)
    # Wide spacings: what only a few rows show, a marginal fit had better not learn.
    m = max(1, min(len(ordered) // 2 - 1, round(2 * np.sqrt(len(ordered)))))
    spacings = np.maximum(ordered[2 * m :] - ordered[: -2 * m], np.finfo(float).tiny)
    return -float(np.mean(np.log(spacings), axis=0).sum())
