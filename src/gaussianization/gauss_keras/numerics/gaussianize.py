"""The Gaussianizing map of a Gaussian mixture and its inverse, with closed-form derivatives."""

from typing import Any

from keras import ops

from gaussianization.gauss_keras.numerics.mixture import evaluate, weight_effect
from gaussianization.gauss_keras.numerics.mixture_quantile import mixture_quantile
from gaussianization.gauss_keras.numerics.normal import at_least, largest_distance


def gaussianize(x: Any, log_weights: Any, means: Any, log_scales: Any) -> tuple[Any, Any]:
    r"""Map x to its normal score under a mixture.

    $$z = \Phi^{-1}(F(x)), \qquad \mathrm{log\_det} = \log f(x) - \log\varphi(z).$$

    Args:
        x: Points, shape (...).
        log_weights: Normalised log-weights, shape (K, ...), broadcasting against x.
        means: Means of the components, shape (K, ...).
        log_scales: Logarithms of their standard deviations, shape (K, ...).

    Returns:
        z and log|dz/dx| in nats, of x's shape. First derivatives in every argument are in
        closed form; a second derivative raises `NotImplementedError`.
    """
    stacked = _gaussianize(x, log_weights, means, log_scales)
    return stacked[0], stacked[1]


def quantile(z: Any, log_weights: Any, means: Any, log_scales: Any) -> Any:
    r"""The inverse map, $x = F^{-1}(\Phi(z))$, by safeguarded Newton steps.

    Args:
        z: Normal scores, shape (...).
        log_weights: Normalised log-weights, shape (K, ...), broadcasting against z.
        means: Means of the components, shape (K, ...).
        log_scales: Logarithms of their standard deviations, shape (K, ...).

    Returns:
        x, of z's shape; NaN where the search failed. Its derivatives are those of the implicit
        function theorem; a second derivative raises `NotImplementedError`.
    """
    return _quantile(z, log_weights, means, log_scales)


# One stacked result: a custom gradient of two results exists on two backends only.
@ops.custom_gradient
def _gaussianize(x, log_weights, means, log_scales):
    at = evaluate(x, log_weights, means, log_scales)

    def gradient(*args, upstream=None):
        upstream = args[-1] if upstream is None else upstream
        upstream = _once_differentiable(upstream, x, log_weights, means, log_scales)
        to_log_det = upstream[1]
        to_z = upstream[0] + at.z * to_log_det  # log_det = log f + z²/2 + …
        effect = weight_effect(at)
        # What acts on all components alike comes before them, or after the sums over rows: it
        # is operations on arrays with their axis that take the time.
        to_share = at.densities * (to_log_det / at.density)
        to_slope = at.densities * (to_z * ops.exp(at.log_det) / at.density)
        to_shift = to_slope - to_share * at.u * at.inverse_scales
        to_all = ops.expand_dims(to_z * effect.common + to_log_det, 0)
        return (
            _unbroadcast(ops.sum(to_shift, axis=0), x),
            _unbroadcast(to_z * effect.own + to_share, log_weights)
            - at.weights * _unbroadcast(to_all, log_weights),
            -_unbroadcast(to_shift, means),
            -_unbroadcast(to_shift * (x - means) + to_share, log_scales),
        )

    return ops.stack([at.z, at.log_det]), gradient


@ops.custom_gradient
def _quantile(z, log_weights, means, log_scales):
    x = mixture_quantile(z, log_weights, means, log_scales)

    def gradient(*args, upstream=None):
        upstream = args[-1] if upstream is None else upstream
        upstream = _once_differentiable(upstream, z, log_weights, means, log_scales)
        at = evaluate(x, log_weights, means, log_scales)
        effect = weight_effect(at)
        # Between far modes the quantile jumps and its slope overflows; a derivative that is
        # merely enormous keeps one such point from turning a batch's gradient into NaN.
        to_z = upstream / at_least(ops.exp(at.log_det), 1.0 / largest_distance(x))
        to_shift = at.densities * (upstream / at.density)
        to_all = ops.expand_dims(to_z * effect.common, 0)
        return (
            _unbroadcast(to_z, z),
            at.weights * _unbroadcast(to_all, log_weights)
            - _unbroadcast(to_z * effect.own, log_weights),
            _unbroadcast(to_shift, means),
            _unbroadcast(to_shift * (x - means), log_scales),
        )

    return x, gradient


def _unbroadcast(gradient: Any, like: Any) -> Any:
    """Sum a gradient over the axes along which its argument was broadcast."""
    axes = [axis for axis, size in enumerate(like.shape) if size == 1]
    if len(like.shape) != len(gradient.shape):
        raise ValueError(
            f"Expected arguments of rank {len(gradient.shape)}. Received: {like.shape}"
        )
    return ops.sum(gradient, axis=axes, keepdims=True) if axes else gradient


@ops.custom_gradient
def _once_differentiable(upstream, *arguments):
    """The upstream gradient; differentiating it in the arguments is refused rather than wrong."""

    def gradient(*args, upstream=None):
        raise NotImplementedError(
            "Second derivatives of a mixture layer are not available in gauss_keras; "
            "gauss_flows, the same layers in JAX, has them."
        )

    return upstream, gradient


__all__ = ["gaussianize", "quantile"]
