"""The rotation at which one affine coupling layer gains most."""

from collections.abc import Sequence
from typing import Literal, NamedTuple, get_args

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.linalg import expm
from scipy.stats import special_ortho_group

from gauss_flows.affine.gain import affine_gain, check_n_active
from gauss_flows.affine.moments import MomentMethod, conditional_moments
from gauss_flows.bijections.orthogonal import checked_orthogonal
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.checks import check_finite_table
from gauss_flows.rbig.options import check_count, check_seed
from gauss_flows.rbig.rotations import choose_rotation, derived_seed

CandidateSet = Literal["angles", "random", "pca", "ica"]

_FIRST_ANGLE = 0.2  # radians
_LEAST_ANGLE = 1e-3
_GROWTH, _SHRINKAGE = 1.5, 0.4


class AffineSubspace(NamedTuple):
    """Where an affine coupling layer gains most, as far as was looked.

    Args:
        rotation: Orthogonal matrix Q of determinant 1, shape (D, D): y = Q x, passive coordinates
            first. It is one of many: rotations among the passive coordinates change nothing.
        gain: Estimated Δ at it, in nats. The largest of many estimates is too large on average;
            for an honest figure estimate it again on rows that took no part.
        candidates: The candidates, shape (C, D, D).
        candidate_gains: Their estimated gains, shape (C,).
    """

    rotation: Float[np.ndarray, "d d"]
    gain: Estimate
    candidates: Float[np.ndarray, "c d d"]
    candidate_gains: Float[np.ndarray, " c"]


def optimal_affine_subspace(
    x: Float[ArrayLike, "n d"],
    n_active: int,
    *,
    candidates: CandidateSet | Sequence[CandidateSet] | Float[ArrayLike, "c d d"] | None = None,
    n_candidates: int = 32,
    n_starts: int | None = None,
    max_steps: int = 40,
    method: MomentMethod = "auto",
    random_state: int = 0,
) -> AffineSubspace:
    r"""Find the rotation at which one affine coupling layer gains most (Algorithm 1, and beyond).

    $$\hat Q = \arg\max_{Q \in SO(D)} \Delta(Q), \qquad
    \Delta(Q) = \tfrac12 \Bigl[\operatorname{E}\|a\|^2 - D_A -
    \sum_i \operatorname{E} \log \sigma_i^2(p)\Bigr], \quad \binom{p}{a} = Q x.$$

    The candidates are compared first, as the paper does (its step 7 lacks the mean over rows).
    Then the best of them climb on SO(D), which the paper leaves open. With the best moments,
    the gradient of Δ is that of the likelihood gain with the moments held,
    $G(Q) = \tfrac12 \operatorname{E} \bigl[\|a\|^2 - \sum_i (a_i - m_i(p))^2 / \sigma_i^2(p) -
    \log \sigma_i^2(p)\bigr]$, since these are stationary in $m$ and $\sigma$. Each step turns by
    $Q \leftarrow e^{\eta A} Q$ with the skew matrix $A = M - M^\top$, $M = \operatorname{E}\,
    (\partial G / \partial y)\, y^\top$, fits the moments again and is kept if Δ has grown.

    Args:
        x: Data of shape (n, D).
        n_active: Number of active coordinates, 1 to D − 1.
        candidates: ``"angles"`` (D = 2), ``"random"``, ``"pca"`` or ``"ica"``, several of these,
            or orthogonal matrices of shape (C, D, D). By default angles for D = 2, else
            all the others.
        n_candidates: How many angles or random rotations.
        n_starts: From how many of the best candidates to climb; 0 for none, as in the paper. By
            default 1 for D = 2, else 4.
        max_steps: Most steps from each.
        method: How to estimate the moments, see `conditional_moments`. What JAX cannot evaluate
            does not climb.
        random_state: Seed of what is random.

    Returns:
        The best rotation found, its gain, and the candidates with theirs.

    Raises:
        ValueError: If the data are no table of finite numbers, too few for the method, or an
            option is out of range; if a candidate is not orthogonal.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Algorithm 1 and Eq. 23.

    Example:
        >>> import jax.random as jr
        >>> import numpy as np
        >>> from gauss_flows.affine import optimal_affine_subspace
        >>> from gauss_flows.datasets import TwoGaussians
        >>> best = optimal_affine_subspace(TwoGaussians().sample(jr.key(0), 2048), 1)
        >>> bool(abs(best.gain.value - 0.879) < 0.05)
        True
    """
    table = check_finite_table(x)
    n_dims = table.shape[1]
    check_n_active(n_active, n_dims)
    check_count("n_candidates", n_candidates)
    check_seed(random_state)
    for name, value in (("n_starts", n_starts), ("max_steps", max_steps)):
        if value is not None and (isinstance(value, bool) or int(value) != value or value < 0):
            raise ValueError(f"Expected {name} to be a whole number, 0 or more; got {value}.")
    turns = _candidates(table, candidates, n_candidates, random_state)
    options = _Search(table, n_active, method, random_state)
    gains = [options.gain(turn) for turn in turns]
    values = np.array([gain.value for gain in gains])
    order = np.argsort(-values)
    best, best_gain = turns[order[0]], gains[order[0]]
    starts = (1 if n_dims == 2 else 4) if n_starts is None else n_starts
    for index in order[: starts if method != "boosting" else 0]:
        turn, gain = options.climb(turns[index], gains[index], max_steps)
        if gain.value > best_gain.value:
            best, best_gain = turn, gain
    return AffineSubspace(best, best_gain, turns, values)


