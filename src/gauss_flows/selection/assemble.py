"""From blocks fitted in closed form to flows of every family in the table's units."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flowjax.bijections import AbstractBijection, Chain, Invert
from flowjax.distributions import Transformed
from jaxtyping import PRNGKeyArray
from numpy.typing import NDArray

from gauss_flows.bijections.actnorm import ActNorm
from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.householder import HouseholderRotation
from gauss_flows.bijections.mixture_cdf import MixtureGaussianCDF
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.bijections.mixture_rosenblatt import MixtureRosenblatt
from gauss_flows.flows.assemble import flow_from_blocks, standard_normal
from gauss_flows.flows.coupling import (
    affine_coupling_flow,
    coupling_gaussianization_flow,
    mixture_coupling_flow,
)
from gauss_flows.numerics.quick_jit import quick_jit
from gauss_flows.rbig.blocks import Block, Marginals, pad
from gauss_flows.rbig.constant import with_constant_parameters
from gauss_flows.selection.mixture_recipes import FittedMixture

# A shift that single precision rounds by more than this share of the scale is kept in double.
_WORST_ROUNDING = 1e-3
_NORMAL_IQR = 1.349
# Standard deviation in units of the quartiles' from which on far rows have made it.
_MOST_OUTLYING = 1e3


def standardiser(x: NDArray[np.float64]) -> ActNorm:
    """Return the layer that gives every column mean 0 and variance 1, up to rounding.

    Where rows far away make up all of a column's variance, median and quartiles give its unit
    instead: in units of the variance the other rows would all be one number in single precision.

    Its numbers are held in single precision, as the rest of the flow is, unless a column's mean is
    so large beside its spread that they would not hold it.

    Args:
        x: Rows of shape (n, d) without constant columns.

    Returns:
        The layer.
    """
    # A number that single precision cannot hold is found here, so it need not be told of.
    with jax.enable_x64(True), np.errstate(over="ignore", invalid="ignore"):
        layer = _in_units_of_the_bulk(ActNorm.from_data(x), x)
        rounding = np.abs(np.float32(layer.loc) - np.asarray(layer.loc)) * np.exp(-layer.log_scale)
        narrow = jax.tree.map(
            lambda leaf: leaf.astype(jnp.float32) if eqx.is_inexact_array(leaf) else leaf, layer
        )
        fits = np.isfinite(np.asarray(narrow.loc)).all() and rounding.max() < _WORST_ROUNDING
        return narrow if fits else layer


def _in_units_of_the_bulk(layer: ActNorm, x: NDArray[np.float64]) -> ActNorm:
    low, median, high = np.quantile(x, [0.25, 0.5, 0.75], axis=0)
    spread = (high - low) / _NORMAL_IQR
    far = (spread > 0) & (np.exp(np.asarray(layer.log_scale)) > _MOST_OUTLYING * spread)
    return eqx.tree_at(
        lambda one: (one.loc, one.log_scale),
        layer,
        (
            jnp.where(far, median, layer.loc),
            jnp.where(far, np.log(np.where(far, spread, 1.0)), layer.log_scale),
        ),
    )


def standardise(layer: ActNorm, x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Apply a standardiser to rows in double precision."""
    return (x - np.float64(layer.loc)) * np.exp(-np.float64(layer.log_scale))


