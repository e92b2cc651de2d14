"""Entropy and negentropy of tables and of flows."""

from typing import Any

import numpy as np
from flowjax.distributions import AbstractTransformed
from jaxtyping import ArrayLike, Float
from scipy.special import digamma

from gauss_flows.information.copula import Columns, error_of
from gauss_flows.information.flows import checked_flow, draw, is_flow, log_density, map_of
from gauss_flows.information.log_density import MeanLogDensity, completed
from gauss_flows.information.tables import checked_rows, finite_rows, rows_beside_flow
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.options import check_seed

N_SAMPLES = 20_000


def entropy(
    x: Float[ArrayLike, "n d"] | AbstractTransformed,
    rows: Float[ArrayLike, "n d"] | None = None,
    *,
    random_state: int = 0,
) -> Estimate:
    r"""Differential entropy $H(x) = -\mathrm{E} \log p(x)$.

    For a table, a map to nearly normal latents z is fitted, with density q, and what it misses is
    estimated from nearest neighbours among the latents,

    $$H(x) = -\mathrm{E} \log q(x) - \mathrm{KL}(p_z \,\|\, N(0, I)).$$

    For a flow, it is the entropy of the flow itself, over draws from it; for a flow and rows, that
    of the rows, with the flow as the map.

    Args:
        x: A table of shape (n, d), or a flow.
        rows: With a flow, rows of shape (n, d) that it was fitted to or not.
        random_state: Seed of the fits, or of the draws.

    Returns:
        The entropy and its standard error, in nats.

    Raises:
        ValueError: If the table has no density: row and column are named.

    Warns:
        UserWarning: If columns hold whole numbers or are nearly dependent, or rows are copies.

    References:
        Kozachenko and Leonenko, *Sample Estimate of the Entropy of a Random Vector* (1987).
        Ao and Li, *Entropy Estimation via Normalizing Flow* (2022).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import entropy
        >>> x = np.random.default_rng(0).uniform(0.0, 2.0, size=(2000, 2))
        >>> value, standard_error = entropy(x)
        >>> bool(abs(value - 2 * np.log(2.0)) < 3 * standard_error < 0.1)
        True
    """
    check_seed(random_state)
    if is_flow(x):
        return entropy_from(_of_flow(x, rows, random_state))
    _no_rows(rows)
    table, log_unit = checked_rows(x)
    return entropy_from(_of_table(table, random_state), log_unit)


def negentropy(
    x: Float[ArrayLike, "n d"] | AbstractTransformed,
    rows: Float[ArrayLike, "n d"] | None = None,
    *,
    random_state: int = 0,
) -> Estimate:
    r"""How far a density is from the normal one of its mean and full covariance.

    $$J(x) = \tfrac12 \log \bigl((2 \pi e)^d \lvert \Sigma \rvert\bigr) - H(x) \ge 0$$

    Args:
        x: A table of shape (n, d), or a flow.
        rows: With a flow, rows of shape (n, d), as in `entropy`.
        random_state: Seed of the fits, or of the draws.

    Returns:
        The negentropy and its standard error, in nats. Normal data give 0 within it, negative as
        often as positive.

    Raises:
        ValueError: If the table has no density: row and column are named.

    References:
        Comon, *Independent Component Analysis, a New Concept?* (1994).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import negentropy
        >>> x = np.random.default_rng(0).uniform(size=(2000, 2))
        >>> value, standard_error = negentropy(x)
        >>> bool(abs(value - np.log(np.pi * np.e / 6)) < 3 * standard_error < 0.1)
        True
    """
    check_seed(random_state)
    if is_flow(x):
        flow = checked_flow(x)
        if rows is None:
            table = draw(flow, N_SAMPLES, random_state)
            found = exact(log_density(flow, table))
        else:
            table = finite_rows(rows, flow.shape[0])
            found = _of_flow(flow, rows, random_state)
    else:
        _no_rows(rows)
        table, _ = checked_rows(x)
        found = _of_table(table, random_state)
    return negentropy_from(found, table)


def negentropy_from(found: MeanLogDensity, table: Float[np.ndarray, "n d"]) -> Estimate:
    """Negentropy of rows whose mean log-density is known.

    Args:
        found: That estimate.
        table: The rows, shape (n, d).

    Returns:
        The negentropy in nats.
    """
    normal = _normal_log_density(table)
    value = found.value - normal.mean() + _normal_optimism(*table.shape)
    return Estimate(float(value), error_of(found.rows - normal, found.row_noise, found.noise))


def exact(log_densities: Float[np.ndarray, " n"]) -> MeanLogDensity:
    """The mean of log-densities that are known.

    Args:
        log_densities: Log-densities of rows, shape (n,).

    Returns:
        Their mean, without noise of its own.
    """
    mean = float(log_densities.mean())
    return MeanLogDensity(mean, 0.0, log_densities, 0.0, mean)


def _of_flow(flow: AbstractTransformed, rows: Any, random_state: int) -> MeanLogDensity:
    checked_flow(flow)
    if rows is None:
        return exact(log_density(flow, draw(flow, N_SAMPLES, random_state)))
    table = rows_beside_flow(rows, flow.shape[0])
    return completed(map_of(flow), table, has_edges=False)


def _of_table(table: Float[np.ndarray, "n d"], random_state: int) -> MeanLogDensity:
    return Columns(table, random_state).whole()


def entropy_from(found: MeanLogDensity, log_unit: float = 0.0) -> Estimate:
    """Entropy of rows whose mean log-density is known.

    Args:
        found: That estimate.
        log_unit: Logarithm of the product of the units that it was found in, in nats.

    Returns:
        The entropy in nats.
    """
    return Estimate(log_unit - found.value, error_of(found.rows, found.row_noise, found.noise))


def _normal_log_density(table):
    centred = table - table.mean(0)
    covariance = centred.T @ centred / len(table)
    squares = np.einsum("ni,ij,nj->n", centred, np.linalg.inv(covariance), centred)
    log_det = np.linalg.slogdet(covariance)[1]
    return -0.5 * (squares + log_det + table.shape[1] * np.log(2 * np.pi))


def _normal_optimism(n_rows, n_dims):
    """By how much the fitted normal's mean log-density exceeds the one it estimates."""
    orders = (n_rows - np.arange(1, n_dims + 1)) / 2
    return 0.5 * float(np.log(n_rows / 2) * n_dims - digamma(orders).sum())


def _no_rows(rows):
    if rows is not None:
        raise ValueError("Expected rows only beside a flow; got two tables.")
