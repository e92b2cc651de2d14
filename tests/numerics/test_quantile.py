"""The mixtures' quantile: round trip, work, gradients, and what it does with odd input."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gauss_flows.numerics import mixture_quantile as search
from gauss_flows.numerics.gaussian_mixture import GAUSSIAN
from gauss_flows.numerics.logistic_mixture import LOGISTIC
from gauss_flows.numerics.mixture_quantile import mixture_quantile
from numerics import mixture_reference as reference
from numerics.mixture_checks import LIBRARY

FAMILIES = {"gaussian": GAUSSIAN, "logistic": LOGISTIC}
ROUND_TRIP = {"float32": 5e-6, "float64": 1e-13}
REACH = {"float32": 12.0, "float64": 37.0}
MOST_EVALUATIONS = 12
MIXTURE = (np.log([0.2, 0.7, 0.1]), np.array([-1.5, 0.3, 2.0]), np.log([0.4, 1.0, 1.7]))


# Each family in one precision: what depends on both is tested in all four combinations.
PAIRS = pytest.mark.parametrize(
    ("family", "precision"),
    [("gaussian", "float32"), ("logistic", "float64")],
    indirect=["precision"],
)
FAMILY = pytest.mark.parametrize("family", FAMILIES)


def mixtures_of(kind, n_components):
    make = reference.random_mixtures if kind == "random" else reference.gap_mixtures
    return make(n_components + 1, 24, n_components)


def scores(precision, n_rows):
    """Normal draws, an even cover of both tails, and the median, for each row."""
    rng = np.random.default_rng(5)
    even = np.broadcast_to(np.linspace(-1, 1, 41) * REACH[precision], (n_rows, 41))
    return jnp.asarray(np.concatenate([rng.normal(size=(n_rows, 160)), even], 1), precision)


def largest_excess(family, z, x, mixture):
    """The largest |forward(x) − z|, in units of what is allowed."""
    return float(_excess(family, z, x, mixture))


@functools.partial(jax.jit, static_argnums=0)
def _excess(family, z, x, mixture):
    # x, and the next numbers above and below it, in one array.
    near = jnp.stack([x, jnp.nextafter(x, jnp.inf), jnp.nextafter(x, -jnp.inf)])
    found = LIBRARY[family].gaussianize(near, *(p[None] for p in mixture))[0]
    ulp = jnp.max(jnp.abs(found[1:] - found[0]), axis=0)
    allowed = jnp.maximum(ROUND_TRIP[z.dtype.name] * jnp.maximum(1, jnp.abs(z)), ulp)
    return jnp.max(jnp.abs(found[0] - z) / allowed)


@FAMILY
@pytest.mark.parametrize(
    ("kind", "n_components"), [("random", 1), ("random", 8), ("random", 32), ("gap", 2)]
)
def test_round_trip_and_work(family, precision, kind, n_components):
    mixture = [jnp.asarray(p[:, None], precision) for p in mixtures_of(kind, n_components)]
    z = scores(precision, len(mixture[0]))
    components_first = [jnp.moveaxis(p, -1, 0) for p in mixture]
    x, count = jax.jit(lambda z: mixture_quantile(FAMILIES[family], z, *components_first))(z)
    assert x.shape == z.shape
    assert x.dtype == z.dtype
    assert np.all(np.isfinite(x))
    excess = largest_excess(family, z, x, mixture)
    assert not excess > 1, excess
    # On what data look like, and on points spread evenly over both tails.
    count = np.broadcast_to(count, z.shape)
    assert count[:, :160].mean() <= MOST_EVALUATIONS
    assert count[:, 160:].mean() <= MOST_EVALUATIONS


def mean_evaluations(family, precision):
    """Of a batch long enough to start from a table, which shares its mixture."""
    mixture = [jnp.asarray(p, precision)[:, None] for p in MIXTURE]
    z = jnp.asarray(np.random.default_rng(0).normal(size=4000), precision)
    _, count = jax.jit(lambda z: mixture_quantile(FAMILIES[family], z, *mixture))(z)
    return count.mean()


@PAIRS
def test_a_table_saves_work(family, precision, monkeypatch):
    assert mean_evaluations(family, precision) < 2.5

    def useless(family, z, *parameters):
        return 0.0 * z

    monkeypatch.setattr(search, "_tabulated_start", useless)
    assert mean_evaluations(family, precision) > 2.5


@FAMILY
def test_scales_far_below_the_means(family, precision):
    # The root then lies within a rounding of the end of the components' quantiles.
    rng = np.random.default_rng(0)
    weight = 10 ** rng.uniform(-6, -4, 24)
    mean = rng.uniform(5, 50, 24) * rng.choice([-1, 1], 24)
    scales = 10 ** rng.uniform(-3, -2, 24), 10 ** rng.uniform(0, 2, 24)
    mixture = (
        np.log(np.stack([1 - weight, weight], axis=-1)),
        np.stack([mean, mean + rng.uniform(-60, 60, 24)], axis=-1),
        np.log(np.stack(scales, axis=-1)),
    )
    mixture = [jnp.asarray(p[:, None], precision) for p in mixture]
    z = scores(precision, 24)
    x = jax.jit(LIBRARY[family].quantile)(z, *mixture)
    excess = largest_excess(family, z, x, mixture)
    assert not excess > 1, excess


def clipped_quantile(z, mixture):
    """A bisection on a clipped probability, as public implementations have it."""
    low, high = jnp.full_like(z, -1e4), jnp.full_like(z, 1e4)
    target = jax.scipy.special.ndtr(z)
    for _ in range(60):
        middle = 0.5 * (low + high)
        u = (middle[..., None] - mixture[1]) * jnp.exp(-mixture[2])
        below = jnp.sum(jnp.exp(mixture[0]) * jax.scipy.special.ndtr(u), axis=-1) < target
        low, high = jnp.where(below, middle, low), jnp.where(below, high, middle)
    return 0.5 * (low + high)


def test_an_inverse_through_probabilities_is_rejected(precision):
    mixture = [jnp.asarray(p[None, None], precision) for p in MIXTURE]
    z = scores(precision, 1)
    good = jax.jit(lambda z: LIBRARY["gaussian"].quantile(z, *mixture))(z)
    assert largest_excess("gaussian", z, good, mixture) <= 1
    assert largest_excess("gaussian", z, clipped_quantile(z, mixture), mixture) > 1e3


@PAIRS
def test_far_scores(family, precision):
    # The map continues past where Φ has underflowed; so does its inverse, and its gradient.
    mixture = [jnp.asarray(p[None, None], precision) for p in MIXTURE]
    z = jnp.asarray([[-1e6, -1e4, -100.0, 100.0, 1e4, 1e6]], precision)
    quantile = LIBRARY[family].quantile
    x = jax.jit(quantile)(z, *mixture)
    assert np.all(np.isfinite(x))
    assert np.all(np.diff(x) > 0)
    assert largest_excess(family, z, x, mixture) <= 1
    jacobian = jax.jacrev(quantile, (0, 1, 2, 3))
    gradients = jax.jit(jax.vmap(jacobian, (0, None, None, None)))(
        z[0], *(p[0, 0] for p in mixture)
    )
    assert all(np.all(np.isfinite(g)) for g in gradients)


@PAIRS
@pytest.mark.parametrize("own", [False, True], ids=["shared", "own"])
@pytest.mark.parametrize("n_rows", [1, 7, 3000])
def test_vmapped_batches(family, precision, n_rows, own):
    rng = np.random.default_rng(1)
    z = jnp.asarray(rng.normal(size=(n_rows, 2)), precision)
    shape = (n_rows if own else 1, 2, 3)
    mixture = [jnp.asarray(p + 0.1 * rng.normal(size=shape), precision) for p in MIXTURE]
    mixture[0] = jax.nn.log_softmax(mixture[0])
    given = mixture if own else [p[0] for p in mixture]
    run = jax.vmap(LIBRARY[family].quantile, (0, *[0 if own else None] * 3))
    x = jax.jit(run)(z, *given)
    assert x.shape == z.shape
    assert largest_excess(family, z, x, mixture) <= 1


@pytest.mark.parametrize(("family", "own"), [("gaussian", False), ("logistic", True)])
def test_gradients_match_finite_differences(family, x64, own):
    rng = np.random.default_rng(2)
    n_rows = 600
    z = jnp.asarray(np.r_[-30.0, -8.0, 8.0, 30.0, rng.normal(size=n_rows - 4)])
    shape = (n_rows if own else 1, 3)
    mixture = [jnp.asarray(p + 0.3 * own * rng.normal(size=shape)) for p in MIXTURE]
    axes = (0, *[0 if own else None] * 3)
    given = mixture if own else [p[0] for p in mixture]

    def value(z, logits, means, log_scales):
        return LIBRARY[family].quantile(z, jax.nn.log_softmax(logits), means, log_scales)

    batched = jax.jit(jax.vmap(value, axes))
    gradients = jax.jit(jax.vmap(jax.grad(value, (0, 1, 2, 3)), axes))(z, *given)
    step = 1e-5
    rounding = 4 * np.finfo(float).eps * np.abs(batched(z, *given)) / step
    for position, gradient in enumerate(gradients):
        gradient = np.asarray(gradient).reshape(n_rows, -1)
        for k in range(gradient.shape[1]):
            moved = [z, *given], [z, *given]
            for sign, arguments in zip((1, -1), moved, strict=True):
                if position == 0:
                    arguments[0] = z + sign * step
                else:
                    arguments[position] = arguments[position].at[..., k].add(sign * step)
            differences = (batched(*moved[0]) - batched(*moved[1])) / (2 * step)
            assert np.all(gradient[4:, k] != 0)
            allowed = 2e-8 * (1 + np.abs(gradient[:, k])) + rounding
            assert np.all(np.abs(gradient[:, k] - differences) <= allowed), (position, k)


def test_all_derivatives_work(x64):
    mixture = [jnp.asarray(p) for p in MIXTURE]
    flat, unravel = jax.flatten_util.ravel_pytree([jnp.asarray(0.4), *mixture])

    def value(flat):
        z, logits, *rest = unravel(flat)
        return LIBRARY["gaussian"].quantile(z, jax.nn.log_softmax(logits), *rest)

    forward, backward = (jax.jit(mode(value))(flat) for mode in (jax.jacfwd, jax.jacrev))
    np.testing.assert_allclose(forward, backward, rtol=1e-12, atol=1e-12)
    gradient = jax.jit(jax.grad(value))
    steps = 1e-5 * jnp.eye(len(flat))
    differences = [(gradient(flat + e) - gradient(flat - e)) / 2e-5 for e in steps]
    hessian = jax.jit(jax.hessian(value))(flat)
    np.testing.assert_allclose(hessian, np.array(differences), rtol=1e-6, atol=1e-7)


@PAIRS
def test_gradients_in_a_gap_are_finite(family, precision):
    mixture = [jnp.asarray(p[0], precision) for p in reference.gap_mixtures(3, 1, 2)]
    # Scores of the jump itself, where the density between the modes has underflowed.
    jump = float(jax.scipy.special.ndtri(jnp.exp(jnp.max(mixture[0]))))
    z = jnp.asarray(np.r_[np.linspace(-2, 2, 41), jump, -jump], precision)
    both = jax.value_and_grad(LIBRARY[family].quantile, (0, 1, 2, 3))
    x, gradients = jax.jit(jax.vmap(both, (0, None, None, None)))(z, *mixture)
    for leaf in (x, *gradients):
        assert np.all(np.isfinite(leaf))


@PAIRS
def test_nan_gives_nan_and_spoils_nothing_else(family, precision):
    mixture = [jnp.asarray(p, precision) for p in MIXTURE]
    run = jax.jit(jax.vmap(LIBRARY[family].quantile, (0, None, None, None)))
    for n_rows in (5, 3000):
        z = jnp.linspace(-3, 3, n_rows, dtype=precision)
        spoilt = run(z.at[2].set(jnp.nan), *mixture)
        assert np.isnan(spoilt[2])
        keep = np.arange(n_rows) != 2
        np.testing.assert_array_equal(spoilt[keep], run(z, *mixture)[keep])
    # A mixture that is not a number, in one row of many.
    several = [jnp.broadcast_to(p, (5, 3)) for p in mixture]
    several[1] = several[1].at[3, 0].set(jnp.nan)
    x = jax.jit(jax.vmap(LIBRARY[family].quantile))(jnp.zeros(5, precision), *several)
    np.testing.assert_array_equal(np.isnan(x), np.arange(5) == 3)


def test_infinite_scores_do_not_hang():
    mixture = [jnp.asarray(p, "float32") for p in MIXTURE]
    z = jnp.asarray([-jnp.inf, 0.0, jnp.inf])
    x = jax.jit(jax.vmap(LIBRARY["gaussian"].quantile, (0, None, None, None)))(z, *mixture)
    assert np.isfinite(x[1])
    assert not np.any(np.isfinite(x[::2]))
