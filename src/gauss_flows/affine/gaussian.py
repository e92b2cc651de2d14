"""What affine coupling layers do to Gaussian data, in closed form."""

import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.affine.gain import check_n_active, check_rotation_matrix


def affine_gain_gaussian(
    cov: Float[ArrayLike, "d d"],
    n_active: int,
    rotation: Float[ArrayLike, "d d"] | None = None,
) -> float:
    r"""Theorem 1's Δ for data from N(0, Σ), exactly.

    $$\Delta = \tfrac12 \sum_{i \in A} \bigl[\Sigma'_{ii} - 1 - \log C_{ii}\bigr], \qquad
    \Sigma' = Q \Sigma Q^\top, \quad C = \Sigma'_{AA} - \Sigma'_{AP} \Sigma_{PP}'^{-1}
    \Sigma'_{PA}.$$

    Only the diagonal of the conditional covariance C matters: a coupling layer standardises each
    active coordinate by itself, and what they have in common given p remains (Corollary 1).

    Args:
        cov: Covariance Σ, shape (D, D), symmetric and positive definite.
        n_active: Number of active coordinates, the last of y = Q x; 1 to D − 1.
        rotation: Orthogonal matrix Q, shape (D, D); none by default.

    Returns:
        Δ in nats.

    Raises:
        ValueError: If the covariance is not symmetric and positive definite, `n_active` is out of
            range or the rotation is not orthogonal.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Theorem 1 and Corollary 1.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.affine import affine_gain_gaussian
        >>> print(round(affine_gain_gaussian([[1.0, 0.8], [0.8, 1.0]], 1), 6))
        0.510826
        >>> print(round(-0.5 * np.log(1 - 0.8**2), 6))  # all there was
        0.510826
    """
    covariance = _checked_covariance(cov)
    n_dims = len(covariance)
    check_n_active(n_active, n_dims)
    turn = check_rotation_matrix(rotation, n_dims)
    turned = turn @ covariance @ turn.T
    n_passive = n_dims - n_active
    cross = turned[:n_passive, n_passive:]
    active = turned[n_passive:, n_passive:]
    explained = cross.T @ np.linalg.solve(turned[:n_passive, :n_passive], cross)
    conditional = np.diag(active - explained)
    return float(0.5 * np.sum(np.diag(active) - 1.0 - np.log(conditional)))


def gaussian_kl(cov: Float[ArrayLike, "d d"]) -> float:
    r"""KL(N(0, Σ) ‖ N(0, I)) = ½ [tr Σ − D − log det Σ], in nats.

    Args:
        cov: Covariance Σ, shape (D, D), symmetric and positive definite.

    Raises:
        ValueError: If it is not.

    Example:
        >>> from gauss_flows.affine import gaussian_kl
        >>> round(gaussian_kl([[1.0, 0.6], [0.6, 1.0]]), 10)
        0.2231435513
    """
    covariance = _checked_covariance(cov)
    _, log_det = np.linalg.slogdet(covariance)
    return float(0.5 * (np.trace(covariance) - len(covariance) - log_det))


def coupling_contraction(n_dims: int, n_active: int) -> float:
    r"""What one affine coupling at a random rotation leaves of nearly white Gaussian data.

    $$\frac{\operatorname{E} \mathrm{KL}_1}{\mathrm{KL}_0} \to
    1 - \frac{2 D_A D_P}{(D + 2)(D - 1)} - \frac{2 D_A}{D (D + 2)}$$

    for covariances I + εS with ε → 0 and tr S = 0. To second order KL = ε²‖S‖²/4. Turned by a
    uniformly drawn rotation, an entry on the diagonal of S has mean square
    2‖S‖²/(D (D + 2)), since E q_i⁴ = 3/(D (D + 2)) and tr S = 0, and the D (D − 1) others share
    what is left, ‖S‖² D/(D + 2), evenly. The layer removes the 2 D_A D_P entries between active
    and passive coordinates and the D_A on the active diagonal, and changes the rest by O(ε²).

    Args:
        n_dims: Number of coordinates D, at least 2.
        n_active: Number of active ones, 1 to D − 1.

    Returns:
        The factor.

    Raises:
        ValueError: If a number is out of range.

    Example:
        >>> from gauss_flows.affine import coupling_contraction
        >>> coupling_contraction(2, 1)
        0.25
    """
    _check_n_dims(n_dims)
    check_n_active(n_active, n_dims)
    between = 2.0 * n_active * (n_dims - n_active) / ((n_dims + 2) * (n_dims - 1))
    return 1.0 - between - 2.0 * n_active / (n_dims * (n_dims + 2))


