"""Set a flow from data, layer by layer and in closed form, before it is trained."""

from functools import singledispatch
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float
from keras import ops
from numpy.typing import ArrayLike
from scipy.special import ndtri

from gaussianization.gauss_keras.bijectors.actnorm import ActNorm
from gaussianization.gauss_keras.bijectors.affine_coupling import AffineCoupling
from gaussianization.gauss_keras.bijectors.base import (
    Bijector,
    check_built,
    check_count,
    check_finite,
)
from gaussianization.gauss_keras.bijectors.conditioners import set_constant_output
from gaussianization.gauss_keras.bijectors.coupling import CouplingBijector
from gaussianization.gauss_keras.bijectors.flow import GaussianizationFlow
from gaussianization.gauss_keras.bijectors.inputs import as_pair
from gaussianization.gauss_keras.bijectors.marginal import MixtureCDFGaussianization
from gaussianization.gauss_keras.bijectors.mixture_coupling import MixtureCDFCoupling
from gaussianization.gauss_keras.bijectors.rotation import FixedOrtho, Householder
from gaussianization.gauss_keras.bijectors.spline_coupling import RQSplineCoupling
from gaussianization.gauss_keras.rotation_choice import Rotation, check_rotation, choose_rotation
from gaussianization.gauss_keras.spline_start import fitted_splines
from gaussianization.marginals import GAIN, MixtureFit, base_mixture, fit_mixtures

# Rows pushed through a layer at a time, which bounds the memory of a wide mixture.
_ROWS_AT_ONCE = 32768
# Share of its bound that an affine coupling's log-scale may take up.
_ROOM = 0.95
# Least standard deviation of a column, in units of the precision's epsilon.
_LEAST_DEVIATION = 100.0
# Width of the kernel that smooths a column of n rows, in n^(-1/3) standard deviations, and the
# equally likely shifts that stand for it.
_KERNEL_WIDTH = 1.2
_N_SHIFTS = 5
# Components of the mixtures that rotations are chosen by, where no layer has any.
_N_COMPONENTS = 8


class _Options(NamedTuple):
    rotation: Rotation | Literal["keep"]
    rng: np.random.Generator
    smooth: bool
    n_components: int


def initialize_flow_from_ig(
    flow: GaussianizationFlow,
    x: Float[ArrayLike, "n d"],
    *,
    condition: Float[ArrayLike, "n c"] | None = None,
    rotation: Rotation | Literal["keep"] = "keep",
    smooth: bool = False,
    random_state: int = 0,
) -> Float[np.ndarray, "n d"]:
    """Set a flow by iterative Gaussianization: each layer makes normal what it receives.

    The flow is changed in place. Marginals and mixture couplings take the mixtures fitted to
    their columns, which are those of `gauss_flows`, spline couplings knots at such mixtures'
    quantiles, affine couplings and `ActNorm` the columns' mean and standard deviation; the data
    go on through each layer as it was set. In couplings the conditioner's last kernel becomes zero
    and the fit its bias, so that they start as the marginal layer whatever the condition. Layers
    of other kinds stay as they are.

    Args:
        flow: A built flow, trained or not.
        x: Data, shape (n, d), or a pair of them and the condition. Spline and affine couplings,
            which act within bounds, want them standardised.
        condition: Conditions of the rows, shape (n, c), for a conditional flow.
        rotation: What becomes of the rotations: ``"keep"``, ``"pca"``, ``"random"``,
            ``"search"``, the one of many that makes the columns least normal, or ``"fit"``, of
            the best such ones that whose mixtures fit best.
        smooth: Whether mixtures are fitted to columns that a normal kernel has smoothed, of
            1.2 n^(-1/3) standard deviations, so that they follow less of what is chance.
        random_state: Seed of the random choices.

    Returns:
        The latents of the data, shape (n, d).

    Raises:
        ValueError: If the flow is not built, the data do not fit it, are not finite, have a
            constant column, one too narrow for the flow's precision or fewer rows than a layer
            has components; if layers share weights, or a coupling's conditioner cannot be made
            constant. The flow is then as it was.

    References:
        Laparra, Camps-Valls & Malo (2011), *Iterative Gaussianization: from ICA to Random
        Rotations*.

    Example:
        >>> import numpy as np
        >>> from gaussianization.gauss_keras import initialize_flow_from_ig
        >>> from gaussianization.gauss_keras import make_gaussianization_flow
        >>> x = np.random.default_rng(0).gamma(2.0, size=(2000, 2)).astype("float32")
        >>> flow = make_gaussianization_flow(input_dim=2, num_blocks=2)
        >>> z = initialize_flow_from_ig(flow, x, rotation="pca")
        >>> bool(np.all(np.abs(np.cov(z.T) - np.eye(2)) < 0.1))
        True
    """
    check_built(flow)
    check_rotation(rotation, "keep")
    random_state = check_count(random_state, "random_state", least=0)
    _check_own_weights(flow, rotation)
    x, condition = as_pair(x, condition)
    state = _checked_table(flow, x)
    conditions = _checked_condition(flow, condition, len(state))
    most = max(getattr(layer, "num_components", 0) for layer in flow.bijector_layers)
    rng = np.random.default_rng(random_state)
    options = _Options(rotation, rng, smooth, most or _N_COMPONENTS)
    before = [np.array(value) for value in flow.get_weights()]
    try:
        for layer in flow.bijector_layers:
            set_from_data(layer, state.astype(np.float64), options)
            state = _push(layer, state, conditions)
    except Exception:
        # A flow that is half one thing and half another would be worse than either.
        flow.set_weights(before)
        raise
    return state


