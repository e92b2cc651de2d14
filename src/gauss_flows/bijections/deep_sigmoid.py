"""Coupling whose elementwise map is a deep sigmoid: a mixture of sigmoids, seen through a logit."""

import math
from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jax.nn import log_sigmoid
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gauss_flows.bijections.coupling import Coupling, Mask
from gauss_flows.bijections.mixture_parameters import Mixture, unpack

_LOGISTIC_DEVIATION = math.pi / math.sqrt(3.0)
_MAX_EVALUATIONS = 120


class DeepSigmoidCoupling(AbstractBijection):
    r"""Coupling with a deep sigmoid for each transformed coordinate.

    $$z_{\text{passive}} = x_{\text{passive}}, \qquad
    z_j = \operatorname{logit}\Big(\sum_k w_{jk}\,\sigma(a_{jk} x_j + b_{jk})\Big), \qquad
    a_{jk} = 1/s_{jk},\ b_{jk} = -\mu_{jk}/s_{jk}.$$

    The sum F and its complement are both kept as logarithms, so z = log F − log(1 − F) is exact in
    both tails, where it grows in proportion to x. The conditioner's output is added to a base of
    distinct sigmoids whose sum is near the identity and whose widest has unit slope, so that a
    zero last kernel, as at the start, gives a layer that is near the identity and can learn. The
    inverse is a bracketed Newton search; its gradient is that of the implicit function.

    Args:
        key: Random key of the conditioner (unused if one is given).
        n_dims: Number of coordinates d.
        n_components: Sigmoids K in each sum. The conditioner has 3 K outputs for each transformed
            coordinate: logits of w, then μ and log s.
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        cond_dim: Width of an external condition; `None` for none.
        nn_width: Width of the conditioner's hidden layers.
        nn_depth: Number of its hidden layers.
        conditioner: A network to use in place of the built-in one, see
            [`Coupling`][gauss_flows.bijections.coupling.Coupling].

    Raises:
        ValueError: if the mask or the conditioner does not fit, or `n_components` < 1.

    References:
        Huang, Krueger, Lacoste & Courville, "Neural Autoregressive Flows" (2018).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows import DeepSigmoidCoupling
        >>> layer = DeepSigmoidCoupling(jr.key(0), n_dims=2, n_components=8)
        >>> z, log_det = layer.transform_and_log_det(jnp.array([0.5, -4000.0]))
        >>> bool(jnp.allclose(layer.inverse(z), jnp.array([0.5, -4000.0])))
        True
    """

    _coupling: Coupling
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        n_dims: int,
        n_components: int = 8,
        mask: Mask | None = None,
        cond_dim: int | None = None,
        nn_width: int = 64,
        nn_depth: int = 2,
        conditioner: Callable[[Array], Array] | None = None,
    ):
        if n_components < 1:
            raise ValueError(f"Expected n_components >= 1; got {n_components}.")
        self._coupling = Coupling(
            key,
            n_dims=n_dims,
            n_params=3 * n_components,
            mask=mask,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
            conditioner=conditioner,
            marginal_layer="MixtureLogisticCDF",
        )
        self.shape = self._coupling.shape
        self.cond_shape = self._coupling.cond_shape

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Data to latent: z of shape (n_dims,) and the log-determinant in nats."""
        passive, active = self._coupling.split(x)
        z, log_det = deep_sigmoid(active, *self._sigmoids(passive, condition))
        return self._coupling.merge(passive, z), log_det.sum()

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Latent to data: x of shape (n_dims,) and the inverse's log-determinant in nats."""
        passive, active = self._coupling.split(y)
        sigmoids = self._sigmoids(passive, condition)
        x = deep_sigmoid_inverse(active, *sigmoids)
        _, log_det = deep_sigmoid(x, *sigmoids)
        return self._coupling.merge(passive, x), -log_det.sum()

    def _sigmoids(self, passive: Array, condition: ArrayLike | None) -> Mixture:
        raw = self._coupling.parameters(passive, condition)
        log_weights, means, log_scales = unpack(raw.reshape(raw.shape[0], 3, -1))
        # The base has variance 1, and the standard logistic π²/3: so stretched, it is near the
        # standard logistic, whose deep sigmoid is the identity.
        return Mixture(log_weights, _LOGISTIC_DEVIATION * means, log_scales)


def deep_sigmoid(
    x: Float[Array, "..."],
    log_weights: Float[Array, "... K"],
    means: Float[Array, "... K"],
    log_scales: Float[Array, "... K"],
) -> tuple[Float[Array, "..."], Float[Array, "..."]]:
    r"""Logit of a mixture of sigmoids, elementwise.

    $$F(x) = \sum_k w_k\, \sigma\Big(\frac{x - \mu_k}{s_k}\Big), \qquad
    z = \log F - \log(1 - F), \qquad
    \log\frac{dz}{dx} = \log F' - \log F - \log(1 - F).$$

    Args:
        x: Points, of shape (...).
        log_weights: log w, normalised over the last axis (nats).
        means: μ.
        log_scales: log s (nats).

    Returns:
        z and the log-derivative (nats), both of shape (...).

    Example:
        >>> import jax.numpy as jnp
        >>> one = jnp.zeros(1)
        >>> deep_sigmoid(jnp.array(-1e6), one, one, one)[0]
        Array(-1.e+06, dtype=float32)
    """
    u = (x[..., None] - means) * jnp.exp(-log_scales)
    below, above = log_weights + log_sigmoid(u), log_weights + log_sigmoid(-u)
    top_below, top_above = _top(below), _top(above)
    log_cdf = jnp.log(jnp.sum(jnp.exp(below - top_below), axis=-1))
    log_survival = jnp.log(jnp.sum(jnp.exp(above - top_above), axis=-1))
    z = (log_cdf - log_survival) + (top_below - top_above)[..., 0]
    # F' = Σ w σ(u) σ(-u) / s. Taken relative to the two largest terms, whose logarithms are
    # large in the tails and cancel, it keeps its last digits there.
    terms = (below - top_below) + (above - top_above) - log_weights - log_scales
    return z, jax.nn.logsumexp(terms, axis=-1) - log_cdf - log_survival


