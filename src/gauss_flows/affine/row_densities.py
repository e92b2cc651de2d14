"""Log-densities of rows, split as an affine layer splits them, by mixtures of several kinds."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from gauss_flows.affine.moments import MomentMethod, conditional_moments
from gauss_flows.numerics import gaussian_mixture
from gauss_flows.rbig.blocks import Recipe, next_block
from gauss_flows.rbig.joint_mixture import JointMixture, fit_joint_mixture

# Rows that the common covariance counts as in that of every component, behind normal columns.
_STRENGTH = 10.0
# Share of the identity in that covariance, so that dependent columns leave it positive definite.
_RIDGE = 1e-6


class RowDensities(NamedTuple):
    """Log-densities of rows, in nats.

    Args:
        passive: Of p, shape (n,).
        single: Of each active coordinate given p, shape (n, D_A).
        joint: Of all of them given p, shape (n,).
    """

    passive: Float[np.ndarray, " n"]
    single: Float[np.ndarray, "n d_active"]
    joint: Float[np.ndarray, " n"]


def row_densities(
    p: Float[np.ndarray, "n d_passive"],
    a: Float[np.ndarray, "n d_active"],
    fitted: Bool[np.ndarray, " n"],
    *,
    sizes: tuple[int, ...],
    method: MomentMethod,
    random_state: int,
) -> list[RowDensities]:
    r"""Log-densities of rows by mixtures of K Gaussians, fitted to some of them.

    Each number K stands for two: a mixture of (p, a) as they are, which is right where the law
    itself is one; and one of $(p, z)$ with $z_i = (a_i - m_i(p)) / \sigma_i(p)$, every column made
    normal by a mixture of its own, as many components as its BIC supports. There, where z does not
    depend on p, one component says so, however hard p is. A mixture's marginals are mixtures
    again, so that $f(p)$, $f(a_i \mid p)$ and $f(a \mid p)$ are of one law.

    Args:
        p: Passive coordinates, shape (n, D_P).
        a: Active coordinates, shape (n, D_A).
        fitted: Which rows to fit to.
        sizes: The numbers K.
        method: How to estimate the moments, see `conditional_moments`.
        random_state: Seed of what is random.

    Returns:
        For every mixture the log-densities of all rows.
    """
    moments = conditional_moments(p[fitted], a[fitted], method=method, random_state=random_state)
    mean, variance = (np.asarray(part(p), np.float64) for part in (moments.mean, moments.variance))
    rows = np.hstack([p, (a - mean) / np.sqrt(variance)])
    # One at a time: columns of one shape are compiled for once, whatever their number.
    columns = [_gaussianized_column(rows[:, [i]], fitted) for i in range(rows.shape[1])]
    normal, log_det = (np.hstack(parts) for parts in zip(*columns, strict=True))
    log_det[:, p.shape[1] :] -= 0.5 * np.log(variance)
    plain = np.hstack([p, a])
    scale = plain[fitted].std(0)
    scaled = (plain - plain[fitted].mean(0)) / scale
    found = []
    for size in sizes:
        options = {"n_components": size, "n_passive": p.shape[1], "seed": random_state}
        found.append(_densities(scaled, -np.log(scale), fitted, strength=1.0, **options))
        found.append(_densities(normal, log_det, fitted, strength=_STRENGTH, **options))
    return found


def _densities(
    rows: np.ndarray,
    log_det: np.ndarray,
    fitted: np.ndarray,
    *,
    n_components: int,
    n_passive: int,
    strength: float,
    seed: int,
) -> RowDensities:
    """By a mixture of rows that are functions of the data's columns with these log-derivatives."""
    n_dims = rows.shape[1]
    pooled = np.atleast_2d(np.cov(rows[fitted].T))
    pooled = (1.0 - _RIDGE) * pooled + _RIDGE * np.eye(n_dims)
    mixture = fit_joint_mixture(rows[fitted], n_components, pooled, strength=strength, seed=seed)
    passive = np.arange(n_passive)
    of_passive = _log_density(mixture, rows, passive)
    single = [
        _log_density(mixture, rows, np.append(passive, column)) - of_passive
        for column in range(n_passive, n_dims)
    ]
    log_det = np.broadcast_to(log_det, rows.shape)
    return RowDensities(
        of_passive + log_det[:, :n_passive].sum(1),
        np.stack(single, axis=1) + log_det[:, n_passive:],
        mixture.log_density(rows) - of_passive + log_det[:, n_passive:].sum(1),
    )


def _gaussianized_column(column: np.ndarray, fitted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A column made normal by the mixture fitted to some of its rows, and the log-derivatives."""
    recipe = Recipe(marginals_first=True, n_components=None)
    marginals = next_block(column[fitted], 0, recipe).marginals
    with jax.enable_x64(True):
        normal, log_det = _gaussianized(column, *marginals)
    return np.asarray(normal), np.asarray(log_det)


def _log_density(mixture: JointMixture, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Log-density of some columns: a mixture's marginals are its components' marginals."""
    marginal = JointMixture(
        mixture.log_weights,
        mixture.means[:, columns],
        mixture.covariances[:, columns[:, None], columns],
    )
    return marginal.log_density(rows[:, columns])


@jax.jit
def _gaussianized(x, log_weights, means, log_scales):
    return gaussian_mixture.gaussianize(jnp.asarray(x), log_weights, means, log_scales)