@singledispatch
def set_from_data(layer: Bijector, x: Float[np.ndarray, "n d"], options: _Options) -> None:
    """Set one layer from the rows it receives; layers of unknown kinds stay as they are.

    Args:
        layer: The layer.
        x: Rows, shape (n, d).
        options: What becomes of rotations.
    """


@set_from_data.register(Householder)
@set_from_data.register(FixedOrtho)
def _(layer: Any, x: np.ndarray, options: _Options) -> None:
    if options.rotation != "keep":

        def log_likelihoods(columns: np.ndarray) -> np.ndarray:
            return _fit(columns, options.n_components, layer.state_dtype, options).log_likelihood

        layer.set_matrix(choose_rotation(options.rotation, x, options.rng, log_likelihoods))


@set_from_data.register
def _(layer: ActNorm, x: np.ndarray, options: _Options) -> None:
    layer.set_from_data(x)


@set_from_data.register
def _(layer: MixtureCDFGaussianization, x: np.ndarray, options: _Options) -> None:
    layer.raw.assign(_fitted_raw(x, layer, None, options))


@set_from_data.register
def _(layer: MixtureCDFCoupling, x: np.ndarray, options: _Options) -> None:
    raw = _fitted_raw(_active(layer, x), layer, layer.log_scale_clamp, options)
    _set_constant(layer, raw)


@set_from_data.register
def _(layer: RQSplineCoupling, x: np.ndarray, options: _Options) -> None:
    _set_constant(layer, fitted_splines(_active(layer, x), layer.num_bins, layer.interval))


@set_from_data.register
def _(layer: AffineCoupling, x: np.ndarray, options: _Options) -> None:
    active, most = _active(layer, x), layer.max_log_scale
    log_scale = np.clip(np.log(active.std(0)) / most, -_ROOM, _ROOM)
    _set_constant(layer, np.stack([active.mean(0), most * np.arctanh(log_scale)], axis=1))


def _fit(x: np.ndarray, n_components: int, dtype: str, options: _Options) -> MixtureFit:
    """The mixtures of the columns, or of their smoothed versions."""
    if options.smooth:
        shifts = ndtri((np.arange(_N_SHIFTS) + 0.5) / _N_SHIFTS)
        width = _KERNEL_WIDTH * len(x) ** (-1 / 3) * x.std(axis=0)
        x = np.concatenate([x + width * shift for shift in shifts / shifts.std()])
    return fit_mixtures(x, n_components, dtype=np.dtype(dtype))


def _fitted_raw(x: np.ndarray, layer: Any, clamp: Any, options: _Options) -> np.ndarray:
    """Raw parameters (d, 3, K) of the mixtures fitted to the columns."""
    fit = _fit(x, layer.num_components, layer.state_dtype, options)
    moved = np.stack([fit.log_weights, fit.means, fit.log_scales], axis=1)
    moved = moved - base_mixture(layer.num_components)
    if clamp is not None:
        if not hasattr(clamp, "inverse"):
            raise ValueError(
                "Expected a log_scale_clamp with a method inverse(log_scale), to find the raw "
                f"value of a fitted scale. Received: log_scale_clamp={clamp}"
            )
        moved[:, 2] = clamp.inverse(moved[:, 2])
    return moved / GAIN


