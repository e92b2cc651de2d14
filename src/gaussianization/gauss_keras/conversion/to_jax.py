"""From a Keras flow to the same flow in JAX."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import keras
import numpy as np
from flowjax.bijections import AbstractBijection, Chain, Invert
from flowjax.distributions import Transformed
from keras import ops

import gauss_flows as gf
from gauss_flows.bijections.conditioners import INPUT_BOUND
from gauss_flows.flows.assemble import standard_normal
from gaussianization.gauss_keras.bijectors.actnorm import ActNorm
from gaussianization.gauss_keras.bijectors.affine_coupling import AffineCoupling
from gaussianization.gauss_keras.bijectors.base import Bijector, check_built
from gaussianization.gauss_keras.bijectors.coupling import CouplingBijector
from gaussianization.gauss_keras.bijectors.flow import GaussianizationFlow
from gaussianization.gauss_keras.bijectors.marginal import MixtureCDFGaussianization
from gaussianization.gauss_keras.bijectors.mixture_coupling import MixtureCDFCoupling
from gaussianization.gauss_keras.bijectors.networks import (
    BoundedInput,
    ExactDense,
    Perceptron,
    ResidualDense,
    SharedOutput,
)
from gaussianization.gauss_keras.bijectors.rotation import FixedOrtho, Householder
from gaussianization.gauss_keras.bijectors.spline_coupling import RQSplineCoupling
from gaussianization.gauss_keras.numerics.tanh import tanh


def to_gauss_flows(flow: GaussianizationFlow) -> Transformed:
    """The `gauss_flows` flow of the same architecture and parameters.

    Layers that repeat in blocks run through one scan, as in the flows that `gauss_flows` makes
    itself. What is not a parameter of the density stays behind: names, which layers are
    trainable, the optimiser.

    Args:
        flow: A built flow. A float64 flow stays one if JAX's 64-bit mode is on
            (``jax_enable_x64``, on whichever backend Keras runs), and else becomes float32; any
            other flow becomes float32, half-precision networks included. A conditioner that
            several couplings share becomes one for each.

    Returns:
        The flow, which shares no memory with the one given.

    Raises:
        ValueError: If the flow is not built, or a layer or its conditioner has no counterpart: a
            class of one's own, a ``log_scale_clamp``, a network other than those of
            ``make_mlp_conditioner``, ``make_residual_conditioner`` and
            ``make_shared_mlp_conditioner``, and those that ``from_gauss_flows`` makes.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras import make_gaussianization_flow
        >>> from gaussianization.gauss_keras.conversion import to_gauss_flows
        >>> flow = make_gaussianization_flow(input_dim=2, num_blocks=2)
        >>> x = np.array([[0.5, -1.0], [2.0, 8.0]], "float32")
        >>> bool(np.allclose(to_gauss_flows(flow).log_prob(x), flow.log_prob(x), atol=1e-5))
        True
    """
    if not isinstance(flow, GaussianizationFlow):
        raise ValueError(f"Expected a GaussianizationFlow. Received: flow={flow!r}")
    check_built(flow)
    layers = [_to_gauss_flows(layer) for layer in flow.bijector_layers]
    dtype = jax.dtypes.canonicalize_dtype(flow.state_dtype)
    return jax.tree.map(
        lambda leaf: leaf.astype(dtype) if eqx.is_inexact_array(leaf) else leaf, _assembled(layers)
    )


def _assembled(layers: Sequence[AbstractBijection]) -> Transformed:
    """The flow through the layers, whose repeated blocks are scanned."""
    runs = list(_runs([_signature(layer) for layer in layers]))
    if all(stop - start == size for start, stop, size in runs):
        runs = [(0, len(layers), len(layers))]
    if len(runs) == 1:
        start, stop, size = runs[0]
        return gf.flow_from_blocks([layers[i : i + size] for i in range(start, stop, size)])
    parts = []
    for start, stop, size in runs:
        if stop - start == size:
            parts += layers[start:stop]
        else:
            blocks = [Chain(list(layers[i : i + size])) for i in range(start, stop, size)]
            parts.append(gf.BlockChain.from_blocks(blocks))
    chain = Chain(parts)
    return Transformed(standard_normal(chain.shape[0]), Invert(chain))


def _signature(layer: AbstractBijection) -> Any:
    """What two layers must have in common to run through one scan."""
    leaves, structure = jax.tree.flatten(layer)
    return structure, [getattr(leaf, "shape", leaf) for leaf in leaves]


def _runs(signatures: Sequence[Any]) -> Iterator[tuple[int, int, int]]:
    """Cut a sequence into runs of repeated blocks: start, stop and the block's length."""
    start, n = 0, len(signatures)
    while start < n:
        best = (start + 1, 1)
        for size in range(1, (n - start) // 2 + 1):
            stop = start + size
            while stop < n and signatures[stop] == signatures[stop - size]:
                stop += 1
            stop -= (stop - start) % size
            if stop > start + size and stop > best[0]:
                best = (stop, size)
        yield start, best[0], best[1]
        start = best[0]


# Classes of dense layers that compute what they say; a subclass of the user's need not.
_DENSE = (keras.layers.Dense, ExactDense)


def _to_gauss_flows(layer: Bijector) -> AbstractBijection:
    # By the very class: a subclass may compute something else.
    if type(layer) not in _TO_GAUSS_FLOWS:
        kinds = [kind.__name__ for kind in _TO_GAUSS_FLOWS]
        raise ValueError(
            f"Expected layers that gauss_flows has too: {sorted(kinds)}. "
            f"Received: layer '{layer.name}' of class {type(layer).__name__}"
        )
    return _TO_GAUSS_FLOWS[type(layer)](layer)


def _householder(layer: Householder) -> AbstractBijection:
    vectors = _values(layer.vectors)
    n, d = vectors.shape
    rotation = _empty(gf.HouseholderRotation, d, n)
    return eqx.tree_at(lambda tree: tree.vectors, rotation, jnp.asarray(vectors))


def _fixed(layer: FixedOrtho) -> AbstractBijection:
    matrix = _values(layer.matrix)
    rotation = gf.FixedRotation(np.eye(len(matrix)))
    # In its place to the last digit, where the constructor would restore its orthogonality.
    return eqx.tree_at(lambda tree: tree.matrix.tree, rotation, jnp.asarray(matrix))


def _actnorm(layer: ActNorm) -> AbstractBijection:
    loc, log_scale = _values(layer.loc), _values(layer.log_scale)
    return eqx.tree_at(
        lambda tree: (tree.loc, tree.log_scale),
        gf.ActNorm(len(loc)),
        (jnp.asarray(loc), jnp.asarray(log_scale)),
    )


def _marginal(layer: MixtureCDFGaussianization) -> AbstractBijection:
    raw = _values(layer.raw)
    marginal = gf.MixtureGaussianCDF(raw.shape[0], raw.shape[2])
    return eqx.tree_at(lambda tree: tree.raw, marginal, jnp.asarray(raw))


def _mixture_coupling(layer: MixtureCDFCoupling) -> AbstractBijection:
    if layer.log_scale_clamp is not None:
        raise ValueError(
            f"Expected no log_scale_clamp in layer '{layer.name}': gauss_flows has none. "
            f"Received: log_scale_clamp={layer.log_scale_clamp}"
        )
    return gf.MixtureGaussianCDFCoupling(
        **_coupling_arguments(layer), n_components=layer.num_components
    )


def _affine_coupling(layer: AffineCoupling) -> AbstractBijection:
    return gf.AffineCoupling(**_coupling_arguments(layer), max_log_scale=layer.max_log_scale)


def _spline_coupling(layer: RQSplineCoupling) -> AbstractBijection:
    return gf.RQSplineCoupling(
        **_coupling_arguments(layer), n_bins=layer.num_bins, interval=layer.interval
    )


def _coupling_arguments(layer: CouplingBijector) -> dict[str, Any]:
    mask = np.array(layer.mask)
    return {
        "key": jax.random.key(0),  # no conditioner is drawn
        "n_dims": len(mask),
        "mask": mask,
        "cond_dim": layer.condition_dim,
        "conditioner": _network(layer),
    }


def _network(layer: CouplingBijector) -> Any:
    conditioner: Any = layer.conditioner
    is_stack = type(conditioner) in (Perceptron, keras.Sequential)
    stack = list(conditioner.layers) if is_stack else []
    shared = stack.pop() if stack and type(stack[-1]) is SharedOutput else None
    bounded = bool(stack) and type(stack[0]) is BoundedInput and stack[0].bound == INPUT_BOUND
    stack = stack[1:] if bounded else stack
    first, between, head = stack[:1], stack[1:-1], stack[-1:]
    is_plain = all(map(_is_tanh, between))
    is_residual = shared is None and all(type(part) is ResidualDense for part in between)
    is_silu = bounded and shared is None and all(map(_is_silu, [*first, *between]))
    is_of_tanh = not bounded and bool(stack) and _is_tanh(first[0]) and (is_plain or is_residual)
    if (
        len(stack) < 2
        or not _is_dense(head[0], keras.activations.linear)
        or (shared is not None and head[0].use_bias)
        or not (is_of_tanh or is_silu)
    ):
        parts = [type(part).__name__ for part in getattr(conditioner, "layers", [])]
        raise ValueError(
            f"Expected a conditioner of layer '{layer.name}' as make_mlp_conditioner, "
            "make_residual_conditioner and make_shared_mlp_conditioner build them: a Sequential of "
            "tanh layers and a linear head, or a BoundedInput, silu layers and a linear head. "
            f"Received: conditioner={conditioner.name} ({type(conditioner).__name__} of {parts})"
        )
    dense = stack if is_plain or is_silu else [*first, *(part.dense for part in between), *head]
    gain = layer.conditioner_gain
    linears = (*map(_linear, dense[:-1]), jax.tree.map(lambda a: gain * a, _linear(dense[-1])))
    sizes = {"in_size": linears[0].in_features, "nn_width": 1, "nn_depth": 1}
    if shared is not None:
        offsets = gain * _values(shared.offsets)
        n_coordinates, n_params = offsets.shape
        network = _empty(gf.SharedMLP, n_coordinates=n_coordinates, n_params=n_params, **sizes)
        return eqx.tree_at(
            lambda tree: (tree.layers, tree.offsets), network, (linears, jnp.asarray(offsets))
        )
    kind = gf.SiluMLP if is_silu else gf.MLP if is_plain else gf.ResidualMLP
    network = _empty(kind, out_size=1, **sizes)
    return eqx.tree_at(lambda tree: tree.layers, network, linears)


def _is_dense(layer: Any, *activations: Any) -> bool:
    return type(layer) in _DENSE and any(layer.activation is a for a in activations)


def _is_tanh(layer: Any) -> bool:
    return _is_dense(layer, tanh, keras.activations.tanh)


def _is_silu(layer: Any) -> bool:
    return _is_dense(layer, keras.activations.silu)


def _linear(dense: Any) -> Any:
    kernel = _values(dense.kernel)
    linear = _empty(eqx.nn.Linear, *kernel.shape, use_bias=dense.use_bias)
    linear = eqx.tree_at(lambda tree: tree.weight, linear, jnp.asarray(kernel.T))
    if not dense.use_bias:
        return linear
    return eqx.tree_at(lambda tree: tree.bias, linear, jnp.asarray(_values(dense.bias)))


def _empty(make: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """A module without its random values, none of which would be kept."""
    return eqx.filter_eval_shape(lambda: make(*args, key=jax.random.key(0), **kwargs))


def _values(variable: Any) -> np.ndarray:
    """A weight's numbers, those of half precision in single."""
    values = np.array(ops.convert_to_numpy(ops.convert_to_tensor(variable)))
    return values if values.dtype == np.float64 else values.astype(np.float32)


_TO_GAUSS_FLOWS: dict[type, Callable[[Any], AbstractBijection]] = {
    ActNorm: _actnorm,
    AffineCoupling: _affine_coupling,
    FixedOrtho: _fixed,
    Householder: _householder,
    MixtureCDFCoupling: _mixture_coupling,
    MixtureCDFGaussianization: _marginal,
    RQSplineCoupling: _spline_coupling,
}
