"""Conditional moments as penalised splines of one passive coordinate."""

from typing import Any

import numpy as np
from scipy.interpolate import BSpline

from gauss_flows.affine.moment_functions import PiecewiseMoments, RowMoments, piecewise_from_values
from gauss_flows.affine.penalized import MomentFit, fit_moments

_DEGREE = 3
_ROWS_PER_KNOT = 8
_FEWEST_KNOTS, _MOST_KNOTS = 6, 64
# Values that the cubics between them pass through, for each piece of the spline.
_PLACES_PER_PIECE = 3
# Share of the rows beyond whose p, on each side, both moments are constant.
_BEYOND = 0.001
_FEWEST_BEYOND = 5
_SPREAD = 0.02


def spline_moments(p: np.ndarray, a: np.ndarray) -> tuple[PiecewiseMoments, RowMoments]:
    r"""Penalised cubic splines for the mean and the log-variance.

    $$\min_{m, \eta} \sum_i \frac{(a_i - m(p_i))^2}{e^{\eta(p_i)}} + \eta(p_i) +
    \lambda_m \int m''^2 + \lambda_\eta \int \eta''^2,$$

    the strengths λ by restricted maximum likelihood. Half of the knots follow the quantiles of p,
    half its range.

    Args:
        p: Passive coordinate, shape (n, 1).
        a: Active coordinates, shape (n, d_active).

    Returns:
        The moments as functions, and at the rows.

    References:
        Eilers and Marx, *Flexible Smoothing with B-splines and Penalties* (1996); Wood, *Fast
        Stable Restricted Maximum Likelihood and Marginal Likelihood Estimation of Semiparametric
        Generalized Linear Models* (2011).
    """
    p = p[:, 0]
    low, high = ends(p)
    unit = np.clip((p - low) / (high - low), 0.0, 1.0)
    edges = _edges(unit)
    knots = np.concatenate([[0.0] * _DEGREE, edges, [1.0] * _DEGREE])
    basis = BSpline.design_matrix(unit, knots, _DEGREE)
    penalty = _roughness(knots, edges)
    fits = [fit_moments(basis, penalty, column, hidden=True) for column in a.T]
    places = np.interp(
        np.arange((len(edges) - 1) * _PLACES_PER_PIECE + 1) / _PLACES_PER_PIECE,
        np.arange(len(edges)),
        edges,
    )
    grid = BSpline.design_matrix(places, knots, _DEGREE)
    values = np.stack([np.stack(fit.at(grid)) for fit in fits], axis=1)
    return piecewise_from_values(values, low + (high - low) * places), rows_of(fits, basis, a)


def ends(p: np.ndarray) -> tuple[float, float]:
    """The extreme quantiles of p, a little apart even where p is constant."""
    ordered = np.sort(p)
    beyond = max(int(np.ceil(_BEYOND * len(p))), min(_FEWEST_BEYOND, len(p) // 20))
    beyond = min(beyond, (len(p) - 1) // 2)
    low, high = float(ordered[beyond]), float(ordered[-1 - beyond])
    # Where all but a few are the same, these say how far apart is near.
    least = 1e-6 * max(abs(low), abs(high), float(ordered[-1] - ordered[0])) or 1.0
    if high - low < least:
        low, high = low - least, high + least
    return low, high


def rows_of(fits: list[MomentFit], basis: Any, a: np.ndarray) -> RowMoments:
    """The moments at the rows of a basis."""
    at = [fit.at_own_rows(basis, column) for fit, column in zip(fits, a.T, strict=True)]
    mean, log_variance, influence, left_out_mean, left_out_log_variance = (
        np.stack(part, axis=1) for part in zip(*at, strict=True)
    )
    return RowMoments(mean, log_variance, influence, left_out_mean, left_out_log_variance)


def _edges(unit: np.ndarray) -> np.ndarray:
    n_pieces = int(np.clip(len(unit) // _ROWS_PER_KNOT, _FEWEST_KNOTS, _MOST_KNOTS))
    # Half the rows where they are, half spread evenly: the quantiles of both together.
    even = np.linspace(0.0, 1.0, len(unit))
    edges = np.quantile(np.concatenate([unit, even]), np.linspace(0.0, 1.0, n_pieces + 1))
    # Ties would make knots fall together, where a spline breaks.
    edges = (1.0 - _SPREAD) * edges + _SPREAD * np.linspace(0.0, 1.0, n_pieces + 1)
    edges[0], edges[-1] = 0.0, 1.0
    return edges


def _roughness(knots: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Integral of the products of the basis functions' second derivatives."""
    size = len(knots) - _DEGREE - 1
    second = BSpline(knots, np.eye(size), _DEGREE).derivative(2)
    # They are straight between the edges, so two nodes a piece integrate their products.
    nodes = 0.5 * np.array([-1.0, 1.0]) / np.sqrt(3.0)
    widths = np.diff(edges)
    middle = 0.5 * (edges[1:] + edges[:-1])
    values = second((middle[:, None] + widths[:, None] * nodes).ravel())
    weights = np.repeat(0.5 * widths, 2)
    return values.T @ (weights[:, None] * values)
