"""What both mixture families must do, as checks against fifty digits."""

import jax
import jax.numpy as jnp
from numerics import mixture_reference as reference
import numpy as np
from mpmath import mp, mpf

from gauss_flows.numerics import gaussian_mixture, logistic_mixture

LIBRARY = {"gaussian": gaussian_mixture, "logistic": logistic_mixture}
OUTPUTS = ("z", "log_det", "log_density", "log_cdf", "log_survival")
REACH = {"float32": 12.0, "float64": 37.0}
TOLERANCE = {"float32": 5e-6, "float64": 1e-12}
# Near the median z is a difference of numbers close to one half, each of them rounded, so its
# error is absolute: at most 8 units of rounding on 10⁴ random points, and no relative bound can
# hold below |z| = 12 eps / tolerance, which is 0.0027 in float64 and 0.29 in float32.
FLOOR = {name: 12 * np.finfo(name).eps / TOLERANCE[name] for name in TOLERANCE}


def cast(mixtures, precision):
    """The mixtures as the library receives them, with an axis for the points."""
    return [jnp.asarray(p[:, None], precision) for p in mixtures]


def functions(family):
    """All the family's maps of x in one, so that they compile once."""
    library = LIBRARY[family]

    def everything(x, *mixture):
        z, log_det = library.gaussianize(x, *mixture)
        rest = [getattr(library, name)(x, *mixture) for name in OUTPUTS[2:]]
        return dict(zip(OUTPUTS, (z, log_det, *rest), strict=True))

    return everything


def points(family, mixtures, scores, precision):
    """x (n_mixtures, n_scores) at which z is close to the given scores."""
    scores = np.broadcast_to(scores, (len(mixtures[0]), len(scores)))
    wide = [np.asarray(p, precision).astype(float)[:, None] for p in mixtures]
    return jnp.asarray(reference.points_at_scores(family, scores, *wide), precision)


def truth(family, x, mixture):
    """The reference at every point: a dictionary of object arrays of mpmath numbers."""
    rows = [
        [
            reference.evaluate(family, point, *(np.asarray(p)[i, 0] for p in mixture))
            for point in row
        ]
        for i, row in enumerate(np.asarray(x))
    ]
    return {name: np.array([[cell[name] for cell in row] for row in rows]) for name in OUTPUTS}


def excess(values, exact, precision):
    """The largest error of each output in units of what is allowed; NaN counts as infinite."""
    tolerance = TOLERANCE[precision]
    size = {name: np.abs(value).astype(float) for name, value in exact.items()}
    inside = size["z"] <= REACH[precision]
    allowed = {"z": np.maximum(size["z"], FLOOR[precision])}
    for name in ("log_det", "log_density"):
        allowed[name] = np.maximum(np.maximum(1, size["z"] ** 2), size[name])
    # A tail p has the relative error of an exponential, |log p|, and −log(1 − p) that of p.
    larger = np.maximum(1, np.maximum(size["log_cdf"], size["log_survival"]))
    for name in ("log_cdf", "log_survival"):
        allowed[name] = size[name] * np.where(size[name] > 0.6931, 1, larger)
    ratios = {}
    for name in OUTPUTS:
        found = np.vectorize(lambda v: mpf(float(v)), otypes=[object])(np.asarray(values[name]))
        error = np.abs(found - exact[name]).astype(float) / (tolerance * allowed[name])
        ratios[name] = np.max(np.where(np.isnan(error), np.inf, error)[inside])
    return ratios


def check_against_reference(family, precision, mixtures, scores, everything=None):
    """Every output within its tolerance of the reference, over the whole reach."""
    mixture = cast(mixtures, precision)
    x = points(family, mixtures, scores, precision)
    values = jax.jit(everything or functions(family))(x, *mixture)
    assert all(value.dtype == x.dtype and value.shape == x.shape for value in values.values())
    ratios = excess(values, truth(family, x, mixture), precision)
    assert max(ratios.values()) <= 1, ratios


def with_logits(function):
    """The function of free logits in place of normalised log-weights."""

    def composed(x, logits, means, log_scales):
        return function(x, jax.nn.log_softmax(logits), means, log_scales)

    return composed


def exact_derivatives(family, x, logits, means, log_scales, step=1e-15):
    """Central differences to fifty digits in x and every parameter: no formula, no rounding."""
    arguments = [float(x)] + [float(v) for p in (logits, means, log_scales) for v in p]
    n = len(logits)

    def at(values):
        groups = values[1 : 1 + n], values[1 + n : 1 + 2 * n], values[1 + 2 * n :]
        return reference.evaluate_exact(family, values[0], *groups)

    with mp.workdps(reference.DIGITS):
        values = [mpf(v) for v in arguments]
        out = {name: [] for name in OUTPUTS}
        for i in range(len(values)):
            h = mpf(step)
            ahead = at([v + h * (i == j) for j, v in enumerate(values)])
            behind = at([v - h * (i == j) for j, v in enumerate(values)])
            for name in OUTPUTS:
                out[name].append(float((ahead[name] - behind[name]) / (2 * h)))
    return {name: np.array(v) for name, v in out.items()}


