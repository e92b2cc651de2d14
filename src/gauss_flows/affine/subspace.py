"""The rotation at which one affine coupling layer gains most."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Int
from scipy.linalg import expm

from gauss_flows.affine.arguments import check_n_active
from gauss_flows.affine.candidates import CandidateSet, candidates_of, nearest_orthogonal
from gauss_flows.affine.gain import affine_gain, gain_and_rows
from gauss_flows.affine.moments import MomentMethod, check_enough_rows, conditional_moments
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.checks import check_finite_table, check_table
from gauss_flows.rbig.options import check_count, check_seed, check_whole

_FIRST_ANGLE = 0.2  # radians
_LEAST_ANGLE = 1e-3
_GROWTH, _SHRINKAGE = 1.5, 0.4


class AffineSubspace(NamedTuple):
    """Where an affine coupling layer gains most, as far as was looked.

    Args:
        rotation: Orthogonal matrix Q of determinant 1, shape (D, D): y = Q x, passive coordinates
            first. It is one of many: rotations among the passive coordinates change nothing.
        gain: `affine_gain` at it, in nats. The largest of many estimates is too large on average;
            for an honest figure estimate it again on rows that took no part.
        candidates: The candidates, shape (C, D, D).
        candidate_gains: Their gains, shape (C,), estimated faster: what Fourier features find by
            chance is in them.
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
        ValueError: If the data admit no density, are too few for the method, or an option is out
            of range; if a candidate is not orthogonal.

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
    n_rows, n_dims = check_finite_table(x).shape
    check_n_active(n_active, n_dims)
    check_count("n_candidates", n_candidates)
    check_seed(random_state)
    starts = (1 if n_dims == 2 else 4) if n_starts is None else n_starts
    check_whole("n_starts", starts, 0)
    check_whole("max_steps", max_steps, 0)
    check_enough_rows(method, n_rows, n_dims - n_active, fewest=n_dims + 1)
    table = check_table(x)
    turns = candidates_of(table, candidates, n_candidates, random_state)
    search = _Search(table, n_active, method, random_state, np.zeros(len(table), int), [])
    best = search.run(turns, starts, max_steps)
    gain = affine_gain(table, n_active, best.rotation, method=method, random_state=random_state)
    return best._replace(gain=gain)


class Choice(NamedTuple):
    """A rotation that all rows chose, and those that they choose without some of them.

    Args:
        rotation: The rotation Q, shape (D, D).
        gain: Its estimated Δ, in nats, too large by what choosing it brings.
        without: The rotation that would be chosen without the rows of each fold, shape (K, D, D).
    """

    rotation: Float[np.ndarray, "d d"]
    gain: Estimate
    without: Float[np.ndarray, "k d d"]


def choose_subspace(
    x: Float[np.ndarray, "n d"],
    n_active: int,
    folds: Int[np.ndarray, " n"],
    *,
    n_candidates: int,
    n_starts: int,
    max_steps: int,
    method: MomentMethod,
    random_state: int,
) -> Choice:
    """`optimal_affine_subspace`, and what it would have chosen without each fold of the rows.

    No fit is made again for that: what a rotation brings without a fold is the mean over the other
    rows of what each gains at the moments without itself.

    Args:
        x: Data of shape (n, D).
        n_active: Number of active coordinates.
        folds: Number of each row's fold, 0 to K − 1, shape (n,).
        n_candidates: See `optimal_affine_subspace`, and so the others.
        n_starts: See there.
        max_steps: See there.
        method: See there.
        random_state: See there.

    Returns:
        The choices.
    """
    search = _Search(x, n_active, method, random_state, folds, [])
    turns = candidates_of(x, None, n_candidates, random_state)
    best = search.run(turns, n_starts, max_steps)
    sums = np.stack([trial.fold_sums for trial in search.trials])
    elsewhere = sums.sum(axis=1, keepdims=True) - sums
    without = [search.trials[index].rotation for index in elsewhere.argmax(axis=0)]
    return Choice(best.rotation, best.gain, np.stack(without))


class _Trial(NamedTuple):
    """A rotation that was tried, and what the rows of each fold gain there, left out one by one."""

    rotation: np.ndarray
    fold_sums: np.ndarray


class _Search(NamedTuple):
    x: np.ndarray
    n_active: int
    method: MomentMethod
    random_state: int
    folds: np.ndarray
    trials: list[_Trial]

    def run(self, turns: np.ndarray, n_starts: int, max_steps: int) -> AffineSubspace:
        """Compare the candidates, and climb from the best."""
        gains = [self.gain(turn) for turn in turns]
        values = np.array([gain.value for gain in gains])
        order = np.argsort(-values)
        best, best_gain = turns[order[0]], gains[order[0]]
        # Trees have no slopes to climb along.
        for index in order[: n_starts if self.method != "boosting" else 0]:
            turn, gain = self.climb(turns[index], gains[index], max_steps)
            if gain.value > best_gain.value:
                best, best_gain = turn, gain
        return AffineSubspace(best, best_gain, turns, values)

    def gain(self, rotation: np.ndarray) -> Estimate:
        """Δ at a rotation."""
        y = self.x @ rotation.T
        gain, rows = gain_and_rows(y, self.n_active, self.method, self.random_state)
        self.trials.append(_Trial(rotation, np.bincount(self.folds, rows)))
        return gain

    def climb(self, rotation, gain, max_steps):
        """Gradient ascent from a rotation; (rotation, gain) where it ends."""
        angle = _FIRST_ANGLE
        direction = None
        for _ in range(max_steps):
            if direction is None:
                direction = self.direction(rotation)
            turned = nearest_orthogonal(expm(angle * direction) @ rotation)
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
