"""How much one affine coupling layer can gain, estimated from data."""

import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.affine.moments import MomentMethod, fit_conditional_moments
from gauss_flows.bijections.orthogonal import checked_orthogonal
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.checks import check_finite_table, check_table


def affine_gain(
    x: Float[ArrayLike, "n d"],
    n_active: int,
    rotation: Float[ArrayLike, "d d"] | None = None,
    *,
    method: MomentMethod = "auto",
    random_state: int = 0,
) -> Estimate:
    r"""Estimate by how much the best affine coupling layer lowers KL(μ ‖ N(0, I)): Theorem 1.

    $$\Delta = \tfrac12 \Bigl[\operatorname{E}\|a\|^2 - D_A -
    \sum_i \operatorname{E} \log \sigma_i^2(p)\Bigr], \qquad \binom{p}{a} = Q x.$$

    The conditional means drop out, so only $\operatorname{E}\log\sigma^2$ has to be estimated. Its
    influence function, $\log\sigma^2 + r^2/\sigma^2 - 1$ with the residual r, gives the standard
    error; with cross-fitted moments its mean is the estimate, too.

    Args:
        x: Data of shape (n, D).
        n_active: Number of active coordinates, the last of y = x Qᵀ; 1 to D − 1.
        rotation: Orthogonal matrix Q, shape (D, D); none by default.
        method: How to estimate the moments, see `conditional_moments`.
        random_state: Seed of what is random in that.

    Returns:
        Δ and its standard error, in nats.

    Raises:
        ValueError: If the data are no table of finite numbers or too few rows for the method,
            `n_active` is out of range, or the rotation is not orthogonal.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Theorem 1.

    Example:
        >>> import jax.random as jr
        >>> from gauss_flows.affine import affine_gain
        >>> from gauss_flows.datasets import W
        >>> value, standard_error = affine_gain(W().sample(jr.key(0), 4096), 1)
        >>> bool(abs(value - 0.6321) < 4 * standard_error < 0.1)
        True
    """
    n_dims = check_finite_table(x).shape[1]
    check_n_active(n_active, n_dims)
    table = check_table(x)
    y = table @ check_rotation_matrix(rotation, n_dims).T
    return gain_and_rows(y, n_active, method, random_state)[0]


def gain_and_rows(
    y: Float[np.ndarray, "n d"], n_active: int, method: MomentMethod, random_state: int
) -> tuple[Estimate, Float[np.ndarray, " n"]]:
    """Δ of rotated rows, and what each row gains from a layer that has not seen it.

    Args:
        y: Rows, passive coordinates first, shape (n, D).
        n_active: Number of active coordinates.
        method: How to estimate the moments.
        random_state: Seed of what is random in that.

    Returns:
        The estimate, and the log-density that each row gains at the moments that it would find had
        it been left out, shape (n,), both in nats.
    """
    p, a = y[:, :-n_active], y[:, -n_active:]
    _, rows = fit_conditional_moments(p, a, method, random_state)
    influence = Estimate.of_mean(np.sum(0.5 * (a**2 - 1.0) + rows.influence, axis=1))
    if rows.is_cross_fitted:
        # At moments that have not seen a row, the ratio's excess over 1 makes up for their errors.
        gain = Estimate(float(influence.value), float(influence.standard_error))
    else:
        value = 0.5 * np.mean(np.sum(a**2 - 1.0 - rows.log_variance, axis=1))
        gain = Estimate(float(value), float(influence.standard_error))
    return gain, rows.left_out_gain(a)


def check_n_active(n_active: int, n_dims: int) -> None:
    """Refuse a number of active coordinates that leaves none to condition on, or to move.

    Args:
        n_active: The number.
        n_dims: Number of all coordinates D.

    Raises:
        ValueError: If it is not a whole number from 1 to D − 1.
    """
    whole = isinstance(n_active, int | np.integer) and not isinstance(n_active, bool)
    if not whole or not 1 <= n_active <= n_dims - 1:
        raise ValueError(
            f"Expected n_active from 1 to {n_dims - 1} for data of {n_dims} columns; "
            f"got {n_active}."
        )


def check_rotation_matrix(
    rotation: Float[ArrayLike, "d d"] | None, n_dims: int
) -> Float[np.ndarray, "d d"]:
    """A rotation as a matrix that is orthogonal to rounding.

    Args:
        rotation: The matrix, or `None` for the identity.
        n_dims: Number of coordinates D.

    Returns:
        The matrix in float64.

    Raises:
        ValueError: If it has another shape or is not orthogonal.
    """
    if rotation is None:
        return np.eye(n_dims)
    matrix = np.asarray(rotation, np.float64)
    if matrix.shape != (n_dims, n_dims):
        raise ValueError(f"Expected a rotation of shape ({n_dims}, {n_dims}); got {matrix.shape}.")
    return np.asarray(checked_orthogonal(matrix), np.float64)
