"""Set a flow from data, layer by layer and in closed form, before it is trained."""

import warnings
from collections.abc import Iterator
from functools import singledispatch
from typing import Any, Literal, NamedTuple, TypeVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import Chain, Invert
from flowjax.distributions import AbstractTransformed
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.bijections.actnorm import ActNorm
from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.block_chain import BlockChain
from gauss_flows.bijections.deep_sigmoid import DeepSigmoidCoupling
from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.householder import HouseholderRotation
from gauss_flows.bijections.lu_linear import LULinearPermute
from gauss_flows.bijections.mixture_cdf import MixtureGaussianCDF, MixtureLogisticCDF
from gauss_flows.bijections.mixture_coupling import MixtureGaussianCDFCoupling
from gauss_flows.bijections.mixture_parameters import pack
from gauss_flows.bijections.orthogonal import OrthogonalRotation
from gauss_flows.bijections.spline import RQSplineMarginal
from gauss_flows.bijections.spline_coupling import RQSplineCoupling
from gauss_flows.rbig._push import push
from gauss_flows.rbig.checks import as_rows, check_finite_table, check_table
from gauss_flows.rbig.constant import with_constant_parameters
from gauss_flows.rbig.elementwise import (
    LOGISTIC_DEVIATION,
    fit_deep_sigmoids,
    fit_logistic_mixtures,
    fit_splines,
)
from gauss_flows.rbig.layers import fit_marginal
from gauss_flows.rbig.options import check_seed
from gauss_flows.rbig.rotations import DataRotation, check_rotation, choose_rotation, derived_seed

_Flow = TypeVar("_Flow", bound=AbstractTransformed)


# Share of its bound that an affine coupling's log-scale may take up.
_ROOM = 0.95
_ROTATIONS = (FixedRotation, HouseholderRotation, LULinearPermute, OrthogonalRotation)


class _Options(NamedTuple):
    rotation: DataRotation | Literal["keep"]
    random_state: int


def warm_start(
    flow: _Flow,
    x: Float[ArrayLike, "n d"],
    *,
    condition: Float[ArrayLike, "n c"] | None = None,
    rotation: DataRotation | Literal["keep"] = "keep",
    random_state: int = 0,
) -> _Flow:
    """Set a flow's layers from data, one after the other, as RBIG fits its own.

    Each layer is set to make normal what it receives, and the rows go on through the layer as it
    was set: marginals and couplings of mixtures, splines and sigmoids from the columns' fitted
    marginals, affine ones and `ActNorm` from their mean and standard deviation. In couplings the
    conditioner's last kernel becomes zero and the fit its bias, so that they start as marginals
    whatever the condition. Layers of other kinds (permutations, residual couplings) stay as they
    are.

    Args:
        flow: A flow of this library, trained or not.
        x: Data of shape (n, d); an array or a data frame. Splines and affine couplings, which act
            within bounds, want them standardised.
        condition: Conditions of the rows, shape (n, c), for a conditional flow.
        rotation: What becomes of the rotations: `"keep"`, or a choice from the data, see
            `choose_rotation`. Permutations, which the spline and affine coupling flows mix
            coordinates with by default, are no rotations and cannot take it.
        random_state: Seed of random rotations.

    Returns:
        A flow of the same structure.

    Raises:
        ValueError: If the data admit no density, do not fit the flow or have fewer rows than a
            layer has components; if an option is unknown, or a coupling's conditioner cannot be
            made constant.

    Warns:
        UserWarning: If a rotation is asked for and no layer of the flow can take it.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import jax.random as jr
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> x = np.random.default_rng(0).gamma(2.0, size=(1000, 2))
        >>> flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=3)
        >>> bool(gf.warm_start(flow, x).log_prob(x).mean() > flow.log_prob(x).mean())
        True
    """
    check_rotation(rotation, "keep")
    check_seed(random_state)
    chain = _checked_chain(flow)
    layers = list(_layers(chain))
    if rotation != "keep" and not any(isinstance(layer, _ROTATIONS) for layer in layers):
        kinds = sorted({type(layer).__name__ for layer in layers})
        warnings.warn(
            f"No layer of the flow can take rotation={rotation!r}: it has none but "
            f"{', '.join(kinds)}. Make the flow with a rotation to set, such as "
            "rotation='householder'.",
            stacklevel=2,
        )
    n_components = max(map(_n_components, layers), default=1)
    rows = as_rows(check_table(x, n_components=n_components, n_dims=flow.shape[0]))
    conditions = _checked_condition(flow, condition, len(rows))
    chain, _ = _set(chain, rows, conditions, _Options(rotation, random_state))
    return eqx.tree_at(lambda tree: tree.bijection.bijection, flow, chain)


def _checked_chain(flow):
    bijection = getattr(flow, "bijection", None)
    shape = getattr(flow, "shape", None)
    if not isinstance(flow, AbstractTransformed) or not isinstance(bijection, Invert):
        got = type(flow if bijection is None else bijection).__name__
    elif len(flow.shape) != 1:
        got = f"one of shape {shape}"
    else:
        return bijection.bijection
    raise ValueError(
        "Expected a flow over vectors whose bijection is Invert(chain from data to latent); "
        f"got {got}."
    )


