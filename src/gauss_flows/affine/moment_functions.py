"""Conditional mean and variance as functions of the passive coordinates."""

from abc import abstractmethod
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float
from scipy.interpolate import PchipInterpolator

from gauss_flows.affine.arguments import real_array
from gauss_flows.numerics.normal import LOG_SQRT_2PI

_TINY = 1e-12


class ConditionalMoments(eqx.Module):
    """Mean and variance of active coordinates a given passive ones p, fitted to data.

    Beyond the extreme quantiles of the data's p both are constant. All methods take p of shape
    (..., d_passive) and return shape (..., d_active).
    """

    @property
    @abstractmethod
    def n_passive(self) -> int:
        """Number of passive coordinates."""

    @property
    @abstractmethod
    def n_active(self) -> int:
        """Number of active coordinates."""

    @property
    def differentiable(self) -> bool:
        """Whether the functions are JAX's, to be compiled and differentiated."""
        return True

    @abstractmethod
    def mean(self, p: Float[ArrayLike, "... d_passive"]) -> Float[Array, "... d_active"]:
        """E[a | p]."""

    @abstractmethod
    def log_variance(self, p: Float[ArrayLike, "... d_passive"]) -> Float[Array, "... d_active"]:
        """Log Var[a | p], with the bias of its estimate taken off."""

    @abstractmethod
    def variance(self, p: Float[ArrayLike, "... d_passive"]) -> Float[Array, "... d_active"]:
        """Predictive variance: that of a fresh a about the fitted mean, errors of the fit included.

        It is what a layer should divide by: with log_variance alone a flow of such layers is too
        sure of itself where data are few.
        """


class RowMoments(NamedTuple):
    """The moments at the rows they were fitted to, cross-fitted where the method is.

    Args:
        mean: Means, shape (n, d_active).
        log_variance: Logarithms of the variances, shape (n, d_active).
        influence: Of each row on the mean of −½ log σ² over all: ½ (1 − log σ² − r²/σ²) at
            moments that the row took no part in, shape (n, d_active).
        left_out_mean: Mean that the row would find if it had not been fitted, shape
            (n, d_active).
        left_out_log_variance: The predictive log-variance likewise, shape (n, d_active).
        is_cross_fitted: Whether the moments, too, come from fits that have not seen the row.
        by_chance: By how much the mean of −½ log σ² over the rows was too large in simulations
            of the fit, in nats: mean over them and root mean square, shape (2, d_active); `None`
            without any.
    """

    mean: Float[np.ndarray, "n d_active"]
    log_variance: Float[np.ndarray, "n d_active"]
    influence: Float[np.ndarray, "n d_active"]
    left_out_mean: Float[np.ndarray, "n d_active"]
    left_out_log_variance: Float[np.ndarray, "n d_active"]
    is_cross_fitted: bool = False
    by_chance: Float[np.ndarray, "2 d_active"] | None = None

    @classmethod
    def of(
        cls,
        a: np.ndarray,
        mean: np.ndarray,
        log_variance: np.ndarray,
        *,
        is_cross_fitted: bool = False,
    ) -> "RowMoments":
        """With influences as the moments themselves give them, nothing left out."""
        ratio = (a - mean) ** 2 * np.exp(-log_variance)
        influence = 0.5 * (1.0 - log_variance - ratio)
        return cls(mean, log_variance, influence, mean, log_variance, is_cross_fitted)

    def log_reference(self, a: Float[np.ndarray, "n d_active"]) -> Float[np.ndarray, "n d_active"]:
        """Log-densities of the rows under normals of the moments, free of the moments' errors.

        Their mean is −½ E log 2πe σ² at the best estimate of that, in nats.
        """
        own = self.influence
        if not self.is_cross_fitted:
            # With cross-fitted moments the ratio's excess over 1 makes up for their errors.
            own = own - own.mean(0) - 0.5 * self.log_variance.mean(0)
        if self.by_chance is not None:
            # Smoothing misses as much of real structure as it takes from noise. Where all that
            # was found is what chance finds, nothing was missed.
            chance = np.maximum(self.by_chance[0], 0.0)
            found = own.mean(0) + 0.5 * np.log(a.var(0))
            own = own - chance * chance / np.maximum(found, chance + _TINY)
        return own - 0.5 - LOG_SQRT_2PI

    def simulated_error(self) -> Float[np.ndarray, " d_active"]:
        """Root mean square of what simulations overstate, in nats; zero without any."""
        return np.zeros(self.mean.shape[1]) if self.by_chance is None else self.by_chance[1]

    def left_out_gain(self, a: Float[np.ndarray, "n d_active"]) -> Float[np.ndarray, " n"]:
        """Log-density that each row gains at the moments without it, in nats, shape (n,)."""
        with np.errstate(over="ignore"):
            square = (a - self.left_out_mean) ** 2 * np.exp(-self.left_out_log_variance)
        return 0.5 * np.sum(a**2 - square - self.left_out_log_variance, axis=1)


