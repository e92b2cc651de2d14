"""The Gaussianizing map of a mixture and its inverse, with closed-form derivatives."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array

from gauss_flows.numerics.batching import batch_last
from gauss_flows.numerics.mixture import Family, evaluate, partials
from gauss_flows.numerics.mixture_quantile import mixture_quantile


class MixtureFunctions(NamedTuple):
    """The public functions of one family; see `gaussian_mixture` for their signatures."""

    gaussianize: Callable[..., tuple[Array, Array]]
    quantile: Callable[..., Array]
    log_density: Callable[..., Array]
    log_cdf: Callable[..., Array]
    log_survival: Callable[..., Array]


def mixture_functions(family: Family) -> MixtureFunctions:
    """Build the map, its inverse and the log-probabilities of one family."""
    value, value_and_partials, root, log_probabilities = _batched(family)

    @jax.custom_jvp
    def gaussianize(x, log_weights, means, log_scales):
        (z, log_det), _ = value(x, log_weights, means, log_scales)
        return z, log_det

    @gaussianize.defjvp
    def _(primals, tangents):
        x, log_weights, means, log_scales = primals
        dx, dlog_weights, dmeans, dlog_scales = tangents
        (z, log_det, slope), (share, share_score, weight_effect) = value_and_partials(*primals)
        # The tangent of (x − μ)/σ, times σ.
        shift = dx[..., None] - dmeans - (x[..., None] - means) * dlog_scales
        dz = slope * _sum(share * shift) + _sum(weight_effect * dlog_weights)
        dlog_density = (
            _sum(share_score * shift)
            + _sum(share * (dlog_weights - dlog_scales))
            - _sum(jnp.exp(log_weights) * dlog_weights)
        )
        return (z, log_det), (dz, dlog_density + z * dz)

    @jax.custom_jvp
    def quantile(z, log_weights, means, log_scales):
        (x,), _ = root(z, log_weights, means, log_scales)
        return x

    @quantile.defjvp
    def _(primals, tangents):
        # Implicit function theorem: gaussianize(x, θ) = z fixes dx given dz and dθ.
        z, log_weights, means, log_scales = primals
        dz, dlog_weights, dmeans, dlog_scales = tangents
        x = quantile(z, log_weights, means, log_scales)
        (_, _, slope), (share, _, weight_effect) = value_and_partials(
            x, log_weights, means, log_scales
        )
        # Between far modes the quantile jumps and its slope overflows; a derivative that is
        # merely enormous keeps one such point from turning a batch's gradient into NaN.
        slope = jnp.maximum(slope, jnp.sqrt(jnp.finfo(slope.dtype).tiny))
        moved = _sum(share * (dmeans + (x[..., None] - means) * dlog_scales))
        dx = (dz - _sum(weight_effect * dlog_weights)) / slope + moved
        return x, dx

    @jax.jit
    def log_cdf(x, log_weights, means, log_scales):
        return log_probabilities(x, log_weights, means, log_scales)[0][0]

    @jax.jit
    def log_survival(x, log_weights, means, log_scales):
        return log_probabilities(x, log_weights, means, log_scales)[0][1]

    @jax.jit
    def log_density(x, log_weights, means, log_scales):
        return log_probabilities(x, log_weights, means, log_scales)[0][2]

    return MixtureFunctions(gaussianize, quantile, log_density, log_cdf, log_survival)


def _sum(values: Array) -> Array:
    return jnp.sum(values, axis=-1)


def _batched(family: Family):
    """The evaluations of one family, each with the batch on the last axis under vmap."""

    @batch_last
    def value(x, log_weights, means, log_scales):
        at = evaluate(family, x, log_weights, means, log_scales)
        return (at.z, at.log_det), ()

    @batch_last
    def value_and_partials(x, log_weights, means, log_scales):
        at = evaluate(family, x, log_weights, means, log_scales)
        return (at.z, at.log_det, at.slope), tuple(partials(family, at))

    @batch_last
    def log_probabilities(x, log_weights, means, log_scales):
        at = evaluate(family, x, log_weights, means, log_scales)
        rest = jnp.log1p(-jnp.exp(at.log_beyond))
        log_cdf = jnp.where(at.z > 0, rest, at.log_beyond)
        log_survival = jnp.where(at.z > 0, at.log_beyond, rest)
        return (log_cdf, log_survival, jnp.log(at.total_density) + at.shift), ()

    @batch_last
    def root(z, log_weights, means, log_scales):
        x, _ = mixture_quantile(family, z, log_weights, means, log_scales)
        return (x,), ()

    return value, value_and_partials, root, log_probabilities