def _set_constant(layer: CouplingBijector, raw: np.ndarray) -> None:
    values = raw.ravel() / layer.conditioner_gain
    set_constant_output(layer.conditioner, values, layer.conditioner_input_dim)


def _active(layer: CouplingBijector, x: np.ndarray) -> np.ndarray:
    """The coordinates that a coupling transforms."""
    return x[:, ~np.array(layer.mask)]


def _push(layer: Bijector, x: np.ndarray, condition: np.ndarray | None) -> np.ndarray:
    """What the layer itself makes of the rows."""
    parts = []
    for start in range(0, len(x), _ROWS_AT_ONCE):
        rows = slice(start, start + _ROWS_AT_ONCE)
        own = None if condition is None else condition[rows]
        parts.append(ops.convert_to_numpy(layer.forward_unseen(x[rows], own)[0]))
    return np.concatenate(parts)


def _check_own_weights(flow: GaussianizationFlow, rotation: str) -> None:
    """Refuse layers that share weights: what one is set to, the next would undo."""
    owners: dict[int, int] = {}
    layers = flow.bijector_layers
    for index, layer in enumerate(layers):
        if rotation == "keep" and isinstance(layer, (Householder, FixedOrtho)):
            continue
        others = [owners.setdefault(id(weight), index) for weight in layer.weights]
        other = next((other for other in others if other != index), None)
        if other is not None:
            raise ValueError(
                "Expected layers with weights of their own: what one is set to, the next would "
                f"undo. Received: layers {other} and {index} share weights "
                f"('{layers[other].name}' and '{layer.name}')"
            )


def _checked_table(flow: GaussianizationFlow, x: Any) -> np.ndarray:
    table = np.asarray(ops.convert_to_numpy(x))
    if table.dtype.kind not in "fiub":
        raise ValueError(f"Expected numbers in x. Received: x.dtype={table.dtype}")
    if table.ndim != 2 or table.shape[1] != flow.input_dim or len(table) == 0:
        raise ValueError(
            f"Expected x of shape (n, {flow.input_dim}) with n >= 1. "
            f"Received: x.shape={table.shape}"
        )
    table = table.astype(flow.state_dtype)
    check_finite(table, "x")
    constant = np.flatnonzero(table.min(0) == table.max(0))
    if constant.size:
        raise ValueError(
            "Expected columns that vary, so that a density exists. "
            f"Received: x[:, {constant[0]}]={table[0, constant[0]]} in every row"
        )
    deviations = table.astype(np.float64).std(0)
    least = _LEAST_DEVIATION * np.finfo(table.dtype).eps
    narrow = np.flatnonzero(deviations < least)
    if narrow.size:
        raise ValueError(
            f"Expected columns with standard deviations of at least {least:.0e}: parameters are "
            f"deviations from a base mixture near N(0, 1), of whose rounding errors in "
            f"{table.dtype} less would remain. Standardise the data. "
            f"Received: x[:, {narrow[0]}].std()={deviations[narrow[0]]:.3g}"
        )
    most = max(getattr(layer, "num_components", 1) for layer in flow.bijector_layers)
    if len(table) < most:
        raise ValueError(
            f"Expected at least {most} rows, as many as a layer has components. "
            f"Received: x.shape={table.shape}"
        )
    return table


def _checked_condition(flow: GaussianizationFlow, condition: Any, n_rows: int) -> Any:
    wanted = flow.condition_dim
    if condition is None and wanted is None:
        return None
    shape = None if condition is None else np.shape(condition)
    if condition is None or shape != (n_rows, wanted):
        expected = f"a condition of shape ({n_rows}, {wanted})" if wanted else "no condition"
        raise ValueError(f"Expected {expected}. Received: condition.shape={shape}")
    table = np.asarray(ops.convert_to_numpy(condition)).astype(flow.state_dtype)
    check_finite(table, "condition")
    return table
