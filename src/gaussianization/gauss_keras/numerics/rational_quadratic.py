r"""Monotone rational-quadratic splines with linear tails.

Both axes of the box $[-B, B]^2$ are cut into n + 1 bins by n inner knots. Inside the box each bin
holds one rational quadratic; outside, the curve goes on as a straight line with the slope of the
end knot, so that the derivative is continuous everywhere.

The functions work elementwise: `raw` carries one spline per element on its first axis, where sums
are cheap on every backend. The 3n + 4 raw numbers are n + 1 widths, n + 1 heights and n + 2 knot
derivatives, all unconstrained, and all zero for the identity.
"""

from itertools import accumulate
from typing import Any, NamedTuple

import numpy as np
from keras import ops

from gaussianization.gauss_keras.numerics.normal import dtype_of
from gaussianization.gauss_keras.numerics.tanh import tanh

MIN_RELATIVE_BIN = 1e-2
"""Least width and height of a bin, in units of the evenly spaced one."""

MAX_LOG_DERIVATIVE = 7.0
"""Bound on the absolute log-derivative at a knot (nats)."""

# How far one unit of a raw parameter moves the logarithm of a bin or of a derivative. Adam moves a
# parameter by about its learning rate, so this decides what a given rate can do.
_GAIN = 2.0


def raw_size(num_bins: int) -> int:
    """Number of raw parameters of a spline with ``num_bins`` inner knots, 3n + 4.

    Example:
        >>> from gaussianization.gauss_keras.numerics.rational_quadratic import raw_size
        >>> raw_size(8)
        28
    """
    return 3 * num_bins + 4


def forward(x: Any, raw: Any, interval: float) -> tuple[Any, Any]:
    r"""Spline value and log-derivative.

    With $\xi = (x - x_k) / w_k$ in bin k of width $w_k$, height $h_k$, slope $s = h_k / w_k$ and
    derivatives $\delta_k, \delta_{k+1}$ at its knots,

    $$z = z_k + h_k \frac{\xi\,[s \xi + \delta_k (1 - \xi)]}
                    {s + (\delta_{k+1} + \delta_k - 2 s)\, \xi (1 - \xi)}.$$

    Args:
        x: Points, shape (...).
        raw: Unconstrained parameters, shape (3n + 4, ...).
        interval: Half-width B of the box.

    Returns:
        z and $\log |dz/dx|$ in nats, of x's shape. Exact at the knots.

    Raises:
        ValueError: If ``raw`` is not 3n + 4 long for any n ≥ 1.

    References:
        Durkan, Bekasov, Murray & Papamakarios (2019), *Neural Spline Flows*.

    Example:
        >>> from keras import ops
        >>> from gaussianization.gauss_keras.numerics.rational_quadratic import forward
        >>> x = ops.convert_to_tensor([-10.0, 0.5, 1e6])
        >>> z, log_derivative = forward(x, ops.zeros((28, 3)), interval=3.0)
        >>> [float(value) for value in z], [float(value) for value in log_derivative]
        ([-10.0, 0.5, 1000000.0], [0.0, 0.0, 0.0])
    """
    bins = _find(x, raw, interval, by_z=False)
    inverse_width = 1.0 / bins.width
    xi = (bins.inside - bins.x_left) * inverse_width
    rest = (bins.x_right - bins.inside) * inverse_width
    slope = bins.height * inverse_width
    eta, log_derivative = _in_bin(bins, slope, xi, rest)
    z = bins.z_left + bins.height * eta
    tail = bins.edge + bins.edge_derivative * (x - bins.edge)
    return (
        ops.where(bins.outside, tail, z),
        ops.where(bins.outside, bins.edge_log_derivative, log_derivative),
    )


