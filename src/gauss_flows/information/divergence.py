"""Kullback-Leibler divergence between two tables or flows."""

from typing import Any

import numpy as np
from flowjax.distributions import AbstractTransformed
from jaxtyping import ArrayLike, Float
from scipy.special import polygamma

from gauss_flows.information.balls import log_ratio_curves, orders_up_to
from gauss_flows.information.copula import error_of
from gauss_flows.information.entropy import N_SAMPLES, exact
from gauss_flows.information.extrapolation import limit_of
from gauss_flows.information.flows import checked_flow, draw, is_flow, log_density
from gauss_flows.information.log_density import MOST_NEIGHBOURS, mean_log_density
from gauss_flows.information.maps import fit_mixtures
from gauss_flows.information.null import null_of
from gauss_flows.information.repeats import warn_of_copies
from gauss_flows.information.tables import checked_table, comparable_rows, named_rows, without_ties
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.options import check_seed

# Logarithm of the largest ratio p/q at a row of y that its error is built on.
_LARGEST = 10.0


def kl_divergence(
    x: Float[ArrayLike, "n d"] | AbstractTransformed,
    y: Float[ArrayLike, "m d"] | AbstractTransformed,
    *,
    random_state: int = 0,
) -> Estimate:
    r"""Kullback-Leibler divergence of the law of x from that of y.

    $$\mathrm{KL}(p \,\|\, q) = \mathrm{E}_p \log p(x) - \mathrm{E}_p \log q(x) \ge 0$$

    The first mean is the negative entropy of x. For the second a map is fitted to y, and what its
    density misses of q is estimated from the neighbours that the rows of x have among those of y.
    It is infinite where x reaches beyond the support of y, which no finite table shows: rows of x
    far from all rows of y are then told only as far as the map's tails go.

    Args:
        x: Rows of shape (n, d), a single column, or a flow.
        y: Rows of shape (m, d), a single column, or a flow.
        random_state: Seed of the fits, and of draws from a flow `x`.

    Returns:
        The divergence and its standard error, in nats.

    Raises:
        ValueError: If a table has no density, widths or columns' names differ, or one of the
            tables is a point beside the other: row and column are named.

    Warns:
        UserWarning: If x and y have rows in common, or one of them has copies of rows.

    References:
        Wang, Kulkarni and Verdú, *Divergence Estimation for Multidimensional Densities via
        k-Nearest-Neighbor Distances* (2009).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import kl_divergence
        >>> x, y = np.random.default_rng(0).normal(size=(2, 2000, 1))
        >>> value, standard_error = kl_divergence(x + 1.0, y)
        >>> bool(abs(value - 0.5) < 3 * standard_error < 0.3)
        True
    """
    check_seed(random_state)
    _check_same_columns(x, y)
    first, second = _side(x, "x"), _side(y, "y")
    widths = [s.shape[0] if is_flow(s) else s.shape[1] for s in (first, second)]
    if widths[0] != widths[1]:
        raise ValueError(
            f"Expected x and y of as many columns; got {widths[0]} in x and {widths[1]} in y."
        )
    first, second = _spread(first, second)
    if is_flow(first):
        rows = draw(first, N_SAMPLES, random_state)
        own = exact(log_density(first, rows))
    else:
        rows = first
        own = mean_log_density(rows, random_state=random_state)
    if is_flow(second):
        other = log_density(second, rows)
        value = own.value - other.mean()
        return Estimate(float(value), error_of(own.rows - other, own.row_noise, own.noise))
    return _from_rows(first, rows, own, second, random_state)


def _from_rows(first, rows, own, y, random_state):
    """The divergence from a law of which there are rows only."""
    n_dims = y.shape[1]
    density = fit_mixtures(y, random_state)[0]
    most = max(1, min(MOST_NEIGHBOURS, len(y) // 10))
    latent_y, log_q_y = density.push(y)
    latent_x, log_q_x = density.push(rows)
    curves = log_ratio_curves(latent_x, most, latent_y)
    null = null_of(len(y), n_dims, most)
    limit = limit_of(
        log_q_x.mean() + curves.mean(0), null.noise, orders_up_to(most), n_dims, has_edges=False
    )
    other = log_q_x + curves[:, -1]
    row_noise = own.row_noise + float(polygamma(1, orders_up_to(most)[-1]))
    # What the rows of y add: the influence of one of them on the second mean is p/q there.
    if is_flow(first):
        log_p_y = log_density(first, y)
    else:
        log_p_y = fit_mixtures(rows, random_state)[0].push(y)[1]
    ratio = np.exp(np.minimum(log_p_y - log_q_y, _LARGEST))
    of_y = float(ratio.var(ddof=1)) / len(y)
    noise = own.noise + limit.variance + of_y
    return Estimate(own.value - limit.value, error_of(own.rows - other, row_noise, noise))


def _check_same_columns(x: Any, y: Any) -> None:
    """Refuse data frames of columns with other names, or in another order."""
    if not (hasattr(x, "columns") and hasattr(y, "columns")):
        return
    ours, theirs = ([str(name) for name in side.columns] for side in (x, y))
    if len(ours) == len(theirs) and ours != theirs:
        raise ValueError(
            f"Expected x and y with the same columns in the same order; got {', '.join(ours)} in x "
            f"and {', '.join(theirs)} in y. Rename or reorder those of one."
        )


def _side(x: Any, name: str) -> Any:
    if is_flow(x):
        return checked_flow(x)
    return checked_table(named_rows(x, name) if np.ndim(x) == 1 else x, name)


def _spread(x: Any, y: Any) -> tuple[Any, Any]:
    """Spread the ties of tables; beside a flow, a table keeps the units that the flow knows."""
    tables = {name: side for name, side in (("x", x), ("y", y)) if not is_flow(side)}
    warn_of_copies(tables)
    if len(tables) == 2:
        return comparable_rows(x, y)
    return x if is_flow(x) else without_ties(x), y if is_flow(y) else without_ties(y)
