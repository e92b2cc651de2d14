"""When another layer no longer lowers the total correlation by more than its sampling error."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from gauss_flows.numerics.estimate import Estimate

WINDOW = 3
_N_ERRORS = 2.0
_MOST_NULL_ROWS = 20_000


class Gains(NamedTuple):
    """What one layer gained, row by row, on the data and on normal rows treated alike.

    Args:
        rows: Gain in log-density of every row in nats, shape (n,).
        null: The same of independent normal rows taken through the same fits, shape (m,).
    """

    rows: Float[np.ndarray, " n"]
    null: Float[np.ndarray, " m"]


def total_correlation_drop(
    gains: Gains, sample_weight: Float[np.ndarray, " n"] | None = None
) -> Estimate:
    r"""The total correlation that a layer removes, with its sampling error.

    A rotation y = Q x leaves the entropy of the whole as it is, and what happens to single
    coordinates afterwards leaves the total correlation as it is, so that it falls by

    $$\Delta T = \sum_i h(x_i) - \sum_i h(y_i)
    = \mathrm{E} \Bigl[\sum_i \log f_i(y_i) - \sum_i \log g_i(x_i)\Bigr]$$

    with the marginal densities f after and g before. Where x is marginally normal already these
    are the negentropies of the new marginals, as |y| = |x|. Being averaged over the rows that the
    rotation and the densities were fitted to, it is positive even for independent data. That part
    hardly depends on the data, and is taken off by what the same procedure gains on independent
    normal rows.

    Args:
        gains: Gains of the layer, or their sum over several layers.
        sample_weight: Weights of the rows, shape (n,).

    Returns:
        The drop in nats and its standard error.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).
    """
    gain = Estimate.of_mean(gains.rows, sample_weight)
    null = Estimate.of_mean(gains.null)
    # Optimism goes as one over the number of rows.
    ratio = len(gains.null) / effective_rows(sample_weight, len(gains.rows))
    error = np.hypot(gain.standard_error, ratio * null.standard_error)
    return Estimate(float(gain.value - ratio * null.value), float(error))


def sum_of_gains(layers: list[Gains]) -> Gains:
    """The gains of several layers together, row by row.

    Args:
        layers: Gains of at least one layer.

    Returns:
        Their sum.
    """
    return Gains(*(np.sum(parts, axis=0) for parts in zip(*layers, strict=True)))


def is_independent(layers: list[Gains], sample_weight: Float[np.ndarray, " n"] | None) -> bool:
    """Whether some layers together removed no more than twice the sampling error.

    Args:
        layers: Gains of the layers.
        sample_weight: Weights of the rows, shape (n,).

    Returns:
        True if what was left to remove cannot be told from nothing.
    """
    drop = total_correlation_drop(sum_of_gains(layers), sample_weight)
    return not drop.value > _N_ERRORS * drop.standard_error


def effective_rows(sample_weight: Float[np.ndarray, " n"] | None, n_rows: int) -> float:
    """Number of equally weighted rows that would average as well.

    Args:
        sample_weight: Weights, shape (n,), or None.
        n_rows: Number of rows.

    Returns:
        The number, `n_rows` for equal weights.
    """
    if sample_weight is None:
        return float(n_rows)
    return float(sample_weight.sum() ** 2 / (sample_weight**2).sum())


def null_rows(
    n_dims: int, sample_weight: Float[np.ndarray, " n"] | None, n_rows: int, random_state: int
) -> Float[np.ndarray, "m d"]:
    """Independent standard normal rows, as many as the data's but at most 20 000.

    Args:
        n_dims: Number of columns.
        sample_weight: Weights of the data's rows, shape (n,), or None.
        n_rows: Number of the data's rows.
        random_state: Seed.

    Returns:
        The rows, shape (m, d).
    """
    m = max(2, min(round(effective_rows(sample_weight, n_rows)), _MOST_NULL_ROWS))
    return np.random.default_rng([random_state, m, n_dims]).normal(size=(m, n_dims))