def standard_deviations(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return every column's standard deviation, whatever its unit.

    Args:
        x: Rows of shape (n, d) without constant columns.

    Returns:
        Deviations of shape (d,).
    """
    span = np.ptp(x, axis=0)  # squares of 1e200 overflow, squares of shares of the span do not
    return span * ((x - x.mean(0)) / span).std(0)


def with_standardiser(layer: ActNorm, flow: Transformed) -> Transformed:
    """Return a flow in the table's units from one in standardised units.

    Args:
        layer: The standardiser.
        flow: A flow whose bijection is an inverted chain.

    Returns:
        The flow; its density includes the standardiser's Jacobian.
    """
    chain = layers_of(flow)
    parts = chain.bijections if isinstance(chain, Chain) else (chain,)
    return Transformed(standard_normal(flow.shape[0]), Invert(Chain([layer, *parts])))


def build_flow(
    key: PRNGKeyArray,
    family: str,
    blocks: Sequence[Block],
    *,
    n_layers: int | None,
) -> Transformed:
    """Build a flow that is what the blocks are, in a form that can be trained.

    The diagonal and the mixture-coupling flow take the blocks over; the spline and the affine
    coupling flow follow them, and start as the identity up to the order of the coordinates.

    Args:
        key: Random key of conditioners and permutations.
        family: One of the command line's families, not `auto`.
        blocks: The closed-form fit.
        n_layers: Number of couplings that follow the blocks, where they do.

    Returns:
        The flow, in standardised units.
    """
    n_dims = len(blocks[0].matrix)
    n_components = max(block.marginals.means.shape[1] for block in blocks)
    fitted = [
        (block.matrix, marginal_layer(pad(block.marginals, n_components))) for block in blocks
    ]
    if family == "rbig":
        return flow_from_blocks([(FixedRotation(q), marginal) for q, marginal in fitted])
    diagonal = [(HouseholderRotation.from_matrix(q), marginal) for q, marginal in fitted]
    if family == "diagonal":
        return flow_from_blocks(diagonal)
    if family == "mixture-coupling":
        keys = jr.split(key, len(diagonal))
        return flow_from_blocks(
            [_coupled(k, *block) for k, block in zip(keys, diagonal, strict=True)]
        )
    make = coupling_gaussianization_flow if family == "spline-coupling" else affine_coupling_flow
    following = make(key, n_dims=n_dims, n_layers=n_layers or 4)
    chains = [flow_from_blocks(diagonal), following]
    return Transformed(standard_normal(n_dims), Invert(Chain([layers_of(one) for one in chains])))


def build_mixture_flow(fitted: FittedMixture) -> Transformed:
    """Build the flow of a joint mixture.

    Args:
        fitted: The mixture, and the marginals before it.

    Returns:
        The flow, in standardised units.
    """
    layers: list[AbstractBijection] = []
    if fitted.block is not None:
        layers.append(marginal_layer(fitted.block.marginals))
    layers.append(MixtureRosenblatt.from_mixture(*fitted.mixture))
    return flow_from_blocks([tuple(layers)])


def build_coupled_mixture_flow(
    key: PRNGKeyArray, fitted: FittedMixture, *, n_layers: int
) -> Transformed:
    """Build the flow of a joint mixture with mixture couplings after it, close to the identity.

    Args:
        key: Random key of rotations and conditioners.
        fitted: The mixture, and the marginals before it.
        n_layers: Number of blocks of a rotation and two couplings.

    Returns:
        The flow, in standardised units; all of it can be trained.
    """
    n_dims = fitted.mixture.means.shape[1]
    chains = [
        build_mixture_flow(fitted),
        _couplings(key, n_dims, n_layers),
    ]
    return Transformed(standard_normal(n_dims), Invert(Chain([layers_of(one) for one in chains])))


def _mixture_couplings(key: PRNGKeyArray, n_dims: int, n_layers: int) -> Transformed:
    return mixture_coupling_flow(key, n_dims=n_dims, n_layers=n_layers)


# Array by array, drawing the weights would compile for longer than everything at once.
_couplings = quick_jit(_mixture_couplings, runs_once=True)


def layers_of(flow: Any) -> AbstractBijection:
    """Return a flow's chain of layers, from data to latent."""
    return flow.bijection.bijection


def marginal_layer(marginals: Marginals) -> MixtureGaussianCDF:
    """Return the layer of one mixture for each column."""
    return MixtureGaussianCDF.from_mixture(*(jnp.asarray(part, float) for part in marginals))


def _coupled(
    key: PRNGKeyArray, rotation: HouseholderRotation, marginal: MixtureGaussianCDF
) -> Sequence[AbstractBijection]:
    """Split a marginal layer into two couplings that start as its halves."""
    n_dims, _, n_components = marginal.raw.shape
    passive = np.arange(n_dims) < n_dims // 2

    def coupling(coupling_key: PRNGKeyArray, mask: NDArray[np.bool_]) -> AbstractBijection:
        network = MixtureGaussianCDFCoupling(
            coupling_key, n_dims=n_dims, n_components=n_components, mask=mask
        )
        return with_constant_parameters(network, marginal.raw[~mask])

    first, second = jr.split(key)
    return rotation, coupling(first, passive), coupling(second, ~passive)
