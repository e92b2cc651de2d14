"""Rotations among which the best for an affine coupling layer is looked for."""

from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import ArrayLike, Float
from scipy.stats import special_ortho_group

from gauss_flows.affine.arguments import finite_number, real_array
from gauss_flows.bijections.orthogonal import checked_orthogonal
from gauss_flows.rbig.rotations import choose_rotation, derived_seed

CandidateSet = Literal["angles", "random", "pca", "ica"]


def candidates_of(
    x: Float[np.ndarray, "n d"],
    candidates: Any,
    n_candidates: int,
    random_state: int,
) -> Float[np.ndarray, "c d d"]:
    """The rotations that a name, several names or matrices stand for.

    Args:
        x: Data of shape (n, D), which some of them follow.
        candidates: A name, several, matrices or `None`, see `optimal_affine_subspace`.
        n_candidates: How many angles or random rotations.
        random_state: Seed of the random ones.

    Returns:
        Orthogonal matrices of determinant 1, shape (C, D, D).

    Raises:
        ValueError: If a name is unknown or not for D columns, or a matrix is not orthogonal.
    """
    n_dims = x.shape[1]
    if candidates is None:
        candidates = ("angles",) if n_dims == 2 else ("random", "pca", "ica")
    names = [candidates] if isinstance(candidates, str) else candidates
    known = f"among {get_args(CandidateSet)}, or matrices of shape (C, {n_dims}, {n_dims})"
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
        return _given(real_array(candidates, f"candidates {known} and not both"), n_dims)
    if not names:
        raise ValueError(f"Expected candidates {known}; got none.")
    turns: list[np.ndarray] = []
    for name in names:
        if name not in get_args(CandidateSet):
            raise ValueError(f"Expected candidates {known}; got {name!r}.")
        if name == "angles":
            if n_dims != 2:
                raise ValueError(
                    f'Expected two columns for candidates="angles"; got {n_dims}. Use "random", '
                    '"pca", "ica" or matrices of your own.'
                )
            # Half a turn changes the signs of both coordinates, and with them nothing.
            angles = np.pi * np.arange(n_candidates) / n_candidates
            turns += [rotation_matrix(angle) for angle in angles]
        elif name == "random":
            seed = derived_seed(random_state, 0)
            drawn = special_ortho_group.rvs(n_dims, size=n_candidates, random_state=seed)
            turns += list(np.reshape(drawn, (n_candidates, n_dims, n_dims)))
        elif name in ("pca", "ica"):
            # scikit-learn takes seeds of 32 bits.
            layer = choose_rotation(name, x, random_state=random_state % 2**32)
            axes = np.asarray(layer.matrix.tree, np.float64)
            # The axes in their order and in the opposite one: the first are passive.
            turns += [_proper(axes), _proper(axes[::-1])]
    return np.stack([nearest_orthogonal(turn) for turn in turns])


def _given(matrices: np.ndarray, n_dims: int) -> np.ndarray:
    if matrices.ndim == 2:
        matrices = matrices[None]
    if matrices.ndim != 3 or matrices.shape[1:] != (n_dims, n_dims) or len(matrices) == 0:
        raise ValueError(
            f"Expected candidates of shape (C, {n_dims}, {n_dims}); got {matrices.shape}."
        )
    proper = []
    for index, matrix in enumerate(matrices):
        try:
            proper.append(_proper(checked_orthogonal(matrix)))
        except ValueError as error:
            raise ValueError(
                f"Expected orthogonal candidates; got candidate {index}: {error}"
            ) from error
    return np.stack(proper)


def rotation_matrix(angle: Float[ArrayLike, ""]) -> Float[np.ndarray, "2 2"]:
    """The rotation of the plane by an angle.

    Args:
        angle: The angle θ in radians.

    Returns:
        [[cos θ, −sin θ], [sin θ, cos θ]].

    Raises:
        ValueError: If the angle is no finite number.
    """
    angle = finite_number("angle", angle)
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _proper(matrix: np.ndarray) -> np.ndarray:
    """Of determinant 1: the sign of an active coordinate changes no gain."""
    flipped = matrix.copy()
    if np.linalg.det(matrix) < 0:
        flipped[-1] *= -1.0
    return flipped


def nearest_orthogonal(matrix: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """The orthogonal matrix closest to one that has drifted off, by its singular vectors."""
    left, _, right = np.linalg.svd(matrix)
    return left @ right
