"""One RBIG layer: a rotation found in the data, then every marginal made normal."""

import math
import warnings
from typing import Any, NamedTuple

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.mixture_cdf import MixtureGaussianCDF
from gauss_flows.rbig._push import push
from gauss_flows.rbig.marginal_fit import fit_mixtures
from gauss_flows.rbig.rotations import DataRotation, choose_rotation, derived_seed


class LayerOptions(NamedTuple):
    """How layers are fitted.

    Args:
        n_components: Components of each coordinate's mixture.
        rotation: Name of the rotation, see `choose_rotation`.
        random_state: Seed of what is random.
    """

    n_components: int
    rotation: DataRotation
    random_state: int


class Layer(NamedTuple):
    """A rotation and the marginal Gaussianization that follows it."""

    rotation: FixedRotation
    marginal: MixtureGaussianCDF


def fit_marginal(
    x: Float[ArrayLike, "n d"],
    n_components: int,
    sample_weight: Float[np.ndarray, " n"] | None = None,
) -> MixtureGaussianCDF:
    """Fit the layer that makes every column normal.

    Args:
        x: Rows of shape (n, d).
        n_components: Components of each column's mixture.
        sample_weight: Weights of the rows, shape (n,).

    Returns:
        The layer.
    """
    fit = fit_mixtures(np.asarray(x), n_components, sample_weight=sample_weight)
    return _from_mixture(*fit[:3])


# Jitted, since each of its handful of small steps would cost a call.
@eqx.filter_jit
def _from_mixture(log_weights: Any, means: Any, log_scales: Any) -> MixtureGaussianCDF:
    return MixtureGaussianCDF.from_mixture(log_weights, means, log_scales)


def fit_layer(
    x: Float[Array, "n d"],
    options: LayerOptions,
    *,
    index: int,
    sample_weight: Float[np.ndarray, " n"] | None = None,
    rotation: DataRotation | None = None,
) -> tuple[Layer, Float[Array, "n d"]]:
    """Fit a layer to the rows it is to be applied to.

    Args:
        x: The rows, shape (n, d).
        options: How to fit.
        index: Place of the layer, for the seed of its rotation.
        sample_weight: Weights of the rows, shape (n,).
        rotation: Name of the rotation; not to rotate at all by default.

    Returns:
        The layer, and the rows after its rotation, shape (n, d). The marginals are fitted to what
        the rotation really makes of the rows, in their precision.
    """
    turn = FixedRotation(np.eye(x.shape[1]))
    if rotation is not None:
        seed = derived_seed(options.random_state, index)
        with warnings.catch_warnings():
            # Rows that are normal already have no independent components: that is no fault here.
            warnings.filterwarnings("ignore", message="FastICA did not converge")
            turn = choose_rotation(
                rotation, np.asarray(x), random_state=seed, sample_weight=sample_weight
            )
    turned, _ = push(turn, x)
    marginal = fit_marginal(turned, options.n_components, sample_weight)
    return Layer(turn, marginal), turned


def apply_layer(
    layer: Layer, x: Float[Array, "n d"]
) -> tuple[Float[Array, "n d"], Float[Array, " n"]]:
    """Push rows through a layer.

    Args:
        layer: The layer.
        x: Rows, shape (n, d).

    Returns:
        z of shape (n, d) and the log-determinants in nats of shape (n,).
    """
    turned, _ = push(layer.rotation, x)
    return push(layer.marginal, turned)


def log_density_under(
    z: Float[Array, "n d"], log_det: Float[Array, " n"]
) -> Float[np.ndarray, " n"]:
    """Log-density of rows whose image under a flow is z.

    Args:
        z: The image, shape (n, d).
        log_det: Log-determinant of the map, shape (n,).

    Returns:
        Nats, shape (n,).
    """
    squares = jnp.sum(z**2, axis=1)
    constant = 0.5 * z.shape[1] * math.log(2 * math.pi)
    return np.asarray(log_det - 0.5 * squares, np.float64) - constant


def marginal_log_density(
    x: Float[Array, "n d"],
    n_components: int,
    sample_weight: Float[np.ndarray, " n"] | None = None,
) -> Float[np.ndarray, " n"]:
    """Log-density of every row if its coordinates were independent.

    Args:
        x: Rows of shape (n, d).
        n_components: Components of the mixture fitted to each coordinate.
        sample_weight: Weights of the rows, shape (n,).

    Returns:
        Nats, shape (n,).
    """
    return log_density_under(*push(fit_marginal(x, n_components, sample_weight), x))