def inverse(z: Any, raw: Any, interval: float) -> tuple[Any, Any]:
    r"""Closed-form inverse of `forward`, and its own log-derivative.

    With $\eta = (z - z_k) / h_k$ and $t = \delta_{k+1} \eta - \delta_k (1 - \eta)$ the quadratic
    for $\xi$ has the discriminant $t^2 + 4 s^2 \eta (1 - \eta)$, a sum of squares. With
    $r = |t| + \sqrt{\cdot}$,

    $$\xi = \frac{r}{r + 2 s (1 - \eta)} \ (t \ge 0), \qquad
      \xi = \frac{2 s \eta}{r + 2 s \eta} \ (t < 0),$$

    where every term is positive, so that nothing cancels.

    Args:
        z: Points, shape (...).
        raw: Unconstrained parameters, shape (3n + 4, ...).
        interval: Half-width B of the box.

    Returns:
        x and $\log |dx/dz|$ in nats, of z's shape.

    Raises:
        ValueError: If ``raw`` is not 3n + 4 long for any n ≥ 1.

    Example:
        >>> from keras import ops
        >>> from gaussianization.gauss_keras.numerics.rational_quadratic import forward, inverse
        >>> raw = ops.reshape(ops.linspace(-1.0, 1.0, 28), (28, 1))
        >>> z, log_det = forward(ops.convert_to_tensor([0.3]), raw, interval=3.0)
        >>> x, log_det_back = inverse(z, raw, interval=3.0)
        >>> bool(abs(x[0] - 0.3) < 1e-6), bool(abs(log_det + log_det_back)[0] < 1e-5)
        (True, True)
    """
    bins = _find(z, raw, interval, by_z=True)
    inverse_height = 1.0 / bins.height
    eta = (bins.inside - bins.z_left) * inverse_height
    eta_rest = (bins.z_right - bins.inside) * inverse_height
    slope = bins.height / bins.width
    t = bins.d_right * eta - bins.d_left * eta_rest
    r = ops.abs(t) + ops.sqrt(t * t + 4.0 * (slope * slope) * (eta * eta_rest))
    falls = t < 0
    twice = 2.0 * slope * ops.where(falls, eta, eta_rest)
    total = 1.0 / (r + twice)
    large, small = r * total, twice * total
    xi, rest = ops.where(falls, small, large), ops.where(falls, large, small)
    x = bins.x_left + bins.width * xi
    _, log_derivative = _in_bin(bins, slope, xi, rest)
    tail = bins.edge + (z - bins.edge) / bins.edge_derivative
    return (
        ops.where(bins.outside, tail, x),
        -ops.where(bins.outside, bins.edge_log_derivative, log_derivative),
    )


def pack(x_knots: Any, z_knots: Any, log_derivatives: Any, interval: float) -> np.ndarray:
    r"""Raw parameters of splines with given knots, in NumPy.

    Args:
        x_knots: n + 2 increasing knots from -B to B on the first axis, more than
            `MIN_RELATIVE_BIN` of the evenly spaced distance apart; shape (n + 2, ...).
        z_knots: The same for the z axis.
        log_derivatives: Log-derivatives at the knots in nats, below `MAX_LOG_DERIVATIVE` in size.
        interval: Half-width B of the box.

    Returns:
        Raw parameters in float64, shape (3n + 4, ...).

    Raises:
        ValueError: If the three differ in shape.

    Example:
        >>> import numpy as np
        >>> from keras import ops
        >>> from gaussianization.gauss_keras.numerics.rational_quadratic import forward, pack
        >>> raw = pack([-3.0, -2.0, 1.0, 3.0], [-3.0, 0.0, 2.0, 3.0], np.zeros(4), interval=3.0)
        >>> raw = ops.convert_to_tensor(np.stack([raw, raw], axis=1), dtype="float32")
        >>> z, _ = forward(ops.convert_to_tensor([-2.0, 1.0]), raw, interval=3.0)
        >>> [round(float(value), 5) for value in z]
        [0.0, 2.0]
    """
    x_knots, z_knots, logs = (
        np.asarray(part, np.float64) for part in (x_knots, z_knots, log_derivatives)
    )
    shapes = [part.shape for part in (x_knots, z_knots, logs)]
    if len(set(shapes)) > 1:
        raise ValueError(
            "Expected as many knots in each argument. Received: shapes of x_knots, z_knots and "
            f"log_derivatives={shapes}"
        )
    derivatives = MAX_LOG_DERIVATIVE * np.arctanh(logs / MAX_LOG_DERIVATIVE) / _GAIN
    return np.concatenate([_raw_bins(x_knots, interval), _raw_bins(z_knots, interval), derivatives])


