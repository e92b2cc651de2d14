"""What one affine coupling layer leaves, and of what kind it is."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.affine.gain import check_n_active, check_rotation_matrix
from gauss_flows.affine.moments import MomentMethod
from gauss_flows.affine.row_densities import RowRatios, row_ratios
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.checks import check_finite_table, check_table
from gauss_flows.rbig.options import check_count, check_seed
from gauss_flows.rbig.rotations import derived_seed

_LEAST_ROWS = 100
_SIZES = (1, 2, 4, 8, 16, 32, 64)
_ROWS_PER_COMPONENT = 10
# Standard errors above which a larger mixture is believed.
_CLEAR = 2.0


class AffineLossSplit(NamedTuple):
    """The divergence from N(0, I) that the best affine layer at a rotation leaves, in nats.

    Args:
        passive: KL(p ‖ N(0, I)) of the passive part, which the layer cannot touch.
        conditional: Negentropy of each active coordinate given p, shape (D_A,): what its law is
            beyond its mean and variance.
        total_correlation: Total correlation of the active coordinates given p, zero for one: each
            is standardised for itself.
        total: Their sum, KL after the layer.
    """

    passive: Estimate
    conditional: Estimate
    total_correlation: Estimate
    total: Estimate


def affine_loss_split(
    x: Float[ArrayLike, "n d"],
    n_active: int,
    rotation: Float[ArrayLike, "d d"] | None = None,
    *,
    method: MomentMethod = "auto",
    max_components: int = 32,
    n_folds: int = 5,
    random_state: int = 0,
) -> AffineLossSplit:
    r"""Split what one affine coupling layer leaves of the divergence from the normal.

    $$\mathrm{KL}(T_\# \mu \,\|\, \mathcal N) = \mathrm{KL}(\mu_P \,\|\, \mathcal N) +
    \sum_i \operatorname{E}_p J[a_i \mid p] + \operatorname{E}_p \mathrm{TC}[a \mid p].$$

    The first term needs more layers at other rotations, the second more than a mean and a
    variance, the third active coordinates that see each other. The densities of p, (z_i, p) and
    (z, p), with z the active coordinates after the layer, are those of mixtures behind the
    columns' own marginals. A fit to all rows looks better than it is on these rows by some b, and
    fits that leave out one of K folds look worse on it by bK/(K − 1): the mean of both with
    weights K/(2K − 1) and (K − 1)/(2K − 1) has neither, so that data which the layer makes normal
    leave nothing, within the error and of either sign.

    What the mixtures cannot show is not corrected: edges that move with p, as they do by the
    errors of the moments, are blurred, and a sharp law's negentropy underestimated (WU's 0.176 by
    0.04 from 4000 rows, 0.03 from 20 000).

    Args:
        x: Data of shape (n, D), at least 100 rows.
        n_active: Number of active coordinates, the last of y = x Qᵀ; 1 to D − 1.
        rotation: Orthogonal matrix Q, shape (D, D); none by default.
        method: How to estimate the moments, see `conditional_moments`.
        max_components: Most components of the densities' mixtures.
        n_folds: Number of folds.
        random_state: Seed of the folds and of what is random in the fits.

    Returns:
        The parts, each with its standard error.

    Raises:
        ValueError: If the data are no table of finite numbers or too few, or an option is out of
            range.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Eq. 18: its proof writes 1 + log σ√(2π) where the
        entropy of a normal has ½ + log σ√(2π).

    Example:
        >>> import jax.random as jr
        >>> from gauss_flows.affine import affine_loss_split
        >>> from gauss_flows.datasets import WU
        >>> split = affine_loss_split(WU().sample(jr.key(0), 4000), 1, max_components=4)
        >>> bool(abs(split.passive.value - 0.199) < 0.05)
        True
        >>> bool(0.1 < split.conditional.value[0] < 0.18)
        True
    """
    n_rows, n_dims = check_finite_table(x).shape
    check_n_active(n_active, n_dims)
    table = check_table(x)
    check_count("max_components", max_components)
    check_seed(random_state)
    if isinstance(n_folds, bool) or int(n_folds) != n_folds or n_folds < 2:
        raise ValueError(f"Expected at least 2 folds; got {n_folds}.")
    if n_rows < _LEAST_ROWS:
        raise ValueError(f"Expected at least {_LEAST_ROWS} rows; got {n_rows}.")
    y = table @ check_rotation_matrix(rotation, n_dims).T
    p, a = y[:, : n_dims - n_active], y[:, n_dims - n_active :]
    least = n_rows - -(-n_rows // n_folds)
    sizes = tuple(
        size
        for size in _SIZES
        if size == 1 or (size <= max_components and size * _ROWS_PER_COMPONENT <= least)
    )
    options = {"sizes": sizes, "method": method, "random_state": random_state}
    inside = row_ratios(p, a, np.ones(n_rows, bool), **options)
    folds = np.random.default_rng(derived_seed(random_state, 0)).permutation(n_rows) % n_folds
    without = [row_ratios(p, a, folds != fold, **options) for fold in range(n_folds)]
    outside = [
        RowRatios(*(_picked(parts, folds) for parts in zip(*of_size, strict=True)))
        for of_size in zip(*without, strict=True)
    ]
    passive = _corrected([r.passive for r in inside], [r.passive for r in outside], n_folds)
    columns = [
        _corrected([r.single[:, i] for r in inside], [r.single[:, i] for r in outside], n_folds)
        for i in range(n_active)
    ]
    conditional = np.stack(columns, axis=1)
    correlation = np.zeros(n_rows)
    if n_active > 1:
        joint = _corrected([r.joint for r in inside], [r.joint for r in outside], n_folds)
        correlation = joint - conditional.sum(1)
    return AffineLossSplit(
        Estimate.of_mean(passive),
        Estimate.of_mean(conditional),
        Estimate.of_mean(correlation),
        Estimate.of_mean(passive + conditional.sum(1) + correlation),
    )


def _picked(parts: Sequence[np.ndarray], folds: np.ndarray) -> np.ndarray:
    """Of every row what was found without its fold."""
    return np.stack(parts)[folds, np.arange(len(folds))]


def _corrected(inside: list[np.ndarray], outside: list[np.ndarray], n_folds: int) -> np.ndarray:
    """Log-densities of rows with the fit's optimism removed, at the size that fresh rows favour.

    A larger mixture takes the place of a smaller one where it is better by twice the error.
    """
    best = 0
    for size in range(1, len(outside)):
        further = Estimate.of_mean(outside[size] - outside[best])
        if further.value > _CLEAR * further.standard_error:
            best = size
    weight = n_folds / (2 * n_folds - 1)
    return weight * inside[best] + (1 - weight) * outside[best]
