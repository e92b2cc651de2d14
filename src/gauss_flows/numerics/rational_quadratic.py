r"""Monotone rational-quadratic splines with linear tails.

Both axes of the box $[-B, B]^2$ are cut into n + 1 bins by n inner knots. Inside the box each bin
holds one rational quadratic; outside, the curve goes on as a straight line with the slope of the
end knot, so that the derivative is continuous everywhere.

The functions work elementwise: `raw` carries one spline per element in its last axis, and its
other axes broadcast against x. The 3n + 4 raw numbers are n + 1 widths, n + 1 heights and n + 2
knot derivatives, all unconstrained, and all zero for the identity.
"""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

MIN_RELATIVE_BIN = 1e-2
"""Least width and height of a bin, in units of the evenly spaced one."""

MAX_LOG_DERIVATIVE = 7.0
"""Bound on the absolute log-derivative at a knot (nats)."""

# How far one unit of a raw parameter moves the logarithm of a bin or of a derivative. Adam moves a
# parameter by about its learning rate, so this decides what a given rate can do.
_GAIN = 2.0


def n_raw(n_bins: int) -> int:
    """Length of the raw parameters of a spline with `n_bins` inner knots.

    Example:
        >>> n_raw(8)
        28
    """
    return 3 * n_bins + 4