def _raw_bins(knots, interval):
    shares = np.diff(knots, axis=0) / (2.0 * interval)
    logits = np.log(shares - MIN_RELATIVE_BIN / len(shares))
    return (logits - logits.mean(axis=0)) / _GAIN


class _Bins(NamedTuple):
    """The bin each point falls into; arrays of the points' shape."""

    x_left: Any
    x_right: Any
    z_left: Any
    z_right: Any
    width: Any
    height: Any
    d_left: Any
    d_right: Any
    inside: Any  # the point, or the end of the box that it lies beyond
    outside: Any
    edge: Any  # the end of the box on the point's side
    edge_derivative: Any
    edge_log_derivative: Any


def _find(points, raw, interval, *, by_z):
    """Look the bins up on the z axis or on the x axis."""
    n_intervals = (raw.shape[0] - 1) // 3
    if raw.shape[0] != 3 * n_intervals + 1 or n_intervals < 2:
        raise ValueError(
            "Expected 3 * num_bins + 4 raw parameters a spline, on the first axis. "
            f"Received: raw.shape={tuple(raw.shape)}"
        )
    low, high = (
        ops.convert_to_tensor(end, dtype=dtype_of(points)) for end in (-interval, interval)
    )
    below = points < low
    outside = ops.logical_or(below, points >= high)
    edge = ops.where(below, low, high)
    # Points outside take part as the edge: no overflow, hence no NaN gradient, in the bins.
    inside = ops.where(outside, edge, points)

    knots = _knots(raw[: 2 * n_intervals], n_intervals, interval)
    passed = inside >= knots[int(by_z), 1:-1]
    left = ops.sum(ops.cast(passed, "int32"), axis=0)
    both = ops.stack([left, left + 1])
    ends = ops.take_along_axis(knots, ops.expand_dims(both, 0), axis=1)
    x_left, x_right, z_left, z_right = ends[0, 0], ends[0, 1], ends[1, 0], ends[1, 1]
    raw_derivatives = ops.take_along_axis(raw[2 * n_intervals :], both, axis=0)
    logs = MAX_LOG_DERIVATIVE * tanh((_GAIN / MAX_LOG_DERIVATIVE) * raw_derivatives)
    derivatives = ops.exp(logs)
    return _Bins(
        x_left,
        x_right,
        z_left,
        z_right,
        x_right - x_left,
        z_right - z_left,
        derivatives[0],
        derivatives[1],
        inside,
        outside,
        edge,
        # A point beyond the box stands in its first bin's left end or its last one's right end.
        ops.where(below, derivatives[0], derivatives[1]),
        ops.where(below, logs[0], logs[1]),
    )


def _knots(raw, n_intervals, interval):
    """Knots on both axes, (2, n + 2, ...), from raw widths and heights, (2n + 2, ...)."""
    raw = ops.reshape(raw, (2, n_intervals, *ops.shape(raw)[1:]))
    floor = MIN_RELATIVE_BIN / n_intervals
    shares = floor + (1.0 - MIN_RELATIVE_BIN) * ops.softmax(_GAIN * raw, axis=1)
    inner = interval * (2.0 * _running_sums(shares[:, :-1]) - 1.0)
    end = ops.full_like(inner[:, :1], interval)
    return ops.concatenate([-end, inner, end], axis=1)


def _running_sums(shares):
    """Sums along the second axis; `ops.cumsum` rounds float64 to float32 on PyTorch."""
    if dtype_of(shares) == "float32":
        return ops.cumsum(shares, axis=1)
    sums = accumulate(shares[:, k] for k in range(shares.shape[1]))
    return ops.stack(list(sums), axis=1)


def _in_bin(bins, slope, xi, rest):
    """Height reached within the bin (0 to 1) and log-derivative, at ξ with rest = 1 - ξ."""
    both, xi_square, rest_square = xi * rest, xi * xi, rest * rest
    # Sums of positive terms only: 1 - 2 ξ (1 - ξ) is ξ² + (1 - ξ)².
    denominator = slope * (xi_square + rest_square) + (bins.d_left + bins.d_right) * both
    over = slope / denominator
    eta = (xi_square + bins.d_left * both / slope) * over
    numerator = bins.d_right * xi_square + 2.0 * slope * both + bins.d_left * rest_square
    return eta, ops.log(numerator * over * over)
