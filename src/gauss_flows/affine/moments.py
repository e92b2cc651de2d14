"""Mean and variance of active coordinates given passive ones."""

from bisect import bisect_left
from typing import Literal, get_args

from jaxtyping import ArrayLike, Float

from gauss_flows.affine.arguments import check_choice
from gauss_flows.affine.bin_moments import equal_width_moments, local_linear_moments
from gauss_flows.affine.boosting_moments import boosting_moments
from gauss_flows.affine.fourier_moments import fourier_moments
from gauss_flows.affine.moment_functions import ConditionalMoments, RowMoments
from gauss_flows.affine.spline_moments import spline_moments
from gauss_flows.rbig.checks import check_finite_table
from gauss_flows.rbig.options import check_seed
from gauss_flows.training.split import count_fitted

MomentMethod = Literal["auto", "equal_width", "local_linear", "spline", "fourier", "boosting"]

_ONE_PASSIVE = ("equal_width", "local_linear", "spline")
_LEAST_ROWS = {
    "equal_width": 2,
    "local_linear": 12,
    "spline": 12,
    "fourier": 24,
    "boosting": 200,
}
_ROWS_PER_FREE_COEFFICIENT = 4
_MORE_THAN_ENOUGH = 10**15


def conditional_moments(
    p: Float[ArrayLike, "n d_passive"],
    a: Float[ArrayLike, "n d_active"],
    *,
    method: MomentMethod = "auto",
    random_state: int = 0,
) -> ConditionalMoments:
    r"""Estimate the mean m(p) and the variance σ²(p) of a given p.

    | method | for | what it is |
    |---|---|---|
    | ``"equal_width"`` | one passive coordinate | 32 bins of equal width, the paper's |
    | ``"local_linear"`` | one | lines through equal counts, log-variances freed of their bias |
    | ``"spline"`` | one | penalised splines, smoothed by restricted likelihood |
    | ``"fourier"`` | any number | ridge regression on random Fourier features |
    | ``"boosting"`` | any number | gradient-boosted trees, cross-fitted; NumPy only |

    Trees are for laws with jumps and for many rows: on smooth ones they miss more of the mean than
    Fourier features do, and the gain they promise, which is cross-fitted, falls short by that (0.12
    of 0.54 nats with five passive coordinates and 2048 rows).

    Beyond the extreme quantiles of p all are constant, and the variance is the predictive one,
    never below 1/n of the column's own: a fresh row may be unlike all that were seen. Without
    these a flow of such layers has no bound on fresh rows.

    Args:
        p: Passive coordinates, shape (n, d_passive).
        a: Active coordinates, shape (n, d_active).
        method: See above; ``"auto"`` is splines for one passive coordinate, Fourier features for
            more.
        random_state: Seed of the features or folds.

    Returns:
        The moments as functions of p.

    Raises:
        ValueError: If p and a are no tables of finite numbers with the same number of rows, these
            are too few for the method, or it is unknown or not for so many passive coordinates.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Lemma 1 and Example 4.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.affine import conditional_moments
        >>> rng = np.random.default_rng(0)
        >>> p = rng.uniform(-2, 2, size=(4000, 1))
        >>> a = np.sin(2 * p) + 0.5 * rng.normal(size=(4000, 1))
        >>> moments = conditional_moments(p, a)
        >>> bool(abs(moments.mean([0.5])[0] - np.sin(1.0)) < 0.05)
        True
        >>> bool(abs(moments.variance([0.5])[0] - 0.25) < 0.05)
        True
    """
    return fit_conditional_moments(p, a, method, random_state)[0]


def fit_conditional_moments(
    p: ArrayLike, a: ArrayLike, method: MomentMethod, random_state: int, n_simulations: int = 0
) -> tuple[ConditionalMoments, RowMoments]:
    """`conditional_moments`, and the moments at the rows, cross-fitted where the method is.

    With ``n_simulations`` the rows' moments know what Fourier features find by chance.
    """
    passive, active = check_finite_table(p, name="p"), check_finite_table(a, name="a")
    if len(passive) != len(active):
        raise ValueError(
            f"Expected p and a with the same number of rows; got {len(passive)} and {len(active)}."
        )
    check_seed(random_state)
    n_rows, n_passive = passive.shape
    method = check_enough_rows(method, n_rows, n_passive)
    if method == "fourier":
        return fourier_moments(passive, active, random_state, n_simulations)
    if method == "boosting":
        return boosting_moments(passive, active, random_state)
    one = {
        "equal_width": equal_width_moments,
        "local_linear": local_linear_moments,
        "spline": spline_moments,
    }
    return one[method](passive, active)


def check_enough_rows(
    method: MomentMethod,
    n_rows: int,
    n_passive: int,
    *,
    fewest: int = 1,
    val_prop: float = 0.0,
    n_folds: int | None = None,
) -> MomentMethod:
    """Refuse a table that leaves a method too few rows once it is split.

    Args:
        method: How to estimate the moments.
        n_rows: Number of rows of the table.
        n_passive: Number of passive coordinates.
        fewest: Rows that are needed beside the held-out ones whatever the method.
        val_prop: Share of the rows that is held out first.
        n_folds: Number of folds of the others, of which each fit leaves out one; by default all
            are fitted.

    Returns:
        The method that ``"auto"`` stands for, or the method itself.

    Raises:
        ValueError: If the method is unknown or not for so many passive coordinates, or the rows
            are too few, with the number that would do.
    """
    check_choice("method", method, get_args(MomentMethod))
    if method == "auto":
        method = "spline" if n_passive == 1 else "fourier"
    if method in _ONE_PASSIVE and n_passive != 1:
        raise ValueError(
            f"Expected one passive coordinate for method {method!r}; got {n_passive}. Use "
            '"fourier" or "boosting".'
        )
    least = _LEAST_ROWS[method]
    if method == "fourier":
        # Constant and p itself are fitted without a penalty.
        least = max(least, _ROWS_PER_FREE_COEFFICIENT * (1 + n_passive))

    def are_enough(rows: int) -> bool:
        fitted = count_fitted(rows, val_prop)
        left_out = 0 if n_folds is None else -(-fitted // n_folds)
        return fitted >= fewest and fitted - left_out >= least

    if not are_enough(n_rows):
        needed = bisect_left(range(_MORE_THAN_ENOUGH), True, key=are_enough)
        share = f", {least} of them for each fit" if needed > max(least, fewest) else ""
        raise ValueError(
            f"Expected at least {needed} rows for method {method!r}{share}; got {n_rows}."
        )
    return method


__all__ = [
    "ConditionalMoments",
    "MomentMethod",
    "check_enough_rows",
    "conditional_moments",
    "fit_conditional_moments",
]