def forward(
    x: Float[Array, "*#batch"], raw: Float[Array, "*#batch n_raw"], interval: float
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    r"""Spline value and log-derivative.

    With $\xi = (x - x_k) / w_k$ in bin k of width $w_k$, height $h_k$, slope $s = h_k / w_k$ and
    derivatives $\delta_k, \delta_{k+1}$ at its knots,

    $$z = z_k + h_k \frac{\xi\,[s \xi + \delta_k (1 - \xi)]}
                    {s + (\delta_{k+1} + \delta_k - 2 s)\, \xi (1 - \xi)}.$$

    Args:
        x: Points.
        raw: Unconstrained parameters, 3n + 4 in the last axis.
        interval: Half-width B of the box.

    Returns:
        z and $\log |dz/dx|$ (nats), of the broadcast shape. Exact at the knots.

    References:
        Durkan, Bekasov, Murray & Papamakarios, "Neural Spline Flows" (2019).

    Example:
        >>> import jax.numpy as jnp
        >>> forward(jnp.array([-10.0, 0.5, 1e6]), jnp.zeros(n_raw(8)), interval=3.0)[1]
        Array([0., 0., 0.], dtype=float32)
    """
    bins = _Bins(x, raw, interval, axis=0)
    xi, rest = (bins.inside - bins.x_left) / bins.width, (bins.x_right - bins.inside) / bins.width
    z, log_derivative = _in_bin(bins, xi, rest)
    z = bins.z_left + bins.height * z
    tail = bins.edge + jnp.exp(bins.edge_log_derivative) * (x - bins.edge)
    return (
        jnp.where(bins.outside, tail, z),
        jnp.where(bins.outside, bins.edge_log_derivative, log_derivative),
    )


def inverse(
    z: Float[Array, "*#batch"], raw: Float[Array, "*#batch n_raw"], interval: float
) -> tuple[Float[Array, "*batch"], Float[Array, "*batch"]]:
    r"""Closed-form inverse of `forward`, and its own log-derivative.

    With $\eta = (z - z_k) / h_k$ and $t = \delta_{k+1} \eta - \delta_k (1 - \eta)$ the quadratic
    for $\xi$ has the discriminant $t^2 + 4 s^2 \eta (1 - \eta)$, a sum of squares. With
    $r = |t| + \sqrt{\cdot}$,

    $$\xi = \frac{r}{r + 2 s (1 - \eta)} \ (t \ge 0), \qquad
      \xi = \frac{2 s \eta}{r + 2 s \eta} \ (t < 0),$$

    where every term is positive, so that nothing cancels.

    Args:
        z: Points.
        raw: Unconstrained parameters, 3n + 4 in the last axis.
        interval: Half-width B of the box.

    Returns:
        x and $\log |dx/dz|$ (nats), of the broadcast shape.

    Example:
        >>> import jax.numpy as jnp
        >>> raw = jnp.linspace(-1.0, 1.0, n_raw(8))
        >>> z, log_det = forward(jnp.array(0.3), raw, interval=3.0)
        >>> x, log_det_back = inverse(z, raw, interval=3.0)
        >>> bool(abs(x - 0.3) < 1e-6), bool(abs(log_det + log_det_back) < 1e-5)
        (True, True)
    """
    bins = _Bins(z, raw, interval, axis=1)
    eta = (bins.inside - bins.z_left) / bins.height
    eta_rest = (bins.z_right - bins.inside) / bins.height
    slope = bins.height / bins.width
    t = bins.d_right * eta - bins.d_left * eta_rest
    r = jnp.abs(t) + jnp.sqrt(t**2 + 4 * slope**2 * eta * eta_rest)
    twice = 2 * slope * jnp.where(t < 0, eta, eta_rest)
    large, small = r / (r + twice), twice / (r + twice)
    xi, rest = jnp.where(t < 0, small, large), jnp.where(t < 0, large, small)
    x = bins.x_left + bins.width * xi
    _, log_derivative = _in_bin(bins, xi, rest)
    tail = bins.edge + jnp.exp(-bins.edge_log_derivative) * (z - bins.edge)
    return (
        jnp.where(bins.outside, tail, x),
        -jnp.where(bins.outside, bins.edge_log_derivative, log_derivative),
    )


def unpack(
    raw: Float[Array, "*batch n_raw"], interval: float
) -> tuple[
    Float[Array, "*batch n_knots"], Float[Array, "*batch n_knots"], Float[Array, "*batch n_knots"]
]:
    r"""Knots and their derivatives from the raw parameters.

    Args:
        raw: Unconstrained parameters, 3n + 4 in the last axis.
        interval: Half-width B of the box.

    Returns:
        Knots on the x axis, knots on the z axis (both from -B to B) and log-derivatives there
        (nats), n + 2 of each.

    Raises:
        ValueError: if the last axis of `raw` is not 3n + 4 long for any n ≥ 0.

    Example:
        >>> import jax.numpy as jnp
        >>> x_knots, z_knots, log_derivatives = unpack(jnp.zeros(n_raw(2)), interval=3.0)
        >>> bool(jnp.allclose(x_knots, jnp.array([-3.0, -1.0, 1.0, 3.0]), atol=1e-6))
        True
    """
    widths, heights, derivatives = _split(raw)
    x_knots, z_knots = _knots(widths, interval), _knots(heights, interval)
    return x_knots, z_knots, _log_derivative(derivatives)


def pack(
    x_knots: ArrayLike, z_knots: ArrayLike, log_derivatives: ArrayLike, interval: float
) -> Float[Array, "*batch n_raw"]:
    r"""Raw parameters of a spline with given knots: the inverse of `unpack`.

    Args:
        x_knots: n + 2 increasing knots from -B to B in the last axis.
        z_knots: The same for the z axis.
        log_derivatives: Log-derivatives at the knots (nats), below `MAX_LOG_DERIVATIVE` in size.
        interval: Half-width B of the box.

    Returns:
        Raw parameters, 3n + 4 in the last axis.

    Raises:
        ValueError: if the three do not have the same number of knots in the last axis.

    Example:
        >>> import jax.numpy as jnp
        >>> knots = jnp.array([-3.0, -2.0, 1.0, 3.0])
        >>> raw = pack(knots, knots, jnp.zeros(4), interval=3.0)
        >>> bool(jnp.allclose(unpack(raw, interval=3.0)[0], knots))
        True
    """
    x_knots, z_knots, log_derivatives = map(jnp.asarray, (x_knots, z_knots, log_derivatives))
    counts = [a.shape[-1] for a in (x_knots, z_knots, log_derivatives)]
    if len(set(counts)) > 1:
        raise ValueError(f"Expected as many knots in each argument; got {counts}.")
    derivatives = jnp.arctanh(log_derivatives / MAX_LOG_DERIVATIVE) * MAX_LOG_DERIVATIVE
    return jnp.concatenate(
        [
            _raw_bins(x_knots, interval),
            _raw_bins(z_knots, interval),
            derivatives / _GAIN,
        ],
        axis=-1,
    )


class _Bins:
    """The bin each point falls into, looked up on the x axis (0) or the z axis (1)."""

    def __init__(self, points: Array, raw: Array, interval: float, axis: int):
        batch = jnp.broadcast_shapes(points.shape, raw.shape[:-1])
        raw = jnp.broadcast_to(raw, (*batch, raw.shape[-1]))
        raw_widths, raw_heights, raw_derivatives = _split(raw)
        below, above = points < -interval, points >= interval
        self.outside = below | above
        self.edge = jnp.where(below, -interval, interval).astype(points.dtype)
        self.edge_log_derivative = _log_derivative(
            jnp.where(below, raw_derivatives[..., 0], raw_derivatives[..., -1])
        )
        # Points outside take part as the edge: no overflow, hence no NaN gradient, in the bins.
        self.inside = jnp.where(self.outside, self.edge, points)

        x_knots = _knots(raw_widths, interval)
        z_knots = _knots(raw_heights, interval)
        inner = (x_knots, z_knots)[axis][..., 1:-1]
        left = jnp.sum(self.inside[..., None] >= inner, axis=-1, keepdims=True)

        def at(values: Array, index: Array) -> Array:
            return jnp.take_along_axis(values, index, axis=-1)[..., 0]

        self.x_left, self.x_right = at(x_knots, left), at(x_knots, left + 1)
        self.z_left, self.z_right = at(z_knots, left), at(z_knots, left + 1)
        self.width, self.height = self.x_right - self.x_left, self.z_right - self.z_left
        self.d_left = jnp.exp(_log_derivative(at(raw_derivatives, left)))
        self.d_right = jnp.exp(_log_derivative(at(raw_derivatives, left + 1)))


def _in_bin(bins: _Bins, xi: Array, rest: Array) -> tuple[Array, Array]:
    """Height reached within the bin (0 to 1) and log-derivative, at ξ with rest = 1 - ξ."""
    slope = bins.height / bins.width
    both = xi * rest
    # Sums of positive terms only: 1 - 2 ξ (1 - ξ) is ξ² + (1 - ξ)².
    denominator = slope * (xi**2 + rest**2) + (bins.d_left + bins.d_right) * both
    eta = xi * (slope * xi + bins.d_left * rest) / denominator
    numerator = bins.d_right * xi**2 + 2 * slope * both + bins.d_left * rest**2
    return eta, jnp.log(numerator * (slope / denominator) ** 2)


def _split(raw: Array) -> tuple[Array, Array, Array]:
    n_intervals = (raw.shape[-1] - 1) // 3
    if raw.shape[-1] != 3 * n_intervals + 1 or n_intervals < 1:
        raise ValueError(f"Expected 3 n_bins + 4 raw parameters a spline; got {raw.shape[-1]}.")
    return (
        raw[..., :n_intervals],
        raw[..., n_intervals : -n_intervals - 1],
        raw[..., -n_intervals - 1 :],
    )


def _knots(raw: Array, interval: float) -> Array:
    n_intervals = raw.shape[-1]
    floor = MIN_RELATIVE_BIN / n_intervals
    shares = floor + (1 - MIN_RELATIVE_BIN) * jax.nn.softmax(_GAIN * raw, axis=-1)
    inner = interval * (2 * jnp.cumsum(shares[..., :-1], axis=-1) - 1)
    end = jnp.full((*raw.shape[:-1], 1), interval, raw.dtype)
    return jnp.concatenate([-end, inner, end], axis=-1)


def _raw_bins(knots: Array, interval: float) -> Array:
    shares = jnp.diff(knots, axis=-1) / (2 * interval)
    floor = MIN_RELATIVE_BIN / shares.shape[-1]
    logits = jnp.log(shares - floor)
    return (logits - jnp.mean(logits, axis=-1, keepdims=True)) / _GAIN


def _log_derivative(raw: Array) -> Array:
    return MAX_LOG_DERIVATIVE * jnp.tanh(_GAIN / MAX_LOG_DERIVATIVE * raw)
