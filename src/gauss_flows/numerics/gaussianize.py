"""The Gaussianizing map of a mixture and its inverse, with closed-form derivatives."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.batching import rows_in_blocks, rows_last
from gauss_flows.numerics.mixture import Family, evaluate, evaluate_fast, partials
from gauss_flows.numerics.mixture_quantile import mixture_quantile
from gauss_flows.numerics.normal import SQRT_2PI, scaled_tail, standard_normal_log_density


class MixtureFunctions(NamedTuple):
    """The public functions of one family; see `gaussian_mixture` for their signatures."""

    gaussianize: Callable[..., tuple[Array, Array]]
    quantile: Callable[..., Array]
    log_density: Callable[..., Array]
    log_cdf: Callable[..., Array]
    log_survival: Callable[..., Array]


def mixture_functions(family: Family) -> MixtureFunctions:
    """Build the map, its inverse and the log-probabilities of one family."""
    value, value_and_partials, root, log_probabilities = _evaluations(family)

    @jax.custom_jvp
    def gaussianize(x, log_weights, means, log_scales):
        z, log_det = value(x, log_weights, means, log_scales)
        return z, log_det

    @gaussianize.defjvp
    def _(primals, tangents):
        x, log_weights, means, _ = primals
        dx, dlog_weights, dmeans, dlog_scales = tangents
        z, log_det, slope, at = value_and_partials(*primals)
        # The tangent of (x − μ)/σ, times σ.
        shift = dx[..., None] - dmeans - (x[..., None] - means) * dlog_scales
        dz = slope * _sum(at.share * shift) + _sum(at.weight_effect * dlog_weights)
        dlog_density = (
            _sum(at.share_score * shift)
            + _sum(at.share * (dlog_weights - dlog_scales))
            - _sum(jnp.exp(log_weights) * dlog_weights)
        )
        return (z, log_det), (dz, dlog_density + z * dz)

    @jax.custom_jvp
    def quantile(z, log_weights, means, log_scales):
        (x,) = root(z, log_weights, means, log_scales)
        return x

    @quantile.defjvp
    def _(primals, tangents):
        # Implicit function theorem: gaussianize(x, θ) = z fixes dx given dz and dθ.
        z, log_weights, means, log_scales = primals
        dz, dlog_weights, dmeans, dlog_scales = tangents
        x = quantile(z, log_weights, means, log_scales)
        _, _, slope, at = value_and_partials(x, log_weights, means, log_scales)
        # Between far modes the quantile jumps and its slope overflows; a derivative that is
        # merely enormous keeps one such point from turning a batch's gradient into NaN.
        slope = jnp.maximum(slope, jnp.sqrt(jnp.finfo(slope.dtype).tiny))
        moved = _sum(at.share * (dmeans + (x[..., None] - means) * dlog_scales))
        return x, moved + (dz - _sum(at.weight_effect * dlog_weights)) / slope

    def differentiable(index: int, rate: Callable[[Array, Array], Array] | None):
        """One of the log-probabilities; ``rate`` is its derivative in z, given z and itself."""

        @jax.custom_jvp
        def log_probability(x, log_weights, means, log_scales):
            return log_probabilities(x, log_weights, means, log_scales)[index]

        @log_probability.defjvp
        def _(primals, tangents):
            value = log_probability(*primals)
            (z, _), (dz, dlog_det) = jax.jvp(gaussianize, primals, tangents)
            return value, (dlog_det - z * dz if rate is None else rate(z, value) * dz)

        return log_probability

    return MixtureFunctions(
        gaussianize=gaussianize,
        quantile=quantile,
        log_density=differentiable(2, None),
        log_cdf=differentiable(0, _log_cdf_rate),
        log_survival=differentiable(1, _log_survival_rate),
    )


def _log_cdf_rate(z: Array, log_cdf: Array) -> Array:
    # φ(z)/Φ(z): in the lower tail through the scaled tail, which meets no e^{−z²/2}.
    inside = jnp.exp(standard_normal_log_density(z) - log_cdf)
    return jnp.where(z < 0, 1.0 / (SQRT_2PI * scaled_tail(jnp.abs(z))), inside)


def _log_survival_rate(z: Array, log_survival: Array) -> Array:
    return -_log_cdf_rate(-z, log_survival)


def _sum(values: Array) -> Array:
    return jnp.sum(values, axis=-1)


def _evaluations(family: Family):
    """The evaluations of one family, ready for `jax.vmap`."""

    def value(x, log_weights, means, log_scales):
        at = evaluate_fast(family, x, log_weights, means, log_scales)
        return at.z, at.log_det

    def value_and_partials(x, log_weights, means, log_scales):
        at, components = evaluate(family, x, log_weights, means, log_scales)
        return at.z, at.log_det, at.slope, partials(family, at, components)

    def log_probabilities(x, log_weights, means, log_scales):
        at = evaluate_fast(family, x, log_weights, means, log_scales)
        rest = jnp.log1p(-jnp.exp(at.log_beyond))
        log_cdf = jnp.where(at.z > 0, rest, at.log_beyond)
        log_survival = jnp.where(at.z > 0, at.log_beyond, rest)
        return log_cdf, log_survival, jnp.log(at.total_density) + at.shift

    def root(z, log_weights, means, log_scales):
        x, _ = mixture_quantile(family, z, log_weights, means, log_scales)
        return (x,)

    return (
        rows_last(value),
        rows_in_blocks(value_and_partials),
        rows_last(root),
        rows_last(log_probabilities),
    )
