"""Parameters of every kind of elementwise map, fitted so that columns come out normal."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.bijections.deep_sigmoid import deep_sigmoid
from gauss_flows.numerics import gaussian_mixture, logistic_mixture, rational_quadratic
from gauss_flows.rbig.marginal_fit import fit_mixtures
from gaussianization.marginals import Histogram, base_mixture

LOGISTIC_DEVIATION = math.pi / math.sqrt(3.0)
"""Standard deviation of the logistic distribution of unit scale."""

_N_STEPS = 300
_STEP = 0.03
# Share of the least bin and of the largest log-derivative that leaves the optimiser room.
_ROOM = 0.95

Mixtures = tuple[Float[np.ndarray, "d K"], Float[np.ndarray, "d K"], Float[np.ndarray, "d K"]]
Transform = Callable[[Array, Array, float], tuple[Array, Array]]


def fit_logistic_mixtures(x: Float[ArrayLike, "n d"], n_components: int) -> Mixtures:
    """Mixtures of logistic distributions for every column.

    Starts from the Gaussian mixtures with logistic components of the same variance and climbs the
    likelihood from there.

    Args:
        x: Rows of shape (n, d).
        n_components: Components K of each column.

    Returns:
        Log-weights, means and logarithms of the logistic scales, each of shape (d, K).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.elementwise import fit_logistic_mixtures
        >>> x = np.random.default_rng(0).logistic(3.0, 2.0, size=(2000, 1))
        >>> log_weights, means, log_scales = fit_logistic_mixtures(x, 1)
        >>> bool(abs(means[0, 0] - 3.0) < 0.2), bool(abs(log_scales[0, 0] - np.log(2.0)) < 0.1)
        (True, True)
    """
    log_weights, means, log_scales = fit_mixtures(x, n_components)[:3]
    centre, unit = _centre_and_unit(x)
    start = np.stack(
        [
            log_weights,
            (means - centre) / unit,
            log_scales - np.log(unit) - math.log(LOGISTIC_DEVIATION),
        ],
        axis=1,
    )
    return _in_units_of_x(_climbed(_logistic, start, (np.asarray(x) - centre.T) / unit.T), x)


def fit_deep_sigmoids(x: Float[ArrayLike, "n d"], n_components: int) -> Mixtures:
    """Sums of sigmoids whose logit makes every column normal.

    Starts from the near-identity of the standardised column and climbs the likelihood.

    Args:
        x: Rows of shape (n, d).
        n_components: Sigmoids K of each column.

    Returns:
        Log-weights, centres and logarithms of the widths, each of shape (d, K).
    """
    centre, unit = _centre_and_unit(x)
    start = base_mixture(n_components) * np.array([1.0, LOGISTIC_DEVIATION, 1.0])[:, None]
    start = np.tile(start, (len(centre), 1, 1))
    return _in_units_of_x(_climbed(_deep_sigmoid, start, (np.asarray(x) - centre.T) / unit.T), x)


def fit_splines(
    x: Float[ArrayLike, "n d"], n_bins: int, interval: float
) -> Float[np.ndarray, "d n_raw"]:
    """Raw parameters of the rational-quadratic splines that make every column normal.

    The knots are quantiles of the column against those of the normal distribution, as far as they
    lie in the box, with the slopes that a mixture fitted to the column has there; from them the
    likelihood is climbed.

    Args:
        x: Rows of shape (n, d), standardised at least roughly: the splines bend only inside the
            box.
        n_bins: Inner knots of each spline.
        interval: Half-width of the box.

    Returns:
        Raw parameters of shape (d, 3 n_bins + 4).
    """
    x = np.asarray(x, np.float64)
    mixtures = [jnp.asarray(part)[:, None] for part in fit_mixtures(x)[:3]]
    levels = np.arange(1, n_bins + 1) / (n_bins + 1)
    ends = jax.scipy.special.ndtr(np.array([-interval, interval]))
    z = jax.scipy.special.ndtri(ends[0] + (ends[1] - ends[0]) * levels)
    inner = np.asarray(gaussian_mixture.quantile(jnp.tile(z, (x.shape[1], 1)), *mixtures))
    x_knots = _in_box(inner, interval)
    heights, slopes = gaussian_mixture.gaussianize(jnp.asarray(x_knots), *mixtures)
    z_knots = _in_box(np.asarray(heights)[:, 1:-1], interval)
    most = _ROOM * rational_quadratic.MAX_LOG_DERIVATIVE
    slopes = np.clip(np.asarray(slopes), -most, most)
    slopes[:, 0], slopes[:, -1] = _tail_slopes(-x, interval, most), _tail_slopes(x, interval, most)
    start = rational_quadratic.pack(x_knots, z_knots, slopes, interval)
    return _climbed(_spline, np.asarray(start), x, interval)


def _logistic(x, parameters, _):
    log_weights, means, log_scales = _triple(parameters)
    return logistic_mixture.gaussianize(x, log_weights, means, log_scales)


def _deep_sigmoid(x, parameters, _):
    return deep_sigmoid(x, *_triple(parameters))


def _spline(x, parameters, interval):
    return rational_quadratic.forward(x, parameters[:, None], interval)


def _triple(parameters):
    logits, means, log_scales = (parameters[:, i, None] for i in range(3))
    return jax.nn.log_softmax(logits, axis=-1), means, log_scales


def _climbed(transform: Transform, start, x, setting=0.0):
    points = Histogram.from_data(x)
    weights = points.weights / points.weights.sum(1, keepdims=True)
    return np.asarray(_climb(transform, start, points.means, weights, setting), np.float64)


@partial(jax.jit, static_argnames="transform")
def _climb(transform: Transform, start, points, weights, setting):
    """Each column's parameters of highest likelihood on the way of Adam's steps."""
    optimizer = optax.adam(optax.cosine_decay_schedule(_STEP, _N_STEPS))

    def losses(parameters):
        z, log_det = transform(points, parameters, setting)
        return jnp.sum(weights * (0.5 * z**2 - log_det), axis=1)

    def total(parameters):
        each = losses(parameters)
        return jnp.sum(each), each

    def step(state, _):
        parameters, memory, best, least = state
        gradient, each = jax.grad(total, has_aux=True)(parameters)
        better = each < least
        best = jnp.where(jnp.expand_dims(better, range(1, best.ndim)), parameters, best)
        updates, memory = optimizer.update(gradient, memory)
        state = (
            optax.apply_updates(parameters, updates),
            memory,
            best,
            jnp.where(better, each, least),
        )
        return state, None

    first = (start, optimizer.init(start), start, jnp.full(len(start), jnp.inf, points.dtype))
    (_, _, best, _), _ = jax.lax.scan(step, first, None, length=_N_STEPS)
    return best


def _centre_and_unit(x):
    x = np.asarray(x, np.float64)
    unit = x.std(0)
    return x.mean(0)[:, None], np.where(unit > 0, unit, 1.0)[:, None]


def _in_units_of_x(parameters, x) -> Mixtures:
    centre, unit = _centre_and_unit(x)
    logits, means, log_scales = (parameters[:, i] for i in range(3))
    log_weights = logits - np.logaddexp.reduce(logits, axis=1, keepdims=True)
    return log_weights, centre + unit * means, log_scales + np.log(unit)


def _in_box(inner, interval):
    """Knots from -interval to interval, every bin of the width that is allowed and some more."""
    inner = np.sort(np.clip(inner, -interval, interval), axis=1)
    ends = np.full((len(inner), 1), float(interval))
    shares = np.diff(np.concatenate([-ends, inner, ends], axis=1), axis=1) / (2 * interval)
    least = 2 * rational_quadratic.MIN_RELATIVE_BIN / shares.shape[1]
    shares = np.maximum(shares, least)
    shares /= shares.sum(1, keepdims=True)
    inner = interval * (2 * np.cumsum(shares[:, :-1], axis=1) - 1)
    return np.concatenate([-ends, inner, ends], axis=1)


def _tail_slopes(x, interval, most):
    """Log-slope of highest likelihood for the values above the box; one where there are none.

    With excess e it solves 1/s = B mean(e) + s mean(e²).
    """
    excess = np.maximum(x - interval, 0.0)
    share = np.maximum((excess > 0).mean(0), 1e-12)
    first, second = interval * excess.mean(0) / share, (excess**2).mean(0) / share
    root = 2 / (first + np.sqrt(first**2 + 4 * np.maximum(second, 1e-12)))
    return np.where(excess.max(0) > 0, np.clip(np.log(root), -most, most), 0.0)
