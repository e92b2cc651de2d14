"""Conditional moments by bins of one passive coordinate."""

import jax.numpy as jnp
import numpy as np
from scipy.interpolate import PchipInterpolator
from scipy.special import digamma

from gauss_flows.affine.moment_functions import PiecewiseMoments, RowMoments
from gauss_flows.affine.penalized import VARIANCE_FLOOR
from gauss_flows.affine.spline_moments import ends

N_BINS = 32
_LEAST_IN_BIN = 2
_ROWS_PER_BIN = 24
_MOST_BINS = 128
_FEWEST_BINS = 3


def equal_width_moments(p: np.ndarray, a: np.ndarray) -> tuple[PiecewiseMoments, RowMoments]:
    """Mean and variance of the rows in each of 32 bins of equal width, as the paper has them.

    A bin with a single row takes the variance of all; one without rows the moments of all.

    Args:
        p: Passive coordinate, shape (n, 1).
        a: Active coordinates, shape (n, d_active).

    Returns:
        The moments as functions, and at the rows.

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Example 4.
    """
    p = p[:, 0]
    low, high = float(p.min()), float(p.max())
    if high == low:
        low, high = ends(p)
    breaks = np.linspace(low, high, N_BINS + 1)
    place = np.clip(((p - low) / (high - low) * N_BINS).astype(int), 0, N_BINS - 1)
    count = np.bincount(place, minlength=N_BINS)
    values = np.empty((3, a.shape[1], N_BINS))
    for index, column in enumerate(a.T):
        total = column.var()
        safe = np.maximum(count, 1)
        mean = np.bincount(place, column, N_BINS) / safe
        square = np.bincount(place, (column - mean[place]) ** 2, N_BINS) / safe
        floor = VARIANCE_FLOOR * (total if total > 0 else 1.0)
        variance = np.maximum(np.where(count >= _LEAST_IN_BIN, square, total), floor)
        values[0, index] = np.where(count > 0, mean, column.mean())
        values[1, index] = np.log(variance)
        values[2, index] = np.log(variance * (1.0 + 1.0 / safe) + total / len(p))
    coefficients = np.zeros((*values.shape, 4))
    coefficients[..., 0] = values
    moments = PiecewiseMoments(jnp.asarray(breaks, float), jnp.asarray(coefficients, float))
    return moments, RowMoments.of(a, values[0][:, place].T, values[1][:, place].T)


def local_linear_moments(p: np.ndarray, a: np.ndarray) -> tuple[PiecewiseMoments, RowMoments]:
    r"""Straight lines through equal counts of rows, joined by monotone cubics at their centres.

    Of k degrees of freedom in a bin,
    $\operatorname{E} \log(\mathrm{RSS} / k) = \log\sigma^2 + \psi(k/2) - \log(k/2)$, and this
    is taken off.

    Args:
        p: Passive coordinate, shape (n, 1).
        a: Active coordinates, shape (n, d_active).

    Returns:
        The moments as functions, and at the rows.
    """
    x = p[:, 0]
    n_bins = int(np.clip(len(x) // _ROWS_PER_BIN, _FEWEST_BINS, _MOST_BINS))
    bins = np.array_split(np.argsort(x, kind="stable"), n_bins)
    centres = np.array([np.median(x[rows]) for rows in bins])
    places, first = np.unique(centres, return_index=True)
    lines = np.stack(
        [_line_at(centre, x[rows], a[rows]) for centre, rows in zip(centres, bins, strict=True)]
    )
    mean = _through(places, lines[first])
    residual = a - mean(np.clip(x, places[0], places[-1]))
    total = a.var(0)
    floor = VARIANCE_FLOOR * np.where(total > 0, total, 1.0)
    logs = []
    for rows in bins:
        free = len(rows) - 2 if np.ptp(x[rows]) > 0 else len(rows) - 1
        own = np.maximum(_squares_about_line(x[rows], a[rows]) / free, floor)
        debiased = np.log(own) + np.log(free / 2.0) - digamma(free / 2.0)
        # About the cubics rather than the line, since these are the mean that a layer takes off.
        # Wider by the errors of the mean and of the variance itself, see `MomentFit.at`.
        variance = np.maximum((residual[rows] ** 2).sum(0) / free, floor)
        wider = (1.0 + 1.0 / len(rows)) * free / max(free - 2.0, 1.0)
        logs.append(np.stack([debiased, np.log(variance * wider + total / len(x))]))
    spread = _through(places, np.stack(logs)[first])
    parts = np.concatenate([mean.c[:, :, None], spread.c], axis=2)
    widths = np.diff(mean.x).reshape(-1, 1, 1)
    powers = np.stack([parts[3 - j] * widths**j for j in range(4)], axis=-1)
    moments = PiecewiseMoments(
        jnp.asarray(mean.x, float), jnp.asarray(np.moveaxis(powers, 0, 2), float)
    )
    inside = np.clip(x, places[0], places[-1])
    return moments, RowMoments.of(a, mean(inside), spread(inside)[:, 0])


def _line_at(centre: float, x: np.ndarray, a: np.ndarray) -> np.ndarray:
    return a.mean(0) + (centre - x.mean()) * _slope(x, a)


def _squares_about_line(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    residual = a - a.mean(0) - (x - x.mean())[:, None] * _slope(x, a)
    return (residual**2).sum(0)


def _slope(x: np.ndarray, a: np.ndarray) -> np.ndarray:
    away = x - x.mean()
    spread = float(away @ away)
    return away @ a / spread if spread > 0 else np.zeros(a.shape[1])


def _through(places: np.ndarray, values: np.ndarray) -> PchipInterpolator:
    if len(places) == 1:
        low, high = ends(places)
        places, values = np.array([low, high]), np.repeat(values, 2, axis=0)
    return PchipInterpolator(places, values, axis=0)
