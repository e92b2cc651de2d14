"""What affine coupling layers do to Gaussian data, in closed form."""

import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.affine.arguments import (
    check_n_active,
    check_rotation_matrix,
    positive_number,
    real_array,
)
from gauss_flows.bijections.orthogonal import AbstractRotation
from gauss_flows.rbig.options import check_whole


def affine_gain_gaussian(
    cov: Float[ArrayLike, "d d"],
    n_active: int,
    rotation: Float[ArrayLike, "d d"] | AbstractRotation | None = None,
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
        rotation: Orthogonal matrix Q, shape (D, D), or a rotation layer; none by default.

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
    check_whole("n_dims", n_dims, 2)
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
    check_whole("n_dims", n_dims, 2)
    return n_dims / (n_dims + 2)


def whitening_gain_bound(cov: Float[ArrayLike, "d d"], n_active: int) -> float:
    r"""A lower bound on the mean gain of one affine coupling at a random rotation.

    $$\operatorname{E}_Q \Delta(Q) \ge \frac{D_A}{2}
    \Bigl[\bar\lambda - 1 - \log(\bar\lambda - u)\Bigr], \qquad
    u = \frac{D D_P}{(D + 2)(D - 1)} \frac{\operatorname{Var}[\lambda]}{\lambda_{\max}},$$

    with mean, variance and largest of the D eigenvalues of Σ. It holds for all data with mean zero
    and that covariance and is positive unless Σ = I: what is not white shrinks at every layer.

    The conditional variances satisfy E log σ²_i(p) ≤ log C_ii with the C of
    `affine_gain_gaussian`, the best linear prediction's, so that Δ is at least the Gaussian's. In
    it E_Q Σ'_ii = λ̄, and C_ii ≤ Σ'_ii − ‖Σ'_iP‖² / λ_max, where an entry of Σ' off the diagonal has
    mean square D Var[λ] / ((D + 2)(D − 1)), see `coupling_contraction`. Jensen's inequality does
    the rest.

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
        Flows* (2022), for λ̄ = 1, and for layers that also rescale the passive coordinates.

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
    mean = eigenvalues.mean()
    share = n_dims * (n_dims - n_active) / ((n_dims + 2) * (n_dims - 1))
    explained = share * eigenvalues.var() / eigenvalues[-1]
    return float(0.5 * n_active * (mean - 1.0 - np.log(mean - explained)))


def whitening_contraction_bound(kl: float, n_dims: int, n_active: int) -> float:
    r"""An upper bound on what one affine coupling at a random rotation leaves of non-whiteness.

    With $S = \mathrm{KL}(N(0, \Sigma) \,\|\, N(0, I))$ before the layer and $\operatorname{tr}
    \Sigma = D$,

    $$\frac{\operatorname{E}_Q S_1}{S} \le 1 + \frac{D_A}{2 S} \log\Bigl(1 -
    \frac{2 D D_P}{(D + 2)(D - 1)} \cdot \frac{1 - r}{1 + r} \, (1 - g)\Bigr), \qquad
    g = e^{-2 S / D}, \quad r = \sqrt{1 - e^{-2 S}}.$$

    It grows with S, from $1 - 2 D_A D_P / ((D + 2)(D - 1))$ at zero. So L layers leave at most
    this to the power L of the first S on average, if every coordinate is rescaled to unit variance
    before each rotation; that keeps the trace at D and never adds to S.

    It follows from `whitening_gain_bound`, since g is the geometric mean of the eigenvalues:
    Var[λ] ≥ 2 λ_min (1 − g), and λ_min / λ_max ≥ (1 − r) / (1 + r), which holds because at a given
    ratio κ = λ_max / λ_min the product of D positive numbers with mean 1 is at most
    4 κ / (1 + κ)².

    Args:
        kl: S in nats, positive.
        n_dims: Number of coordinates D, at least 2.
        n_active: Number of active ones, 1 to D − 1.

    Returns:
        The factor.

    Raises:
        ValueError: If a number is out of range.

    References:
        Draxler, Schnörr and Köthe, *Whitening Convergence Rate of Coupling-based Normalizing
        Flows* (2022). Cartwright and Field, *A refinement of the arithmetic mean-geometric mean
        inequality* (1978), for the variance.

    Example:
        >>> from gauss_flows.affine import whitening_contraction_bound
        >>> print(f"{whitening_contraction_bound(1e-8, 4, 2):.3f}")
        0.556
    """
    check_whole("n_dims", n_dims, 2)
    check_n_active(n_active, n_dims)
    kl = positive_number("kl", kl)
    root = np.sqrt(-np.expm1(-2.0 * kl))
    # (1 − r) / (1 + r) without cancellation where r is close to 1.
    ratio = np.exp(-2.0 * kl) / (1.0 + root) ** 2
    share = 2.0 * n_dims * (n_dims - n_active) / ((n_dims + 2) * (n_dims - 1))
    explained = share * ratio * -np.expm1(-2.0 * kl / n_dims)
    return float(1.0 + 0.5 * n_active * np.log1p(-explained) / kl)


def _checked_covariance(cov: ArrayLike) -> Float[np.ndarray, "d d"]:
    covariance = real_array(cov, "a covariance of shape (D, D)")
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