def check_derivatives(family, precision, mixture, scores):
    """Reverse-mode gradients of every output against differences to fifty digits."""
    tolerance = 10 * TOLERANCE[precision]
    x = points(family, [p[None] for p in mixture], scores, precision)[0]
    mixture = [jnp.asarray(p, precision) for p in mixture]
    jacobian = jax.jacrev(with_logits(functions(family)), argnums=(0, 1, 2, 3))
    everything = jax.jit(jax.vmap(jacobian, in_axes=(0, None, None, None)))
    gradients = everything(x, *mixture)
    z = np.asarray(jax.jit(jax.vmap(functions(family), (0, None, None, None)))(x, *mixture)["z"])
    for i, point in enumerate(np.asarray(x)):
        exact = exact_derivatives(family, point, *mixture)
        # log_det = log f + z²/2 + …: its derivative is the sum of two that may cancel.
        parts = np.abs(exact["log_density"]), np.abs(z[i] * exact["z"]), np.abs(exact["log_det"])
        size = {name: np.abs(value) for name, value in exact.items()}
        size["log_det"] = size["log_density"] = np.maximum.reduce(parts)
        for name in OUTPUTS:
            found = np.concatenate([np.ravel(g[i]) for g in gradients[name]]).astype(float)
            assert np.all(np.isfinite(found)), (name, z[i])
            # Relative to the largest derivative of its kind: x and means, logits, log-scales.
            n = len(mixture[0])
            kinds = np.r_[0, np.full(n, 1), np.full(n, 0), np.full(n, 2)]
            largest = np.array([size[name][kinds == kind].max() for kind in range(3)])[kinds]
            error = np.abs(found - exact[name]) / (largest * max(1, z[i] ** 2))
            assert np.all(error <= tolerance), (name, z[i], found, exact[name])


def per_point_gradients(family):
    """Values and gradients of every output at single points, in x and all parameters."""
    jacobian = jax.jacrev(with_logits(functions(family)), argnums=(0, 1, 2, 3))

    def both(x, *mixture):
        return functions(family)(x, *mixture), jacobian(x, *mixture)

    return jax.jit(jax.vmap(jax.vmap(both, (0, None, None, None))))


def check_far_out(family, precision, mixtures, far=1e6):
    """Values and gradients finite at distances of up to a million of the widest scale."""
    _, means, log_scales = mixtures
    distance = np.exp(log_scales).max(axis=1, keepdims=True) * np.geomspace(1, far, 7)
    x = jnp.asarray(np.concatenate([means.max(1, keepdims=True) + distance,
                                    means.min(1, keepdims=True) - distance], 1), precision)
    mixture = [jnp.asarray(p, precision) for p in mixtures]
    values, gradients = per_point_gradients(family)(x, *mixture)
    for leaf in jax.tree.leaves((values, gradients)):
        assert leaf.dtype == x.dtype
        assert np.all(np.isfinite(leaf))
    # z is monotone and has not saturated.
    z = np.asarray(values["z"])
    n = distance.shape[1]
    assert np.all(np.diff(z[:, :n]) > 0)
    assert np.all(np.diff(z[:, n:]) < 0)


def check_outlier_is_harmless(family, precision, mixture, far=1e6):
    """A far row neither poisons a batch's parameter gradient nor, weighing nothing, alters it."""
    library = LIBRARY[family]
    mixture = [jnp.asarray(p, precision) for p in mixture]
    rows = np.random.default_rng(3).normal(size=20)
    x = jnp.asarray(np.r_[rows, far], precision)

    @jax.jit
    def gradient(weights):
        def loss(*mixture):
            z, log_det = with_logits(library.gaussianize)(x, *mixture)
            return jnp.sum(weights * (0.5 * z**2 - log_det))

        return jax.grad(loss, argnums=(0, 1, 2))(*mixture)

    ones = jnp.ones(len(x), precision)
    whole, alone = gradient(ones), gradient(ones.at[:-1].set(0))
    rest = gradient(ones.at[-1].set(0))
    bulk = jax.jit(
        jax.grad(
            lambda *m: sum(
                jnp.sum(s * v)
                for s, v in zip(
                    (1.0, -1.0),
                    (lambda z, d: (0.5 * z**2, d))(*with_logits(library.gaussianize)(x[:-1], *m)),
                    strict=True,
                )
            ),
            argnums=(0, 1, 2),
        )
    )(*mixture)
    eps = np.finfo(precision).eps
    for total, far_part, weightless, without in zip(whole, alone, rest, bulk, strict=True):
        assert np.all(np.isfinite(total))
        largest = np.max(np.abs(total)) + np.max(np.abs(without))
        assert np.max(np.abs(total - far_part - without)) <= 64 * eps * largest
        # A row of weight zero: any infinity or NaN in it would show here.
        assert np.max(np.abs(weightless - without)) <= 64 * eps * (1 + np.max(np.abs(without)))