def _layers(bijection: Any) -> Iterator[Any]:
    """The layers in data order, those of chains within chains too."""
    if isinstance(bijection, BlockChain | Chain):
        for part in bijection.bijections:
            yield from _layers(part)
    else:
        yield bijection


def _n_components(layer: Any) -> int:
    """Components of each coordinate's mixture, where a layer is one of mixtures."""
    if isinstance(layer, MixtureGaussianCDF | MixtureLogisticCDF):
        return layer.raw.shape[-1]
    if isinstance(layer, MixtureGaussianCDFCoupling | DeepSigmoidCoupling):
        return layer._coupling.n_params // 3
    return 1


def _checked_condition(flow, condition, n_rows):
    wanted = flow.cond_shape
    if (wanted is None) != (condition is None):
        what = "no condition" if wanted is None else f"a condition of shape (n, {wanted[0]})"
        raise ValueError(
            f"Expected {what}, as the flow has it; got {'none' if condition is None else 'one'}."
        )
    if wanted is None:
        return None
    table = check_finite_table(condition, n_dims=wanted[0], name="condition")
    if len(table) != n_rows:
        raise ValueError(f"Expected {n_rows} rows of condition, as x has; got {len(table)}.")
    return as_rows(table, "condition")


def _set(bijection: Any, x: Array, condition: Array | None, options: _Options) -> tuple[Any, Array]:
    """Set a layer, or a chain layer by layer; return it and what it makes of the rows."""
    if isinstance(bijection, BlockChain | Chain):
        is_scanned = isinstance(bijection, BlockChain)
        parts = []
        for index, part in enumerate(bijection.blocks if is_scanned else bijection.bijections):
            seed = derived_seed(options.random_state, index)
            part, x = _set(part, x, condition, options._replace(random_state=seed))
            parts.append(part)
        return (BlockChain.from_blocks(parts) if is_scanned else Chain(parts)), x
    # A layer without a condition of its own is not given one.
    own = None if bijection.cond_shape is None else condition
    layer = set_from_data(bijection, np.asarray(x), options)
    return layer, push(layer, x, own)[0]


@singledispatch
def set_from_data(layer: Any, x: Float[np.ndarray, "n d"], options: _Options) -> Any:
    """Set one layer from the rows it receives; layers of unknown kinds stay as they are.

    Args:
        layer: The layer.
        x: Rows of shape (n, d).
        options: What becomes of rotations.

    Returns:
        A layer of the same structure.
    """
    return layer


@set_from_data.register(FixedRotation)
@set_from_data.register(HouseholderRotation)
@set_from_data.register(LULinearPermute)
@set_from_data.register(OrthogonalRotation)
def _(layer, x, options):
    if options.rotation == "keep":
        return layer
    matrix = choose_rotation(options.rotation, x, random_state=options.random_state).matrix.tree
    if isinstance(layer, OrthogonalRotation):
        return OrthogonalRotation.from_matrix(matrix, method=layer.method)
    return type(layer).from_matrix(matrix)


@set_from_data.register
def _(layer: ActNorm, x, options):
    return ActNorm.from_data(x)


@set_from_data.register
def _(layer: MixtureGaussianCDF, x, options):
    return fit_marginal(x, _n_components(layer))


@set_from_data.register
def _(layer: MixtureLogisticCDF, x, options):
    mixtures = fit_logistic_mixtures(x, _n_components(layer))
    return MixtureLogisticCDF.from_mixture(*(jnp.asarray(part) for part in mixtures))


@set_from_data.register
def _(layer: RQSplineMarginal, x, options):
    raw = fit_splines(x, (layer.raw.shape[-1] - 4) // 3, layer.interval)
    return eqx.tree_at(lambda tree: tree.raw, layer, jnp.asarray(raw, layer.raw.dtype))


@set_from_data.register
def _(layer: MixtureGaussianCDFCoupling, x, options):
    marginal = fit_marginal(_active(layer, x), _n_components(layer))
    return with_constant_parameters(layer, marginal.raw)


@set_from_data.register
def _(layer: DeepSigmoidCoupling, x, options):
    log_weights, means, log_scales = fit_deep_sigmoids(_active(layer, x), _n_components(layer))
    raw = pack(
        jnp.asarray(log_weights),
        jnp.asarray(means / LOGISTIC_DEVIATION),
        jnp.asarray(log_scales),
    )
    return with_constant_parameters(layer, raw)


@set_from_data.register
def _(layer: RQSplineCoupling, x, options):
    raw = fit_splines(_active(layer, x), (layer._coupling.n_params - 4) // 3, layer.interval)
    return with_constant_parameters(layer, jnp.asarray(raw))


@set_from_data.register
def _(layer: AffineCoupling, x, options):
    active, most = _active(layer, x), layer.max_log_scale
    log_scale = np.clip(np.log(active.std(0)) / most, -_ROOM, _ROOM)
    values = np.stack([active.mean(0), most * np.arctanh(log_scale)], axis=1)
    return with_constant_parameters(layer, jnp.asarray(values))


def _active(layer, x):
    """The coordinates that a coupling transforms."""
    return x[:, ~np.array(layer._coupling.mask)]
