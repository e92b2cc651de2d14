"""The mean log-density of rows: what every measure here is a sum of."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import polygamma

from gauss_flows.information.balls import log_ratio_curves, orders_up_to
from gauss_flows.information.extrapolation import limit_of
from gauss_flows.information.maps import Map, fit_gaussian, fit_mixtures
from gauss_flows.information.null import null_of

MOST_NEIGHBOURS = 20
# Share of the negentropy that a mixture may miss before the density is taken to have edges, which
# no mixture has.
_SMOOTH = 0.06
# What edges may add at most, in shares of what neighbours have added to the mixture. Of few rows it
# misses as much of what is only narrow, whose limit without a mixture is far off.
_MOST_AT_EDGES = 1.5
# From here on balls are too wide to show an edge.
_MOST_DIMS_WITH_EDGES = 3


class MeanLogDensity(NamedTuple):
    """An estimate of E log p(x).

    Args:
        value: The mean, in nats.
        noise: Variance that the neighbours' distances add to that of the mean of log p.
        rows: Log-density of every row, smoothed over its neighbours, shape (n,).
        row_noise: Variance of a row's smoothing.
        support: BIC's account of the map's own mean log-density, to choose maps by.
        density: The map; None where the density is known.
    """

    value: float
    noise: float
    rows: Float[np.ndarray, " n"]
    row_noise: float
    support: float
    density: Map | None = None


def mean_log_density(x: Float[np.ndarray, "n d"], *, random_state: int = 0) -> MeanLogDensity:
    r"""Estimate $\mathrm{E} \log p(x)$ by a map's own density and what its latents' neighbours add.

    $$\mathrm{E} \log p(x) = \mathrm{E} \log q(x) + \mathrm{KL}(p \,\|\, q),$$

    the first by the mean, the second by `log_ratio_curves` of the latents.

    Args:
        x: Rows, shape (n, d).
        random_state: Seed of the fits.

    Returns:
        The estimate.
    """
    gaussian = fit_gaussian(x)
    mixture, richer = fit_mixtures(x, random_state)
    if mixture.n_components == 1:
        return completed(gaussian, x, has_edges=False)
    own = mixture.push(x)[1].mean()
    support = _support(mixture, own, len(x))
    if x.shape[1] <= _MOST_DIMS_WITH_EDGES:
        found = completed(mixture, x, has_edges=False)
        in_all = found.value - gaussian.push(x)[1].mean()
        missed = found.value - own
        if missed >= _SMOOTH * in_all:
            edges = completed(gaussian, x, has_edges=True)._replace(support=support)
            if edges.value - found.value <= _MOST_AT_EDGES * missed:
                return edges
        if richer is mixture:
            return found
    # Neighbours see too little of what a mixture of BIC's size misses of a smooth density.
    return completed(richer, x, has_edges=False)._replace(support=support)


def completed(density: Map, x: Float[np.ndarray, "n d"], *, has_edges: bool) -> MeanLogDensity:
    """Complete a density's mean logarithm by what its latents' neighbours add.

    Args:
        density: The density.
        x: Rows, shape (n, d), those it was fitted to.
        has_edges: Whether to expect edges.

    Returns:
        The estimate.
    """
    n, n_dims = x.shape
    most = max(1, min(MOST_NEIGHBOURS, n // 10))
    z, log_q = density.push(x)
    curves = log_ratio_curves(z, most)
    null = null_of(n, n_dims, most)
    # A map that was not fitted to these rows has no optimism to take off.
    bias = null.bias if density.n_parameters else 0.0
    limit = limit_of(
        log_q.mean() + curves.mean(0) - bias,
        null.noise,
        orders_up_to(most),
        n_dims,
        has_edges=has_edges,
    )
    return MeanLogDensity(
        limit.value,
        limit.variance,
        log_q + curves[:, -1],
        float(polygamma(1, orders_up_to(most)[-1])),
        _support(density, log_q.mean(), n),
        density,
    )


def _support(density: Map, own: np.floating, n_rows: int) -> float:
    """BIC's account of a density's own mean logarithm."""
    return float(own - 0.5 * density.n_parameters * np.log(n_rows) / n_rows)
