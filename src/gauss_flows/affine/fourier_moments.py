"""Conditional moments of many passive coordinates, by random Fourier features."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.affine.moment_functions import ConditionalMoments, RowMoments, check_width
from gauss_flows.affine.penalized import (
    VARIANCE_FLOOR,
    MomentFit,
    fit_moments,
    most_variance,
    overstated_gain,
)
from gauss_flows.affine.spline_moments import ends, rows_of

_ROWS_PER_FEATURE = 4
_MOST_FEATURES = 256
# Widths of the kernels that are tried, in standard deviations of p.
_WIDTHS = (0.8, 1.3, 2.2, 4.0)
_ROWS_FOR_WIDTH = 1024
# Shares of features of one, of two and of all coordinates: most laws are sums of simple parts.
_SHARES = (0.35, 0.35, 0.3)


class FourierMoments(ConditionalMoments):
    r"""Moments over random cosines $\sqrt 2 \cos(w^\top p + b)$, a constant and p itself.

    Args:
        centre: Of p, shape (d_passive,).
        scale: Of p, shape (d_passive,).
        low: Where p is clipped, shape (d_passive,).
        high: See there.
        frequencies: w, shape (M, d_passive).
        phases: b, shape (M,).
        mean_coefficients: Of the mean, shape (d_active, K) with K = 1 + d_passive + M.
        log_variance_coefficients: Of the log-variance, shape (d_active, K).
        mean_root: A root of the covariance of the mean's coefficients, shape (d_active, K, K).
        shape_root: The same of the log-variance's, halved.
        offsets: Of the active coordinates, shape (d_active,).
        scales: Of the active coordinates, shape (d_active,).
        lowest: Least of the active coordinates in units of the scales, shape (d_active,).
        highest: Greatest of them, shape (d_active,).
        levels: Mean conditional variances in units of the scales, shape (d_active,).
        least: Share of a column's variance that every predictive one has at least.
    """

    centre: Float[Array, " d_passive"]
    scale: Float[Array, " d_passive"]
    low: Float[Array, " d_passive"]
    high: Float[Array, " d_passive"]
    frequencies: Float[Array, "M d_passive"]
    phases: Float[Array, " M"]
    mean_coefficients: Float[Array, "d_active K"]
    log_variance_coefficients: Float[Array, "d_active K"]
    mean_root: Float[Array, "d_active K K"]
    shape_root: Float[Array, "d_active K K"]
    offsets: Float[Array, " d_active"]
    scales: Float[Array, " d_active"]
    lowest: Float[Array, " d_active"]
    highest: Float[Array, " d_active"]
    levels: Float[Array, " d_active"]
    least: float = eqx.field(static=True)

    @property
    def n_passive(self) -> int:
        """Number of passive coordinates."""
        return self.centre.size

    @property
    def n_active(self) -> int:
        """Number of active coordinates."""
        return self.offsets.size

    def mean(self, p: Float[ArrayLike, "... d_passive"]) -> Float[Array, "... d_active"]:
        """E[a | p]."""
        raw = self._features(p) @ self.mean_coefficients.T
        return self.offsets + self.scales * jnp.clip(raw, self.lowest, self.highest)

    def log_variance(self, p: Float[ArrayLike, "... d_passive"]) -> Float[Array, "... d_active"]:
        """Log Var[a | p], with the bias of its estimate taken off."""
        features = self._features(p)
        return self._raw_log_variance(features) + self._spread(features) + 2 * jnp.log(self.scales)

    def variance(self, p: Float[ArrayLike, "... d_passive"]) -> Float[Array, "... d_active"]:
        """Predictive variance."""
        features = self._features(p)
        own = jnp.exp(self._raw_log_variance(features))
        excess = 2.0 * self._spread(features) * jnp.maximum(own, self.levels)
        error = jnp.minimum(_squares(features, self.mean_root), 1.0)
        return self.scales**2 * (own + excess + error + self.least)

    def _raw_log_variance(self, features: Array) -> Array:
        raw = features @ self.log_variance_coefficients.T
        most = jnp.log(most_variance(self.lowest, self.highest))
        return jnp.clip(raw, float(np.log(VARIANCE_FLOOR)), most)

    def _spread(self, features: Array) -> Array:
        return jnp.minimum(_squares(features, self.shape_root), 1.0)

    def _features(self, p: ArrayLike) -> Array:
        centre, scale, low, high, frequencies, phases = jax.lax.stop_gradient(
            (self.centre, self.scale, self.low, self.high, self.frequencies, self.phases)
        )
        inside = jnp.clip(jnp.asarray(check_width(p, self.n_passive)), low, high)
        u = (inside - centre) / scale
        waves = jnp.sqrt(2.0) * jnp.cos(u @ frequencies.T + phases)
        return jnp.concatenate([jnp.ones((*u.shape[:-1], 1)), u, waves], axis=-1)


def _squares(features: Array, root: Array) -> Array:
    return jnp.sum(jnp.einsum("...k,akl->...al", features, root) ** 2, axis=-1)


def fourier_moments(
    p: np.ndarray, a: np.ndarray, random_state: int, n_simulations: int = 0
) -> tuple[FourierMoments, RowMoments]:
    r"""Ridge regression on random Fourier features, for the mean and for the log-variance.

    The features stand for a Gaussian kernel; its width and both ridges are those of the largest
    likelihood. Some features see one coordinate, some two, some all.

    Args:
        p: Passive coordinates, shape (n, d_passive).
        a: Active coordinates, shape (n, d_active).
        random_state: Seed of the features and simulations.
        n_simulations: How often to simulate what the fit takes for structure by chance.

    Returns:
        The moments as functions, and at the rows.

    References:
        Rahimi and Recht, *Random Features for Large-Scale Kernel Machines* (2007).
    """
    n_rows, n_passive = p.shape
    low, high = np.array([ends(column) for column in p.T]).T
    inside = np.clip(p, low, high)
    centre, scale = inside.mean(0), inside.std(0)
    scale = np.where(scale > 0, scale, 1.0)
    u = (inside - centre) / scale
    n_features = int(np.clip(n_rows // _ROWS_PER_FEATURE, 8, _MOST_FEATURES))
    directions, phases = _directions(n_features, n_passive, random_state)
    frequencies = directions / _best_width(u, a, directions, phases)
    basis = _basis(u, frequencies, phases)
    penalty = _penalty(n_passive, n_features)
    fits = [fit_moments(basis, penalty, column) for column in a.T]
    moments = FourierMoments(
        centre=jnp.asarray(centre, float),
        scale=jnp.asarray(scale, float),
        low=jnp.asarray(low, float),
        high=jnp.asarray(high, float),
        frequencies=jnp.asarray(frequencies, float),
        phases=jnp.asarray(phases, float),
        mean_coefficients=jnp.asarray(np.stack([fit.mean for fit in fits]), float),
        log_variance_coefficients=jnp.asarray(np.stack([fit.log_variance for fit in fits]), float),
        mean_root=jnp.asarray(np.stack([_root(fit.mean_covariance) for fit in fits]), float),
        shape_root=jnp.asarray(np.stack([_root(fit.shape) for fit in fits]), float),
        offsets=jnp.asarray([fit.offset for fit in fits], float),
        scales=jnp.asarray([fit.scale for fit in fits], float),
        lowest=jnp.asarray([fit.lowest for fit in fits], float),
        highest=jnp.asarray([fit.highest for fit in fits], float),
        levels=jnp.asarray([fit.level for fit in fits], float),
        least=1.0 / n_rows,
    )
    rng = np.random.default_rng([random_state, 1])
    simulated = [
        [overstated_gain(fit, basis, penalty, rng) for fit in fits] for _ in range(n_simulations)
    ]
    rows = rows_of(fits, basis, a)
    if simulated:
        mean, square = np.mean(simulated, axis=0), np.mean(np.square(simulated), axis=0)
        rows = rows._replace(by_chance=np.stack([mean, np.sqrt(square)]))
    return moments, rows


def _best_width(u, a, directions, phases) -> float:
    """The width of the largest likelihood, by some of the rows and features."""
    rows = slice(0, _ROWS_FOR_WIDTH)
    u, a = u[rows], a[rows]
    some = slice(0, max(8, min(len(directions), len(u) // _ROWS_PER_FEATURE // 2)))
    directions, phases = directions[some], phases[some]
    penalty = _penalty(u.shape[1], len(directions))

    def score(width: float) -> float:
        basis = _basis(u, directions / width, phases)
        fits = [fit_moments(basis, penalty, column, n_rounds=2) for column in a.T]
        return sum(_score(fit, basis, column) for fit, column in zip(fits, a.T, strict=True))

    return min(_WIDTHS, key=score)


def _basis(u: np.ndarray, frequencies: np.ndarray, phases: np.ndarray) -> np.ndarray:
    waves = np.sqrt(2.0) * np.cos(u @ frequencies.T + phases)
    return np.hstack([np.ones((len(u), 1)), u, waves])


def _penalty(n_passive: int, n_features: int) -> np.ndarray:
    """Constant and p itself are free."""
    return np.diag(np.concatenate([np.zeros(1 + n_passive), np.ones(n_features)]))


def _directions(n_features: int, n_passive: int, random_state: int):
    rng = np.random.default_rng(random_state)
    directions = rng.normal(size=(n_features, n_passive))
    kinds = rng.choice(3, size=n_features, p=_SHARES)
    for index, kind in enumerate(kinds):
        seen = kind + 1
        if kind < 2 and seen < n_passive:
            directions[index, rng.permutation(n_passive)[seen:]] = 0.0
    return directions, rng.uniform(0.0, 2.0 * np.pi, n_features)


def _score(fit: MomentFit, basis: np.ndarray, column: np.ndarray) -> float:
    """Twice the negative log-likelihood, each row as if it had been left out (approximately)."""
    mean, _, predictive = fit.at(basis)
    variance = np.exp(basis @ fit.log_variance) * fit.scale**2
    taken = np.einsum("ij,ij->i", basis @ fit.mean_covariance, basis) * fit.scale**2 / variance
    residual = (column - mean) / np.maximum(1.0 - taken, 0.05)
    return float(np.mean(predictive + residual**2 / np.exp(predictive)))


def _root(covariance: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(covariance)
    return vectors * np.sqrt(np.maximum(values, 0.0))