class _Search(NamedTuple):
    x: np.ndarray
    n_active: int
    method: MomentMethod
    random_state: int

    def gain(self, rotation: np.ndarray) -> Estimate:
        """Δ at a rotation."""
        return affine_gain(
            self.x,
            self.n_active,
            rotation,
            method=self.method,
            random_state=self.random_state,
        )

    def climb(self, rotation, gain, max_steps):
        """Gradient ascent from a rotation; (rotation, gain) where it ends."""
        angle = _FIRST_ANGLE
        direction = None
        for _ in range(max_steps):
            if direction is None:
                direction = self.direction(rotation)
            turned = _nearest_orthogonal(expm(angle * direction) @ rotation)
            reached = self.gain(turned)
            if reached.value > gain.value:
                rotation, gain, direction = turned, reached, None
                angle *= _GROWTH
            else:
                angle *= _SHRINKAGE
            if angle < _LEAST_ANGLE:
                break
        return rotation, gain

    def direction(self, rotation: np.ndarray) -> np.ndarray:
        """The skew matrix of steepest ascent at a rotation, of unit angle."""
        y = self.x @ rotation.T
        n_passive = y.shape[1] - self.n_active
        moments = conditional_moments(
            y[:, :n_passive],
            y[:, n_passive:],
            method=self.method,
            random_state=self.random_state,
        )
        slopes = np.asarray(_likelihood_slopes(moments, jnp.asarray(y, float)), np.float64)
        slopes = np.where(np.isfinite(slopes), slopes, 0.0)
        matrix = slopes.T @ y / len(y)
        skew = matrix - matrix.T
        size = np.linalg.norm(skew) / np.sqrt(2.0)
        return skew / size if size > 0 else skew


@eqx.filter_jit
def _likelihood_slopes(moments, y: Float[Array, "n d"]) -> Float[Array, "n d"]:
    """Gradient of each row's likelihood gain, in nats, with the moments held."""

    def gain(row):
        p, a = row[: moments.n_passive], row[moments.n_passive :]
        variance = moments.variance(p)
        square = (a - moments.mean(p)) ** 2 / variance
        return 0.5 * jnp.sum(a**2 - square - jnp.log(variance))

    return jax.vmap(jax.grad(gain))(y)


def _candidates(x, candidates, n_candidates, random_state) -> np.ndarray:
    n_dims = x.shape[1]
    if candidates is None:
        candidates = ("angles",) if n_dims == 2 else ("random", "pca", "ica")
    names = [candidates] if isinstance(candidates, str) else list(candidates)
    if not all(isinstance(name, str) for name in names):
        return _given(np.asarray(candidates, np.float64), n_dims)
    turns: list[np.ndarray] = []
    for name in names:
        if name not in get_args(CandidateSet):
            raise ValueError(
                f"Expected candidates among {get_args(CandidateSet)}, or matrices; got {name!r}."
            )
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
            layer = choose_rotation(name, x, random_state=random_state)
            axes = np.asarray(layer.matrix.tree, np.float64)
            # The axes in their order and in the opposite one: the first are passive.
            turns += [_proper(axes), _proper(axes[::-1])]
    return np.stack([_nearest_orthogonal(turn) for turn in turns])


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


def rotation_matrix(angle: float) -> Float[np.ndarray, "2 2"]:
    """The rotation of the plane by an angle.

    Args:
        angle: The angle θ in radians.

    Returns:
        [[cos θ, −sin θ], [sin θ, cos θ]].
    """
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


def _proper(matrix: np.ndarray) -> np.ndarray:
    """Of determinant 1: the sign of an active coordinate changes no gain."""
    flipped = matrix.copy()
    if np.linalg.det(matrix) < 0:
        flipped[-1] *= -1.0
    return flipped


def _nearest_orthogonal(matrix: np.ndarray) -> np.ndarray:
    left, _, right = np.linalg.svd(matrix)
    return left @ right
