"""From a flow in JAX to the same flow in Keras."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import Chain, Flip, Invert, Permute
from flowjax.distributions import AbstractTransformed, Normal, StandardNormal
from paramax import unwrap

import gauss_flows as gf
from gauss_flows.bijections.conditioners import INPUT_BOUND
from gaussianization.gauss_keras.bijectors.actnorm import ActNorm
from gaussianization.gauss_keras.bijectors.affine_coupling import AffineCoupling
from gaussianization.gauss_keras.bijectors.base import Bijector
from gaussianization.gauss_keras.bijectors.conditioners import make_mlp_network
from gaussianization.gauss_keras.bijectors.coupling import CouplingBijector
from gaussianization.gauss_keras.bijectors.flow import GaussianizationFlow
from gaussianization.gauss_keras.bijectors.marginal import MixtureCDFGaussianization
from gaussianization.gauss_keras.bijectors.mixture_coupling import MixtureCDFCoupling
from gaussianization.gauss_keras.bijectors.networks import (
    BoundedInput,
    Perceptron,
    ResidualDense,
    SharedOutput,
)
from gaussianization.gauss_keras.bijectors.rotation import FixedOrtho, Householder
from gaussianization.gauss_keras.bijectors.spline_coupling import RQSplineCoupling


def from_gauss_flows(flow: AbstractTransformed, *, dtype: Any = None) -> GaussianizationFlow:
    """The Keras flow of the same architecture and parameters.

    `OrthogonalRotation` becomes a `Householder` of d reflections with the same matrix, trainable
    from there in coordinates of its own; flowjax's `Permute` and `Flip` become a `FixedOrtho`.
    Which layers are trainable is not carried over.

    Args:
        flow: A flow of `gauss_flows`, or any over a standard normal whose bijection is the
            inverse of a chain of its layers.
        dtype: Dtype or dtype policy of the Keras flow; that of the parameters by default. On the
            JAX backend float64 needs JAX's 64-bit mode, as all of Keras does there.

    Returns:
        The flow, built, which shares no memory with the one given.

    Raises:
        ValueError: If the flow's base or structure is another, or a layer or its conditioner has
            no counterpart.

    Example:
        >>> import jax.random as jr
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> from gaussianization.gauss_keras.conversion import from_gauss_flows
        >>> flow = gf.mixture_coupling_flow(jr.key(0), n_dims=2, n_layers=2)
        >>> x = np.array([[0.5, -1.0], [2.0, 8.0]], "float32")
        >>> bool(np.allclose(from_gauss_flows(flow).log_prob(x), flow.log_prob(x), atol=1e-5))
        True
    """
    chain = _checked_chain(flow)
    if dtype is None:
        leaves = jax.tree.leaves(eqx.filter(chain, eqx.is_inexact_array))
        dtype = "float64" if any(leaf.dtype == np.float64 for leaf in leaves) else "float32"
    layers = [_from_gauss_flows(i, layer, dtype) for i, layer in enumerate(_layers(chain))]
    return GaussianizationFlow(layers, input_dim=flow.shape[0], dtype=dtype)


def _checked_chain(flow: Any) -> Any:
    bijection = getattr(flow, "bijection", None)
    if not isinstance(flow, AbstractTransformed) or not isinstance(bijection, Invert):
        raise ValueError(
            "Expected a flow of gauss_flows, whose bijection is Invert(chain from data to latent). "
            f"Received: flow={type(flow).__name__}, flow.bijection={type(bijection).__name__}"
        )
    base = unwrap(flow.base_dist)
    is_standard = isinstance(base, StandardNormal) or (
        isinstance(base, Normal) and bool(jnp.all(base.loc == 0) & jnp.all(base.scale == 1))
    )
    if not is_standard or len(base.shape) != 1:
        raise ValueError(
            "Expected a standard normal over vectors as the flow's base. "
            f"Received: flow.base_dist={base}"
        )
    return bijection.bijection


def _layers(bijection: Any) -> Iterator[Any]:
    """The layers in data order, those of chains within chains too."""
    if isinstance(bijection, gf.BlockChain | Chain):
        for part in bijection.bijections:
            yield from _layers(part)
    else:
        # Unwrapped one by one: a block chain's arrays have one axis more.
        yield unwrap(bijection)


def _from_gauss_flows(index: int, layer: Any, dtype: Any) -> Bijector:
    # By the very class: a subclass may compute something else.
    if type(layer) not in _FROM_GAUSS_FLOWS:
        raise ValueError(
            f"Expected layers that gauss_keras has too: {_names(_FROM_GAUSS_FLOWS)}. "
            f"Received: layer {index} of class {type(layer).__name__}"
        )
    frame = getattr(layer, "_coupling", None)
    if frame is not None and type(frame.conditioner) not in _NETWORKS:
        raise ValueError(
            f"Expected a conditioner that gauss_keras has too: {_names(_NETWORKS)}. "
            f"Received: conditioner={frame.conditioner} in layer {index} of class "
            f"{type(layer).__name__}"
        )
    return _FROM_GAUSS_FLOWS[type(layer)](layer, dtype)


def _names(kinds: Iterable[type]) -> list[str]:
    return sorted(kind.__name__ for kind in kinds)


def _householder(layer: Any, dtype: Any) -> Bijector:
    vectors = _values(layer.vectors)
    rotation = _built(Householder(len(vectors), dtype=dtype), layer)
    rotation.vectors.assign(vectors)
    return rotation


def _orthogonal(layer: Any, dtype: Any) -> Bijector:
    rotation = Householder(dtype=dtype)
    rotation.set_matrix(_values(layer.matrix))
    return rotation


def _fixed(layer: Any, dtype: Any) -> Bijector:
    return _built(FixedOrtho(_values(layer.matrix), dtype=dtype), layer)


def _permute(layer: Any, dtype: Any) -> Bijector:
    return _built(FixedOrtho(np.eye(*layer.shape)[layer.permutation], dtype=dtype), layer)


def _flip(layer: Any, dtype: Any) -> Bijector:
    return _built(FixedOrtho(np.eye(*layer.shape)[::-1], dtype=dtype), layer)


def _actnorm(layer: Any, dtype: Any) -> Bijector:
    norm = _built(ActNorm(dtype=dtype), layer)
    norm.loc.assign(_values(layer.loc))
    norm.log_scale.assign(_values(layer.log_scale))
    return norm


def _marginal(layer: Any, dtype: Any) -> Bijector:
    raw = _values(layer.raw)
    marginal = _built(MixtureCDFGaussianization(raw.shape[-1], dtype=dtype), layer)
    marginal.raw.assign(raw)
    return marginal


def _mixture_coupling(layer: Any, dtype: Any) -> Bijector:
    return _coupling(MixtureCDFCoupling, layer, dtype, num_components=layer._coupling.n_params // 3)


def _affine_coupling(layer: Any, dtype: Any) -> Bijector:
    return _coupling(AffineCoupling, layer, dtype, max_log_scale=layer.max_log_scale)


def _spline_coupling(layer: Any, dtype: Any) -> Bijector:
    num_bins = (layer._coupling.n_params - 4) // 3
    return _coupling(RQSplineCoupling, layer, dtype, num_bins=num_bins, interval=layer.interval)


def _coupling(kind: type[CouplingBijector], layer: Any, dtype: Any, **kwargs: Any) -> Bijector:
    frame = layer._coupling
    network = frame.conditioner
    conditioner: Any = None
    hidden = [linear.out_features for linear in network.layers[:-1]]
    if type(network) is not gf.MLP:
        conditioner = _NETWORKS[type(network)](network, hidden, dtype)
    coupling = kind(
        frame.mask,
        conditioner,  # a plain perceptron the layer makes itself, from `hidden`
        condition_dim=frame.cond_dim,
        hidden=hidden if conditioner is None else (64, 64),
        dtype=dtype,
        **kwargs,
    )
    parts = _built(coupling, layer).conditioner.layers
    if isinstance(network, gf.SiluMLP):
        parts = parts[1:]  # nothing to set in the first
    for part, linear in zip(parts, network.layers, strict=False):
        is_head = linear is network.layers[-1]
        _set(getattr(part, "dense", part), linear, coupling.conditioner_gain if is_head else 1.0)
    if isinstance(network, gf.SharedMLP):
        parts[-1].offsets.assign(_values(network.offsets) / coupling.conditioner_gain)
    return coupling


def _residual_network(network: Any, hidden: list[int], dtype: Any) -> Perceptron:
    first, head = _perceptron(network, hidden[:1], dtype)
    between = [ResidualDense(width, dtype=dtype) for width in hidden[1:]]
    return Perceptron([first, *between, head])


def _silu_network(network: Any, hidden: list[int], dtype: Any) -> Perceptron:
    *layers, head = _perceptron(network, hidden, dtype)
    layers = [type(one).from_config({**one.get_config(), "activation": "silu"}) for one in layers]
    return Perceptron([BoundedInput(INPUT_BOUND, dtype=dtype), *layers, head])


def _shared_network(network: Any, hidden: list[int], dtype: Any) -> Perceptron:
    *layers, head = _perceptron(network, hidden, dtype)
    head = type(head).from_config({**head.get_config(), "use_bias": False})
    shared = SharedOutput(len(network.offsets), dtype=dtype)
    return Perceptron([*layers, head, shared])


def _perceptron(network: Any, hidden: list[int], dtype: Any) -> list[Any]:
    """Dense layers, with the initialisers of `gauss_keras` for whoever starts them afresh."""
    sizes = network.layers[0].in_features, network.layers[-1].out_features
    return make_mlp_network(*sizes, hidden, dtype=dtype).layers


def _values(array: Any) -> np.ndarray:
    # A copy: on JAX, Keras gives its arrays' memory away, which must not be another flow's.
    return np.array(array)


def _set(dense: Any, linear: Any, gain: float) -> None:
    dense.kernel.assign(_values(linear.weight).T / gain)
    if dense.use_bias:
        none = np.zeros(dense.bias.shape)
        dense.bias.assign(none if linear.bias is None else _values(linear.bias) / gain)


def _built(converted: Any, layer: Any) -> Any:
    converted.build((None, *layer.shape))
    return converted


_NETWORKS: dict[type, Any] = {
    gf.MLP: None,
    gf.ResidualMLP: _residual_network,
    gf.SharedMLP: _shared_network,
    gf.SiluMLP: _silu_network,
}

_FROM_GAUSS_FLOWS: dict[type, Callable[[Any, Any], Bijector]] = {
    Flip: _flip,
    Permute: _permute,
    gf.ActNorm: _actnorm,
    gf.AffineCoupling: _affine_coupling,
    gf.FixedRotation: _fixed,
    gf.HouseholderRotation: _householder,
    gf.MixtureGaussianCDF: _marginal,
    gf.MixtureGaussianCDFCoupling: _mixture_coupling,
    gf.OrthogonalRotation: _orthogonal,
    gf.RQSplineCoupling: _spline_coupling,
}
