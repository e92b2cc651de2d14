"""How far latents are from normal, by the normal mass of balls that reach their neighbours."""

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree
from scipy.special import digamma, log_ndtr
from scipy.stats import ncx2

# Below it a mass is too close to the smallest number to take its logarithm.
_SMALLEST = 1e-290
# Intervals narrower than this, in units of where they are, have the density's mass at their centre.
_NARROW = 1e-3
# From here on a ball that reaches the bulk is as good as a half-space there.
_FAR = 1e4


# Of so many nearest neighbours each adds something to what the others say.
_ORDERS = np.array([1, 2, 3, 4, 6, 8, 11, 15, 20])


def orders_up_to(most_neighbours: int) -> Int[np.ndarray, " k"]:
    """The neighbours that are looked at: the nearest, the second, and so on more sparsely.

    Args:
        most_neighbours: The farthest that may be.

    Returns:
        Their orders, rising from 1.
    """
    return _ORDERS[: int(np.searchsorted(_ORDERS, most_neighbours, side="right"))]


def log_ratio_curves(
    z: Float[np.ndarray, "n d"],
    most_neighbours: int,
    others: Float[np.ndarray, "m d"] | None = None,
) -> Float[np.ndarray, "n k"]:
    r"""Estimate log p(z)/φ(z) at every row, once from each of its nearest neighbours.

    Let $U_k$ be the standard normal's mass of the ball around a row that just reaches the k-th
    nearest of m other rows,

    $$\widehat{\log \frac{p}{\varphi}}(z) = \psi(k) - \psi(m + 1) - \log U_k,
    \qquad U_k = P\bigl(\chi'^2_d(\lvert z \rvert^2) \le r_k^2\bigr).$$

    Where the others are standard normal, U_k is the k-th smallest of m uniform numbers, whose
    logarithm has the mean ψ(k) − ψ(m + 1): the estimate then has no bias at all, for any number of
    rows, dimensions and neighbours. Where they are not, its bias comes from how much p/φ, and not
    p, changes within a ball. That is what a flow before it is for.

    Args:
        z: Latents at which to estimate, shape (n, d).
        most_neighbours: The farthest neighbour to look at, at least 1.
        others: Rows of the density p, shape (m, d); by default `z`, each row's own left out.

    Returns:
        The estimates in nats for every order k of `orders_up_to`, shape (n, K).

    References:
        Kozachenko and Leonenko, *Sample Estimate of the Entropy of a Random Vector* (1987).
        Ao and Li, *Entropy Estimation via Normalizing Flow* (2022).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information.balls import log_ratio_curves
        >>> z = np.random.default_rng(0).normal(size=(1000, 20))
        >>> bool(np.all(np.abs(log_ratio_curves(z, 5).mean(0)) < 0.1))
        True
    """
    own = others is None
    tree = KDTree(z if others is None else others)
    orders = orders_up_to(most_neighbours)
    distance, _ = tree.query(z, k=int(orders[-1]) + own)
    distance = np.asarray(distance).reshape(len(z), -1)[:, orders + own - 1]
    return digamma(orders) - digamma(tree.n + (not own)) - log_ball_mass(z, distance)


def log_ball_mass(
    z: Float[np.ndarray, "n d"], radius: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n k"]:
    """Logarithm of the standard normal's mass of balls.

    Args:
        z: Centres, shape (n, d).
        radius: Radii above zero, several for each centre, shape (n, k).

    Returns:
        The logarithms, shape (n, k).
    """
    n_dims = z.shape[1]
    square = np.sum(z**2, axis=1, keepdims=True)
    length = np.sqrt(square)
    # Rows that a map's rounding has made one are as far apart as it can tell.
    radius = np.maximum(radius, np.finfo(np.float64).eps * (1 + length))
    if n_dims == 1:
        return _log_interval_mass(length, radius)
    # The half-space through the ball's nearest point. Far outside it has all that counts but for a
    # share of d/|z|, and the series of the ball's own mass is as long as its centre is far.
    upper = log_ndtr(radius - length)
    near = (upper > np.log(_SMALLEST)) & (length < _FAR)
    centre = np.broadcast_to(np.maximum(square, 1e-12), radius.shape)
    mass = np.zeros_like(radius)
    mass[near] = ncx2.cdf(radius[near] ** 2, n_dims, centre[near])
    safe = np.isfinite(mass) & (mass > _SMALLEST)
    return np.where(safe, np.log(np.where(safe, mass, 1.0)), upper)


def _log_interval_mass(
    length: Float[np.ndarray, "n 1"], radius: Float[np.ndarray, "n k"]
) -> Float[np.ndarray, "n k"]:
    is_narrow = radius * np.maximum(length, 1) < _NARROW
    # φ(l) 2r (1 + (l² − 1) r²/6 + …): the difference of two masses would lose it.
    narrow = np.where(is_narrow, radius, _NARROW / np.maximum(length, 1))
    log_density = -0.5 * length**2 - 0.5 * np.log(2 * np.pi)
    of_narrow = log_density + np.log(2 * narrow) + np.log1p((length**2 - 1) * narrow**2 / 6)
    wide = np.where(is_narrow, 1.0, radius)
    upper = log_ndtr(wide - length)
    of_wide = upper + np.log1p(-np.exp(log_ndtr(-wide - length) - upper))
    return np.where(is_narrow, of_narrow, of_wide)
