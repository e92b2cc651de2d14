"""How much one affine coupling layer can gain, estimated from data."""

import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.affine.arguments import check_n_active, check_rotation_matrix
from gauss_flows.affine.moments import MomentMethod, check_enough_rows, fit_conditional_moments
from gauss_flows.bijections.orthogonal import AbstractRotation
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.numerics.normal import LOG_SQRT_2PI
from gauss_flows.rbig.checks import check_finite_table, check_table

# Simulations of the fit, of which each takes as long as the fit itself.
N_SIMULATIONS = 6


def affine_gain(
    x: Float[ArrayLike, "n d"],
    n_active: int,
    rotation: Float[ArrayLike, "d d"] | AbstractRotation | None = None,
    *,
    method: MomentMethod = "auto",
    random_state: int = 0,
) -> Estimate:
    r"""Estimate by how much the best affine coupling layer lowers KL(μ ‖ N(0, I)): Theorem 1.

    $$\Delta = \tfrac12 \Bigl[\operatorname{E}\|a\|^2 - D_A -
    \sum_i \operatorname{E} \log \sigma_i^2(p)\Bigr], \qquad \binom{p}{a} = Q x.$$

    The conditional means drop out, so only $\operatorname{E}\log\sigma^2$ has to be estimated. Its
    influence function, $\log\sigma^2 + r^2/\sigma^2 - 1$ with the residual r, gives the standard
    error; with cross-fitted moments its mean is the estimate, too. What Fourier features take for
    structure by chance is found on data simulated by the fit and taken off, in the share in which
    it explains what was found; the greater of both errors, the influence's and the simulations',
    is returned.

    Args:
        x: Data of shape (n, D).
        n_active: Number of active coordinates, the last of y = x Qᵀ; 1 to D − 1.
        rotation: Orthogonal matrix Q, shape (D, D), or a rotation layer; none by default.
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
    n_rows, n_dims = check_finite_table(x).shape
    check_n_active(n_active, n_dims)
    check_enough_rows(method, n_rows, n_dims - n_active, fewest=n_dims + 1)
    table = check_table(x)
    y = table @ check_rotation_matrix(rotation, n_dims).T
    p, a = y[:, :-n_active], y[:, -n_active:]
    reference, errors = log_reference(p, a, method, random_state)
    value, error = _gain_of(reference, a)
    return Estimate(value, max(error, float(np.linalg.norm(errors))))


def log_reference(
    p: Float[np.ndarray, "n d_passive"],
    a: Float[np.ndarray, "n d_active"],
    method: MomentMethod,
    random_state: int,
) -> tuple[Float[np.ndarray, "n d_active"], Float[np.ndarray, " d_active"]]:
    r"""Log-densities of a under normals of its moments given p, free of the moments' errors.

    $\operatorname{E}\log\sigma^2(p)$ is the same of a less any function of p. What is linear is
    taken off first, where the method is smooth: it then goes on beyond the extreme quantiles of p,
    from where on the fitted moments are constant.

    Args:
        p: Passive coordinates, shape (n, D_P).
        a: Active coordinates, shape (n, D_A).
        method: How to estimate the moments.
        random_state: Seed of what is random in that.

    Returns:
        The log-densities, of mean −½ E log 2πe σ², shape (n, D_A), and the least standard errors of
        their means, shape (D_A,), both in nats.
    """
    left = a
    if method in ("auto", "local_linear", "spline", "fourier"):
        design = np.column_stack([np.ones(len(p)), p])
        left = a - design @ np.linalg.lstsq(design, a, rcond=None)[0]
    _, rows = fit_conditional_moments(p, left, method, random_state, N_SIMULATIONS)
    return rows.log_reference(left), rows.simulated_error()


def gain_and_rows(
    y: Float[np.ndarray, "n d"], n_active: int, method: MomentMethod, random_state: int
) -> tuple[Estimate, Float[np.ndarray, " n"]]:
    """Δ of rotated rows as fast as it can be had, and what each row gains from a layer without it.

    Args:
        y: Rows, passive coordinates first, shape (n, D).
        n_active: Number of active coordinates.
        method: How to estimate the moments.
        random_state: Seed of what is random in that.

    Returns:
        The estimate, which counts what the moments take for structure by chance, and the
        log-density that each row gains at the moments that it would find had it been left out,
        shape (n,), both in nats.
    """
    p, a = y[:, :-n_active], y[:, -n_active:]
    _, rows = fit_conditional_moments(p, a, method, random_state)
    return _gain_of(rows.log_reference(a), a), rows.left_out_gain(a)


def _gain_of(reference: Float[np.ndarray, "n d"], a: Float[np.ndarray, "n d"]) -> Estimate:
    gain = Estimate.of_mean(np.sum(reference + LOG_SQRT_2PI + 0.5 * a**2, axis=1))
    return Estimate(float(gain.value), float(gain.standard_error))