def marginal_contraction(n_dims: int) -> float:
    r"""What one marginal layer at a random rotation leaves of nearly white Gaussian data.

    $$\frac{\operatorname{E} \mathrm{KL}_1}{\mathrm{KL}_0} \to \frac{D}{D + 2},$$

    see `coupling_contraction`: of the mean squares there the layer removes the diagonal's. Where a
    coupling's factor tends to 1 − 2 D_A D_P / D², a half for halves, this one tends to 1.

    Args:
        n_dims: Number of coordinates D, at least 2.

    Returns:
        The factor.

    Raises:
        ValueError: If there are fewer than two.

    Example:
        >>> from gauss_flows.affine import marginal_contraction
        >>> marginal_contraction(2)
        0.5
    """
    _check_n_dims(n_dims)
    return n_dims / (n_dims + 2)


def whitening_gain_bound(cov: Float[ArrayLike, "d d"], n_active: int) -> float:
    r"""A lower bound on the mean gain of one affine coupling at a random rotation.

    $$\operatorname{E}_Q \Delta(Q) \ge
    rac{D_A D_P D}{2 (D + 2)(D - 1)} \, rac{\operatorname{Var}[\lambda]}{\lambda_{\max}^2},$$

    with the variance of the D eigenvalues of Σ, for data from N(0, Σ), or any data with that
    covariance where a layer is linear. It is strict: what is not white shrinks on average at every
    layer, whatever the depth.

    Since t − 1 ≥ log t, Δ is at least −½ Σ log(1 − R²_i) ≥ ½ Σ R²_i with the coefficients of
    determination R²_i = Σ'_{iP} Σ'_{PP}⁻¹ Σ'_{Pi} / Σ'_{ii} ≥ ‖Σ'_{iP}‖² / λ²_max. An entry of
    Σ' off the diagonal has mean square D Var[λ] / ((D + 2)(D − 1)), see `coupling_contraction`.

    Args:
        cov: Covariance Σ, shape (D, D), symmetric and positive definite, D >= 2.
        n_active: Number of active coordinates, 1 to D − 1.

    Returns:
        The bound in nats.

    Raises:
        ValueError: If the covariance is not symmetric and positive definite or `n_active` is out
            of range.

    References:
        Draxler, Schnörr and Köthe, *Whitening Convergence Rate of Coupling-based Normalizing
        Flows* (2022), whose bounds are of this kind; this one is derived here.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.affine import whitening_gain_bound
        >>> whitening_gain_bound(np.eye(4), 2)
        0.0
        >>> whitening_gain_bound(np.diag([1.5, 0.5]), 1) > 0
        True
    """
    covariance = _checked_covariance(cov)
    n_dims = len(covariance)
    check_n_active(n_active, n_dims)
    eigenvalues = np.linalg.eigvalsh(covariance)
    pairs = n_active * (n_dims - n_active) * n_dims / ((n_dims + 2) * (n_dims - 1))
    return float(0.5 * pairs * eigenvalues.var() / eigenvalues[-1] ** 2)


def _check_n_dims(n_dims: int) -> None:
    if isinstance(n_dims, bool) or int(n_dims) != n_dims or n_dims < 2:
        raise ValueError(f"Expected n_dims to be a whole number of at least 2; got {n_dims}.")


def _checked_covariance(cov: ArrayLike) -> Float[np.ndarray, "d d"]:
    covariance = np.asarray(cov, np.float64)
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or len(covariance) == 0:
        raise ValueError(f"Expected a covariance of shape (D, D); got {covariance.shape}.")
    if not np.isfinite(covariance).all():
        row, column = np.argwhere(~np.isfinite(covariance))[0]
        raise ValueError(
            f"Expected a covariance of finite numbers; got {covariance[row, column]} in row {row}, "
            f"column {column}."
        )
    if np.abs(covariance - covariance.T).max() > 1e-8 * np.abs(covariance).max():
        raise ValueError("Expected a symmetric covariance; got one that is not.")
    least = float(np.linalg.eigvalsh(covariance)[0])
    if least <= 0:
        raise ValueError(
            f"Expected a positive definite covariance; got one with eigenvalue {least:.3g}."
        )
    return 0.5 * (covariance + covariance.T)
