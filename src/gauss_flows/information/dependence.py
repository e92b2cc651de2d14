"""Total, dual total and conditional dependence, as sums of mean log-densities of columns."""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from flowjax.distributions import AbstractTransformed
from jaxtyping import ArrayLike, Float
from numpy.typing import NDArray

from gauss_flows.information.copula import Columns, Total, mean_difference
from gauss_flows.information.entropy import N_SAMPLES, exact
from gauss_flows.information.flows import checked_flow, draw, is_flow, log_density, map_of
from gauss_flows.information.laparra import route
from gauss_flows.information.log_density import completed
from gauss_flows.information.tables import joined, rows_beside_flow, rows_for_dependence
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.options import check_seed

# Errors by which two ways to the same figure may differ.
_FAR = 3.0
# Nats that are not worth a warning.
_SMALL = 0.02


def total_correlation(
    x: Float[ArrayLike, "n d"] | AbstractTransformed,
    rows: Float[ArrayLike, "n d"] | None = None,
    *,
    random_state: int = 0,
) -> Estimate:
    r"""Total correlation, how far columns are from independent of each other.

    $$T(x) = \sum_i H(x_i) - H(x) = \mathrm{E} \log \frac{p(x)}{\prod_i p_i(x_i)} \ge 0$$

    A table's is found twice. Laparra's route is the sum over the layers of RBIG of the drop in the
    marginal negentropies, which needs one-dimensional entropies only, and what is left after the
    last, the latents' divergence from normal. It is checked against a density's own account of the
    rows, which is the value given, being the less noisy one.

    Args:
        x: A table of shape (n, d), or a flow, whose own total correlation is then found from draws.
        rows: With a flow, rows of shape (n, d): theirs is found, with the flow as the map.
        random_state: Seed of the fits, or of the draws.

    Returns:
        The total correlation and its standard error, in nats; 0 for a single column.

    Raises:
        ValueError: If the table has no density: row and column are named.

    Warns:
        UserWarning: If the two routes differ by more than three of their errors.

    References:
        Watanabe, *Information Theoretical Analysis of Multivariate Correlation* (1960).
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import total_correlation
        >>> rng = np.random.default_rng(0)
        >>> x = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], size=2000)
        >>> value, standard_error = total_correlation(x)
        >>> bool(abs(value + 0.5 * np.log(1 - 0.8**2)) < 3 * standard_error < 0.1)
        True
    """
    columns = _columns(x, rows, random_state)
    value = total_of(columns)
    if not is_flow(x) and columns.n_dims > 1:
        check_routes(value, route(columns.table, random_state))
    return value


def dual_total_correlation(
    x: Float[ArrayLike, "n d"] | AbstractTransformed,
    rows: Float[ArrayLike, "n d"] | None = None,
    *,
    random_state: int = 0,
) -> Estimate:
    r"""Dual total correlation, what columns share rather than have each alone.

    $$D(x) = H(x) - \sum_i H(x_i \mid x_{-i}) = \sum_i H(x_{-i}) - (d - 1) H(x) \ge 0$$

    Args:
        x: A table of shape (n, d), or a flow.
        rows: With a flow, rows of shape (n, d), as in `total_correlation`.
        random_state: Seed of the fits, or of the draws.

    Returns:
        The dual total correlation and its standard error, in nats.

    Raises:
        ValueError: If the table has no density: row and column are named.

    References:
        Han, *Nonnegative Entropy Measures of Multivariate Symmetric Correlations* (1978).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import dual_total_correlation
        >>> x = np.random.default_rng(0).normal(size=(1000, 3))
        >>> value, standard_error = dual_total_correlation(x)
        >>> bool(abs(value) < 3 * standard_error)
        True
    """
    columns = _columns(x, rows, random_state)
    return dual_of(columns)


def mutual_information(
    x: Float[ArrayLike, "n dx"], y: Float[ArrayLike, "n dy"], *, random_state: int = 0
) -> Estimate:
    r"""Mutual information of two blocks of columns of any width.

    $$I(x; y) = \mathrm{E} \log \frac{p(x, y)}{p(x)\, p(y)} \ge 0$$

    Args:
        x: Rows of shape (n, dx), or a single column of shape (n,).
        y: Rows of shape (n, dy), or a single column, in the same order.
        random_state: Seed of the fits.

    Returns:
        The mutual information and its standard error, in nats.

    Raises:
        ValueError: If the blocks have different numbers of rows, or have no joint density, as when
            a column of one is a function of the other: row and column are named.

    References:
        Shannon, *A Mathematical Theory of Communication* (1948).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import mutual_information
        >>> x, noise = np.random.default_rng(0).normal(size=(2, 1200))
        >>> value, standard_error = mutual_information(x, 0.6 * x + 0.8 * noise)
        >>> bool(abs(value + 0.5 * np.log(1 - 0.6**2)) < 3 * standard_error < 0.1)
        True
    """
    check_seed(random_state)
    table, (first, second) = joined({"x": x, "y": y})
    columns = Columns(table, random_state).with_normal_blocks([first, second])
    return _shared(columns, [first, second]).as_estimate()


