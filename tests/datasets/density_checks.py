"""What must hold for every density; each check raises AssertionError where it does not."""

from functools import lru_cache

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np

N_ROWS = 200_000
N_FEW = 64
FAR = np.array([[1e4, 1e4], [-1e4, 3e3], [0.0, -1e4], [30.0, -40.0], [0.0, 5e3], [1.3, 700.0]])


def within(value, truth, standard_error, what):
    allowed = 4.5 * standard_error + 1e-5 * (1 + np.abs(truth))
    assert np.all(np.abs(value - truth) < allowed), f"{what}: {value} for {truth}"


def check_samples(density, seed=0):
    """Points drawn have the entropy, mean and covariance that the density says, and are finite."""
    x = density.sample(jr.key(seed), N_ROWS)
    surprise = -np.asarray(density.log_prob(x), np.float64)
    assert np.isfinite(surprise).all()
    x = np.asarray(x, np.float64)
    assert x.shape == (N_ROWS, density.n_dims)
    root = np.sqrt(N_ROWS)
    within(surprise.mean(), density.entropy(), surprise.std() / root, "entropy")
    within(x.mean(0), density.mean(), x.std(0) / root, "mean")
    deviation = x - density.mean()
    products = deviation[:, :, None] * deviation[:, None, :]
    within(products.mean(0), density.covariance(), products.std(0) / root, "covariance")
    neighbours = np.concatenate([deviation[1:], deviation[:-1]], axis=1) / deviation.std()
    within(np.cov(neighbours.T)[: len(x.T), len(x.T) :], 0.0, 1 / root, "row after row")


def check_integrals(density, rule, tolerance=1e-8):
    """The log-density, integrated, gives mass one and the entropy, mean and covariance."""
    points, weights = rule
    with jax.enable_x64(True):
        log_p = np.asarray(density.log_prob(points))
    mass = weights * np.exp(log_p)
    assert abs(mass.sum() - 1) < tolerance
    entropy = -mass @ np.where(mass > 0, log_p, 0.0)
    mean = mass @ points
    covariance = (points.T * mass) @ points - np.outer(mean, mean)
    assert abs(density.entropy() - entropy) < tolerance
    assert np.allclose(density.mean(), mean, rtol=0, atol=tolerance)
    assert np.allclose(density.covariance(), covariance, rtol=0, atol=tolerance)
    second_moment = mass @ (points**2).sum(1)
    kl = -entropy + np.log(2 * np.pi) + second_moment / 2
    assert abs(density.kl_to_normal() - kl) < 2 * tolerance


def check_far(density, dtype):
    """Far away, and at the origin, the log-density and its gradient are finite."""
    x = jnp.asarray(np.concatenate([FAR, np.zeros((1, 2))]), dtype)
    gradient = jax.vmap(jax.grad(density.log_prob))(x)
    assert np.isfinite(density.log_prob(x)).all()
    assert np.isfinite(gradient).all()
    assert (np.abs(gradient[:-1]).max(1) > 1).all()


def check_gradient(density):
    """The gradient is that of finite differences; to be run in float64."""
    x = jnp.asarray(few_points(density), float)
    gradient = jax.vmap(jax.grad(density.log_prob))(x)
    assert np.isfinite(gradient).all()
    for j, step in enumerate(1e-6 * jnp.eye(2)):
        slope = (density.log_prob(x + step) - density.log_prob(x - step)) / 2e-6
        assert np.allclose(gradient[:, j], slope, rtol=1e-5, atol=1e-4)


def check_outside(density, dtype, points):
    """Outside the support the log-density is −∞ and its gradient finite."""
    x = jnp.asarray(points, dtype)
    assert np.isneginf(density.log_prob(x)).all()
    assert np.isfinite(jax.vmap(jax.grad(density.log_prob))(x)).all()


def check_keys(density):
    """A key gives the same points each time, other keys and rows give others."""
    one, same, other = (density.sample(jr.key(seed), N_FEW) for seed in (0, 0, 4))
    assert np.array_equal(one, same)
    assert len(np.unique(np.concatenate([one, other]), axis=0)) == 2 * N_FEW


@lru_cache
def few_points(density):
    """Some points, the same in every precision."""
    with jax.enable_x64(False):
        return np.asarray(density.sample(jr.key(0), N_FEW))


def check_precision(density):
    """float32 and float64 agree, and each stays what it is."""
    x = few_points(density)
    with jax.enable_x64(True):
        single, double = (density.log_prob(jnp.asarray(x, kind)) for kind in ("f4", "f8"))
        assert single.dtype == np.float32
        assert double.dtype == np.float64
    assert np.allclose(single, double, rtol=2e-5, atol=2e-5)
    assert not np.array_equal(np.asarray(double, np.float32), np.asarray(double)), "double is not"
    for mode in ("float32", "float64"):
        with jax.enable_x64(mode == "float64"):
            drawn = jax.eval_shape(lambda key: density.sample(key, 3), jr.key(0))
        assert drawn.dtype == mode
        assert drawn.shape == (3, density.n_dims)