class PiecewiseMoments(ConditionalMoments):
    """Moments that are piecewise cubic in one passive coordinate.

    Args:
        breaks: Ends of the K pieces in order, shape (K + 1,); constant beyond the outer ones.
        coefficients: Of mean, log-variance and log of the predictive variance, in powers of the
            place in the piece as a share of it, shape (3, d_active, K, 4), lowest power first.
    """

    breaks: Float[Array, " K+1"]
    coefficients: Float[Array, "3 d_active K 4"]

    @property
    def n_passive(self) -> int:
        """One."""
        return 1

    @property
    def n_active(self) -> int:
        """Number of active coordinates."""
        return self.coefficients.shape[1]

    def mean(self, p: Float[ArrayLike, "... 1"]) -> Float[Array, "... d_active"]:
        """E[a | p]."""
        return self._evaluate(0, p)

    def log_variance(self, p: Float[ArrayLike, "... 1"]) -> Float[Array, "... d_active"]:
        """Log Var[a | p], with the bias of its estimate taken off."""
        return self._evaluate(1, p)

    def variance(self, p: Float[ArrayLike, "... 1"]) -> Float[Array, "... d_active"]:
        """Predictive variance."""
        # Between the places that they were fitted at, either may bend past the other.
        return jnp.exp(jnp.maximum(self._evaluate(2, p), self._evaluate(1, p)))

    def _evaluate(self, which: int, p: ArrayLike) -> Array:
        # The data's own places are not a parameter of the map: fine-tuning moves the values.
        breaks = jax.lax.stop_gradient(self.breaks)
        p = jnp.clip(jnp.asarray(check_width(p, 1))[..., 0], breaks[0], breaks[-1])
        last = breaks.size - 2
        piece = jnp.clip(
            jnp.searchsorted(breaks, p, side="right", method="compare_all") - 1, 0, last
        )
        left, right = breaks[piece], breaks[piece + 1]
        t = ((p - left) / jnp.where(right > left, right - left, 1.0))[..., None]
        own = jnp.moveaxis(self.coefficients[which][:, piece], 0, -2)
        return own[..., 0] + t * (own[..., 1] + t * (own[..., 2] + t * own[..., 3]))


def check_width(p: ArrayLike, n_passive: int) -> Array | np.ndarray:
    """Points of the passive coordinates, once their width is seen to be right.

    Args:
        p: The points.
        n_passive: Number of passive coordinates.

    Returns:
        The points.

    Raises:
        ValueError: If they are no numbers or their last axis is not that wide.
    """
    expected = f"p of shape (..., {n_passive})"
    points = p if isinstance(p, jax.Array) else real_array(p, expected)
    if points.shape[-1:] != (n_passive,):
        raise ValueError(f"Expected {expected}; got {points.shape}.")
    return points


def piecewise_from_values(
    values: Float[np.ndarray, "3 d_active m"], places: Float[np.ndarray, " m"]
) -> PiecewiseMoments:
    """Monotone cubics through values at places, which become the ends of the pieces.

    They stay between the values that they join: no floor, ceiling or range is lost between.

    Args:
        values: Mean, log-variance and log predictive variance at the places.
        places: Where, in order.

    Returns:
        The moments.
    """
    unit = (places - places[0]) / (places[-1] - places[0])
    spline = PchipInterpolator(unit, values, axis=-1)
    widths = np.diff(unit).reshape(-1, 1, 1)
    # scipy's coefficients: pieces second, the highest power of the distance first.
    powers = np.stack([spline.c[3 - j] * widths**j for j in range(4)], axis=-1)
    return PiecewiseMoments(
        jnp.asarray(places, float), jnp.asarray(np.moveaxis(powers, 0, 2), float)
    )