@jax.custom_jvp
def deep_sigmoid_inverse(
    z: Float[Array, "..."],
    log_weights: Float[Array, "... K"],
    means: Float[Array, "... K"],
    log_scales: Float[Array, "... K"],
) -> Float[Array, "..."]:
    """The x with `deep_sigmoid(x, ...)[0]` = z, elementwise.

    Args:
        z: Points, of shape (...).
        log_weights: log w, normalised over the last axis (nats).
        means: μ.
        log_scales: log s (nats).

    Returns:
        x of shape (...); NaN where the search failed.

    Example:
        >>> import jax.numpy as jnp
        >>> sigmoids = jnp.log(jnp.array([0.2, 0.8])), jnp.array([-3.0, 2.0]), jnp.zeros(2)
        >>> deep_sigmoid(deep_sigmoid_inverse(jnp.array(-5.0), *sigmoids), *sigmoids)[0]
        Array(-5., dtype=float32)
    """
    return _search(z, log_weights, means, log_scales)


@deep_sigmoid_inverse.defjvp
def _(primals, tangents):
    # Implicit function theorem: z(x, θ) is held, so dx = (dz − ∂z/∂θ dθ) / (∂z/∂x).
    z, *sigmoids = primals
    dz, *dsigmoids = tangents
    x = deep_sigmoid_inverse(z, *sigmoids)
    (_, log_det), (moved, _) = jax.jvp(
        lambda *parameters: deep_sigmoid(x, *parameters), tuple(sigmoids), tuple(dsigmoids)
    )
    # Between far modes the slope may underflow; a derivative that is merely enormous keeps one
    # such point from turning a batch's gradient into NaN.
    least = 0.5 * math.log(float(jnp.finfo(log_det.dtype).tiny))
    return x, (dz - moved) * jnp.exp(-jnp.maximum(log_det, least))


class _State(NamedTuple):
    x: Array
    lower: Array
    upper: Array
    residual: Array
    done: Array
    n_evaluations: Array


@jax.jit
def _search(z: Array, log_weights: Array, means: Array, log_scales: Array) -> Array:
    """Newton's method between the solutions of the single sigmoids, which enclose the root."""
    eps = jnp.finfo(z.dtype).eps
    ends = means + jnp.exp(log_scales) * z[..., None]
    lower, upper = jnp.min(ends, axis=-1), jnp.max(ends, axis=-1)
    start = jnp.sum(jnp.exp(log_weights) * ends, axis=-1)

    def step(state: _State) -> _State:
        x = state.x
        value, log_det = deep_sigmoid(x, log_weights, means, log_scales)
        g = value - z
        lower = jnp.where(g < 0, x, state.lower)
        upper = jnp.where(g > 0, x, state.upper)
        newton = x - g * jnp.exp(-log_det)
        inside = (newton >= lower) & (newton <= upper)
        slow = jnp.abs(g) > 0.5 * state.residual
        # A step of zero lies inside the bracket: it is the end, not a failure.
        settled = inside & (jnp.abs(newton - x) <= eps * jnp.abs(x))
        candidate = jnp.where(settled | (inside & ~slow), newton, 0.5 * lower + 0.5 * upper)
        closed = upper - lower <= eps * jnp.maximum(jnp.abs(lower), jnp.abs(upper))
        return _State(
            x=jnp.where(state.done | (g == 0), x, candidate),
            lower=lower,
            upper=upper,
            # After a halving Newton is tried afresh, whatever it did before.
            residual=jnp.where(slow, jnp.inf, jnp.abs(g)),
            done=state.done | settled | closed | (g == 0),
            n_evaluations=state.n_evaluations + 1,
        )

    def unfinished(state: _State) -> Array:
        return jnp.any(~state.done) & (state.n_evaluations < _MAX_EVALUATIONS)

    state = jax.lax.while_loop(
        unfinished,
        step,
        _State(
            x=start,
            lower=lower,
            upper=upper,
            residual=jnp.full_like(start, jnp.inf),
            done=~jnp.isfinite(start),
            n_evaluations=jnp.zeros((), jnp.int32),
        ),
    )
    return jnp.where(state.done, state.x, jnp.nan)


def _top(terms: Array) -> Array:
    """The largest along the last axis, as a constant that shifts a sum of exponentials."""
    return jax.lax.stop_gradient(jnp.max(terms, axis=-1, keepdims=True))
