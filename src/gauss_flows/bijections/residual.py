"""Coupling that adds a contraction, so that the way back always exists."""

import math
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Bool, Float, Int, PRNGKeyArray

from gauss_flows.bijections.coupling import Coupling, Mask

# Unit k is between e⁻³ and e³ wide: narrower ones are steps, wider ones straight lines.
_LOG_RATE_RANGE = 3.0
# Above this, float32 cannot tell the bound from 1.
_LARGEST_LIPSCHITZ = 0.999


class ResidualCoupling(AbstractBijection):
    r"""Residual coupling: the active coordinates plus a contraction of each of them.

    $$z_j = x_j + g_j(x_j), \qquad
    g_j(t) = \sum_{k=1}^{K} \frac{s_{jk}}{b_{jk}} \tanh\bigl(b_{jk} (t - m_{jk})\bigr), \qquad
    \sum_k |s_{jk}| \le c < 1,$$

    with s, b and m of coordinate j from the conditioner, which reads the passive coordinates and
    the condition. The slopes are normalised, not penalised, so $|g_j'| \le c$ holds for any
    parameters, trained or not:

    - the layer is invertible, and both it and its inverse are Lipschitz;
    - $\mathrm{log\_det} = \sum_j \log(1 + g_j'(x_j))$ is exact, no trace is estimated;
    - one evaluation encloses the inverse, $x \in z' - r / [1 - c, 1 + c]$ for a residual r at z'.
      Newton steps kept inside that shrinking interval (and halving it where they would not
      converge) therefore end at the only solution, after a number of steps that is bounded
      beforehand. Gradients of the inverse come from the implicit function theorem.

    Args:
        key: Random key of the conditioner.
        n_dims: Number of coordinates d.
        n_units: Number of units K a transformed coordinate.
        max_lipschitz: Bound c on $|g_j'|$, above 0 and at most 0.999.
        mask: d booleans: `True` passes through and conditions, `False` is transformed. By default
            the first ⌊d/2⌋ coordinates condition.
        cond_dim: Width of an external condition; `None` for no condition.
        nn_width: Width of the conditioner's hidden layers.
        nn_depth: Number of hidden layers.
        conditioner: Any callable from shape (d_passive + cond_dim,) to
            (d_active · 3 · n_units,); `None` for the built-in network, with which the layer
            starts as the identity.

    Raises:
        ValueError: if `n_units` < 1, `max_lipschitz` is out of its range, or the mask or the
            conditioner does not fit.

    References:
        Behrmann et al., "Invertible Residual Networks" (2019); Chen et al., "Residual Flows for
        Invertible Generative Modeling" (2019).

    Example:
        >>> import jax.numpy as jnp
        >>> import jax.random as jr
        >>> from gauss_flows.bijections import ResidualCoupling
        >>> layer = ResidualCoupling(jr.key(0), n_dims=3, n_units=4)
        >>> z, log_det = layer.transform_and_log_det(jnp.array([0.5, -1.0, 2.0]))
        >>> print(z, log_det)
        [ 0.5 -1.   2. ] 0.0
    """

    _coupling: Coupling
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)
    n_units: int = eqx.field(static=True)
    max_lipschitz: float = eqx.field(static=True)

    def __init__(
        self,
        key: PRNGKeyArray,
        *,
        n_dims: int,
        n_units: int = 8,
        max_lipschitz: float = 0.9,
        mask: Mask | None = None,
        cond_dim: int | None = None,
        nn_width: int = 64,
        nn_depth: int = 2,
        conditioner: Callable[[Array], Array] | None = None,
    ):
        if n_units < 1:
            raise ValueError(f"Expected n_units >= 1; got {n_units}.")
        if not 0 < max_lipschitz <= _LARGEST_LIPSCHITZ:
            raise ValueError(
                f"Expected 0 < max_lipschitz <= {_LARGEST_LIPSCHITZ}; got {max_lipschitz}."
            )
        self.n_units = n_units
        self.max_lipschitz = float(max_lipschitz)
        self._coupling = Coupling(
            key,
            n_dims=n_dims,
            n_params=3 * n_units,
            mask=mask,
            cond_dim=cond_dim,
            nn_width=nn_width,
            nn_depth=nn_depth,
            conditioner=conditioner,
        )
        self.shape = self._coupling.shape
        self.cond_shape = self._coupling.cond_shape

    def transform_and_log_det(
        self, x: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Add the contraction: z of shape (n_dims,) and the log-determinant in nats."""
        passive, active = self._coupling.split(jnp.asarray(x))
        value, slope, _ = _evaluate(active, self._units(passive, condition))
        return self._coupling.merge(passive, active + value), jnp.sum(jnp.log1p(slope))

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " n_dims"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " n_dims"], Float[Array, ""]]:
        """Solve for x: of shape (n_dims,), NaN where y is not finite, and its log-determinant."""
        passive, active = self._coupling.split(jnp.asarray(y))
        units = self._units(passive, condition)
        active = active.astype(jnp.promote_types(active.dtype, units.slopes.dtype))
        active = _solve(self.max_lipschitz, active, units)
        _, slope, _ = _evaluate(active, units)
        return self._coupling.merge(passive, active), -jnp.sum(jnp.log1p(slope))

    def _units(self, passive: Array, condition: ArrayLike | None) -> "_Units":
        """The bounded units, from the conditioner's free numbers."""
        if condition is not None:
            condition = jnp.asarray(condition)
        raw = self._coupling.parameters(passive, condition)
        raw_slopes, raw_rates, raw_centres = jnp.split(raw, 3, axis=-1)
        # hypot is a smooth bound on |raw|, so that the slopes' sizes sum to less than c.
        total = jnp.sum(jnp.hypot(1 / self.n_units, raw_slopes), axis=-1, keepdims=True)
        # Distinct centres: units that start equal would get equal gradients and stay equal.
        levels = (np.arange(self.n_units) + 0.5) / self.n_units
        return _Units(
            slopes=self.max_lipschitz * (raw_slopes / total),
            rates=jnp.exp(_LOG_RATE_RANGE * jnp.tanh(raw_rates / _LOG_RATE_RANGE)),
            centres=raw_centres + jnp.asarray(scipy.stats.norm.ppf(levels), raw.dtype),
        )


class _Units(NamedTuple):
    """Slopes s, rates b and centres m of the units, each of shape (d_active, n_units)."""

    slopes: Array
    rates: Array
    centres: Array


def _evaluate(x: Array, units: _Units) -> tuple[Array, Array, Array]:
    """g(x), g'(x), and the size of g's terms, for its rounding; each of shape (d_active,)."""
    values = jnp.tanh(units.rates * (x[:, None] - units.centres))
    terms = units.slopes / units.rates * values
    slope = jnp.sum(units.slopes * (1 - values**2), axis=-1)
    return jnp.sum(terms, axis=-1), slope, jnp.sum(jnp.abs(terms), axis=-1)


@partial(jax.custom_jvp, nondiff_argnums=(0,))
def _solve(max_lipschitz: float, z: Array, units: _Units) -> Array:
    """Solve x + g(x) = z to the last digits; NaN where z is not finite."""
    return _newton_in_bracket(max_lipschitz, z, units)


@_solve.defjvp
def _solve_jvp(
    max_lipschitz: float, primals: tuple[Array, _Units], tangents: tuple[Array, _Units]
) -> tuple[Array, Array]:
    """Implicit function theorem: (1 + g') dx = dz − ∂g."""
    z, units = primals
    z_tangent, units_tangent = tangents
    x = _solve(max_lipschitz, z, units)

    def value_at_x(units: _Units) -> Array:
        return _evaluate(x, units)[0]

    _, value_tangent = jax.jvp(value_at_x, (units,), (units_tangent,))
    _, slope, _ = _evaluate(x, units)
    return x, (z_tangent - value_tangent) / (1 + slope)


class _Search(NamedTuple):
    """State of the search, each but the counter of shape (d_active,)."""

    x: Float[Array, " d_active"]
    low: Float[Array, " d_active"]
    high: Float[Array, " d_active"]
    last_residual: Float[Array, " d_active"]
    found: Bool[Array, " d_active"]
    stopped: Bool[Array, " d_active"]  # found, or not finite and never to be
    n_steps: Int[Array, ""]


# Jitted at module level: an eager loop would be compiled again at every call.
@partial(jax.jit, static_argnums=0)
def _newton_in_bracket(max_lipschitz: float, z: Array, units: _Units) -> Array:
    rounding = jnp.finfo(z.dtype)
    # The interval is at most 2c/(1 − c²) times as wide as |r|, and |r| at most 1 + c times as
    # large as the interval was wide. So if Newton halves |r| often enough in a row, the interval
    # halves; if it fails before that, the interval is bisected. That many halvings leave nothing.
    steps_a_halving = 3 + math.ceil(math.log2(2 / (1 - max_lipschitz)))
    most_steps = steps_a_halving * (int(rounding.nmant) + 12)

    def step(state: _Search) -> _Search:
        x = state.x
        value, slope, size = _evaluate(x, units)
        residual = (x - z) + value
        tolerance = 4 * rounding.eps * (jnp.abs(x) + jnp.abs(z) + size)
        found = jnp.abs(residual) <= tolerance
        steep, flat = residual / (1 + max_lipschitz), residual / (1 - max_lipschitz)
        slack = tolerance / (1 - max_lipschitz)
        low = jnp.maximum(state.low, x - jnp.maximum(steep, flat) - slack)
        high = jnp.minimum(state.high, x - jnp.minimum(steep, flat) + slack)
        newton = x - residual / (1 + slope)
        converges = jnp.abs(residual) <= 0.5 * state.last_residual
        is_safe = found | (converges & (newton >= low) & (newton <= high))
        better = jnp.where(is_safe, newton, low + 0.5 * (high - low))
        return _Search(
            x=jnp.where(state.stopped, x, better),
            low=low,
            high=high,
            last_residual=jnp.abs(residual),
            found=found | state.found,
            stopped=state.stopped | found | ~jnp.isfinite(residual),
            n_steps=state.n_steps + 1,
        )

    def is_searching(state: _Search) -> Array:
        return jnp.any(~state.stopped) & (state.n_steps < most_steps)

    infinite = jnp.full_like(z, jnp.inf)
    nowhere = jnp.zeros(z.shape, bool)
    start = _Search(z, -infinite, infinite, infinite, nowhere, nowhere, jnp.zeros((), int))
    end = jax.lax.while_loop(is_searching, step, start)
    # A search that has not ended must not pass for a solution.
    return jnp.where(end.found, end.x, jnp.nan)
