"""What both mixture families must do, as checks against fifty digits."""

import jax
import jax.numpy as jnp
import numpy as np
from mpmath import mpf

from gauss_flows.numerics import gaussian_mixture, logistic_mixture
from numerics import mixture_reference as reference

LIBRARY = {"gaussian": gaussian_mixture, "logistic": logistic_mixture}
MAP = ("z", "log_det")
LOG_PROBABILITIES = ("log_density", "log_cdf", "log_survival")
OUTPUTS = (*MAP, *LOG_PROBABILITIES)
REACH = {"float32": 12.0, "float64": 37.0}
TOLERANCE = {"float32": 5e-6, "float64": 1e-12}
# Where components cancel near the median, the rounding of one weight alone moves z by a unit in the
# last place of one half: no relative bound holds below |z| = eps / tolerance, which is 2.2e-4 in
# float64 and 0.024 in float32. The library stays within 1.5 such units; one component within none.
FLOOR = {name: 1.5 * np.finfo(name).eps / TOLERANCE[name] for name in TOLERANCE}


def cast(mixtures, precision):
    """The mixtures as the library receives them, with an axis for the points."""
    return [jnp.asarray(p[:, None], precision) for p in mixtures]


def functions(family, names=OUTPUTS):
    """The family's maps of x in one, so that they compile once."""
    library = LIBRARY[family]

    def everything(x, *mixture):
        values = {}
        if "z" in names:
            values["z"], values["log_det"] = library.gaussianize(x, *mixture)
        for name in set(names) - {"z", "log_det"}:
            values[name] = getattr(library, name)(x, *mixture)
        return values

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


def check_every_finite_point(family, precision, mixture):
    """Values are finite and z monotone at any finite point; an infinite one has none."""
    far = np.geomspace(1e-30, 0.99 * float(np.finfo(precision).max), 300)
    x = jnp.asarray(np.r_[-far[::-1], 0.0, far], precision)
    mixture = [jnp.asarray(p, precision) for p in mixture]
    z, log_det = LIBRARY[family].gaussianize(x, *mixture)
    assert np.all(np.isfinite(z))
    assert np.all(np.isfinite(log_det))
    assert np.all(np.diff(z) >= 0)
    nowhere = jnp.asarray([jnp.inf, -jnp.inf, jnp.nan], precision)
    for values in LIBRARY[family].gaussianize(nowhere, *mixture):
        assert np.all(np.isnan(values))


def check_broadcasting(family, shape, leading, n_components):
    """Parameters' leading axes broadcast against x as NumPy's do, in both directions."""
    library = LIBRARY[family]
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(size=shape))
    mixture = [jnp.asarray(rng.normal(size=(*leading, n_components))) for _ in range(3)]
    mixture[0] = jax.nn.log_softmax(mixture[0])
    full = np.broadcast_shapes(shape, leading)
    wide = jnp.broadcast_to(x, full)
    whole = [jnp.broadcast_to(p, (*full, n_components)) for p in mixture]
    found, expected = library.gaussianize(x, *mixture), library.gaussianize(wide, *whole)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == full
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    back = library.quantile(found[0], *mixture)
    assert back.shape == full
    np.testing.assert_allclose(back, wide, rtol=1e-3, atol=1e-3)


def check_vmap(family, mixture, n_rows, own):
    """A vmapped batch, with its rows' own parameters or shared ones, equals broadcasting."""
    rng = np.random.default_rng(1)
    x = jnp.asarray(rng.normal(size=(n_rows, 2)))
    batch = (n_rows if own else 1, 2, len(mixture[0]))
    parameters = [jnp.asarray(p + 0.1 * rng.normal(size=batch)) for p in mixture]
    parameters[0] = jax.nn.log_softmax(parameters[0])
    axes = (0, *[0 if own else None] * 3)
    given = parameters if own else [p[0] for p in parameters]
    found = jax.jit(jax.vmap(functions(family), axes))(x, *given)
    expected = jax.jit(functions(family))(x, *parameters)
    for name in OUTPUTS:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-5, atol=1e-5)
