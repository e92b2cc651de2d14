"""Log-densities of rows, split as an affine layer splits them, by mixtures of several sizes."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from gauss_flows.affine.moments import MomentMethod, conditional_moments
from gauss_flows.numerics import gaussian_mixture
from gauss_flows.numerics.normal import LOG_SQRT_2PI
from gauss_flows.rbig.blocks import Recipe, next_block
from gauss_flows.rbig.joint_mixture import JointMixture, fit_joint_mixture

# Rows that the common covariance counts as in that of every component.
_STRENGTH = 10.0
# Share of the identity in that covariance, so that dependent columns leave it positive definite.
_RIDGE = 1e-6


class RowRatios(NamedTuple):
    """Log-densities of rows over those of a standard normal, in nats.

    Args:
        passive: Of p, shape (n,).
        single: Of each standardised active coordinate given p, shape (n, D_A).
        joint: Of all of them given p, shape (n,).
    """

    passive: Float[np.ndarray, " n"]
    single: Float[np.ndarray, "n d_active"]
    joint: Float[np.ndarray, " n"]


def row_ratios(
    p: Float[np.ndarray, "n d_passive"],
    a: Float[np.ndarray, "n d_active"],
    fitted: Bool[np.ndarray, " n"],
    *,
    sizes: tuple[int, ...],
    method: MomentMethod,
    random_state: int,
) -> list[RowRatios]:
    r"""Log-densities after the best affine layer, that layer and they fitted to some of the rows.

    With $z_i = (a_i - m_i(p)) / \sigma_i(p)$, every column is made normal by a mixture of its own,
    as many components as its BIC supports, and what remains is a mixture of K Gaussians in all
    D dimensions. Its marginals are mixtures again, so that $f(p)$, $f(z_i \mid p)$ and
    $f(z \mid p)$ are of one law; where z does not depend on p, one component says so, however
    hard p is.

    Args:
        p: Passive coordinates, shape (n, D_P).
        a: Active coordinates, shape (n, D_A).
        fitted: Which rows to fit to.
        sizes: The numbers K.
        method: How to estimate the moments, see `conditional_moments`.
        random_state: Seed of what is random.

    Returns:
        For every K the log-densities of all rows.
    """
    moments = conditional_moments(p[fitted], a[fitted], method=method, random_state=random_state)
    mean, variance = (np.asarray(part(p), np.float64) for part in (moments.mean, moments.variance))
    rows = np.hstack([p, (a - mean) / np.sqrt(variance)])
    # One at a time: columns of one shape are compiled for once, whatever their number.
    columns = [_gaussianized_column(rows[:, [i]], fitted) for i in range(rows.shape[1])]
    normal, log_det = (np.hstack(parts) for parts in zip(*columns, strict=True))
    # What the columns' own maps bring against a standard normal.
    own = log_det + 0.5 * rows**2 + LOG_SQRT_2PI
    n_dims, n_passive = rows.shape[1], p.shape[1]
    passive = np.arange(n_passive)
    pooled = np.atleast_2d(np.cov(normal[fitted].T))
    pooled = (1.0 - _RIDGE) * pooled + _RIDGE * np.eye(n_dims)
    found = []
    for size in sizes:
        mixture = fit_joint_mixture(
            normal[fitted], size, pooled, strength=_STRENGTH, seed=random_state
        )
        of_passive = _log_density(mixture, normal, passive)
        single = [
            _log_density(mixture, normal, np.append(passive, column)) - of_passive
            for column in range(n_passive, n_dims)
        ]
        joint = mixture.log_density(normal) - of_passive
        active = own[:, n_passive:]
        found.append(
            RowRatios(
                of_passive + own[:, :n_passive].sum(1),
                np.stack(single, axis=1) + active,
                joint + active.sum(1),
            )
        )
    return found


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