def conditional_mutual_information(
    x: Float[ArrayLike, "n dx"],
    y: Float[ArrayLike, "n dy"],
    z: Float[ArrayLike, "n dz"],
    *,
    random_state: int = 0,
) -> Estimate:
    r"""Mutual information of two blocks of columns once a third is known.

    $$I(x; y \mid z) = H(x, z) + H(y, z) - H(x, y, z) - H(z) \ge 0$$

    Args:
        x: Rows of shape (n, dx), or a single column of shape (n,).
        y: Rows of shape (n, dy), or a single column.
        z: Rows of shape (n, dz), or a single column.
        random_state: Seed of the fits.

    Returns:
        The conditional mutual information and its standard error, in nats.

    Raises:
        ValueError: As in `mutual_information`.

    References:
        Cover and Thomas, *Elements of Information Theory* (2006).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.information import conditional_mutual_information
        >>> a, b, z = np.random.default_rng(0).normal(size=(3, 1200))
        >>> value, standard_error = conditional_mutual_information(a + z, b + z, z)
        >>> bool(abs(value) < 3 * standard_error < 0.1)
        True
    """
    check_seed(random_state)
    table, (first, second, given) = joined({"x": x, "y": y, "z": z})
    columns = Columns(table, random_state)
    chained = []
    for one, other in ((first, second), (second, first)):
        whole = np.sort(np.r_[one, given])
        latents = columns.with_normal_blocks([whole, other])
        if latents is not columns:
            # I(x; y | z) = I(x, z; y) − I(z; y), where x and z have a shape of their own.
            alone = Columns(table[:, [*given, *other]], random_state)
            blocks = np.split(np.arange(alone.n_dims), [len(given)])
            alone = alone.with_normal_blocks(blocks)
            chained.append((_shared(latents, [whole, other]), _shared(alone, blocks)))
    if chained:
        return mean_difference(chained)
    return columns.combination(
        [
            (1, [*first, *second, *given]),
            (1, given),
            (-1, [*first, *given]),
            (-1, [*second, *given]),
        ]
    )


def _shared(columns: Columns, blocks: Sequence[NDArray[np.int_]]) -> Total:
    """What blocks of columns have in common."""
    return columns.total([(1, range(columns.n_dims)), *((-1, block) for block in blocks)])


def total_of(columns: Columns) -> Estimate:
    """Total correlation of all columns.

    Args:
        columns: The columns.

    Returns:
        The estimate in nats.
    """
    every = range(columns.n_dims)
    return columns.combination([(1.0, every), *((-1.0, [i]) for i in every)])


def dual_of(columns: Columns) -> Estimate:
    """Dual total correlation of all columns.

    Args:
        columns: The columns.

    Returns:
        The estimate in nats.
    """
    every = set(range(columns.n_dims))
    rest = [(-1.0, every - {i}) for i in every]
    return columns.combination([(columns.n_dims - 1.0, every), *rest])


def _columns(x: Any, rows: Any, random_state: int) -> Columns:
    check_seed(random_state)
    if not is_flow(x):
        if rows is not None:
            raise ValueError("Expected rows only beside a flow; got two tables.")
        return Columns(rows_for_dependence(x), random_state)
    flow = checked_flow(x)
    if rows is None:
        table = draw(flow, N_SAMPLES, random_state)
        joint = exact(log_density(flow, table))
    else:
        table = rows_beside_flow(rows, flow.shape[0])
        joint = completed(map_of(flow), table, has_edges=False)
    return Columns(table, random_state, joint)


def check_routes(value: Estimate, other: Estimate) -> None:
    """Warn if two routes to the same total correlation differ by more than their errors.

    Args:
        value: The density's account.
        other: That of RBIG's layers.
    """
    gap = abs(value.value - other.value)
    if gap > max(_SMALL, _FAR * np.hypot(value.standard_error, other.standard_error)):
        warnings.warn(
            f"Two ways to the total correlation differ: {value.value:.3f} ± "
            f"{value.standard_error:.3f} nats by a density, {other.value:.3f} ± "
            f"{other.standard_error:.3f} by the layers of RBIG. The rows may be too few for what "
            "they hold.",
            stacklevel=3,
        )
