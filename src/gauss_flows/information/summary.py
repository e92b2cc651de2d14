"""The measures of one table, found together."""

from typing import NamedTuple

from jaxtyping import ArrayLike, Float

from gauss_flows.information.copula import Columns
from gauss_flows.information.dependence import check_routes, dual_of, total_of
from gauss_flows.information.entropy import entropy_from, negentropy_from
from gauss_flows.information.far import contracted
from gauss_flows.information.laparra import route
from gauss_flows.information.tables import checked_rows, in_own_units
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.options import check_seed


class Measures(NamedTuple):
    """What one table's columns hold together, in nats.

    Args:
        entropy: Differential entropy.
        negentropy: Divergence from the Gaussian of the same mean and covariance.
        total_correlation: How far the columns are from independent.
        dual_total_correlation: What they share rather than have each alone.
    """

    entropy: Estimate
    negentropy: Estimate
    total_correlation: Estimate
    dual_total_correlation: Estimate


def measures(x: Float[ArrayLike, "n d"], *, random_state: int = 0) -> Measures:
    """Find the measures of a table, each as its own function does, fitting every map once.

    Args:
        x: A table of shape (n, d).
        random_state: Seed of the fits.

    Returns:
        The measures.

    Raises:
        ValueError: If the table has no density: row and column are named.

    Warns:
        UserWarning: As `total_correlation` does.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import measures
        >>> found = measures(np.random.default_rng(0).normal(size=(1000, 2)))
        >>> bool(abs(found.entropy.value - np.log(2 * np.pi * np.e)) < 0.2)
        True
    """
    check_seed(random_state)
    table, log_unit = checked_rows(x)
    columns = Columns(table, random_state)
    joint = columns.whole()
    near = contracted(table)
    related = columns if near is table else Columns(in_own_units(near)[0], random_state)
    total = total_of(related)
    if columns.n_dims > 1:
        check_routes(total, route(near, random_state))
    return Measures(
        entropy_from(joint, log_unit), negentropy_from(joint, table), total, dual_of(related)
    )
