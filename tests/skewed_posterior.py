"""A posterior whose evidence is known: a correlated normal, skewed and bent."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from numpyro.distributions import constraints

N_DIMS = 4
LOG_EVIDENCE = -3.2
_MEAN = jnp.array([0.3, -0.5, 0.8, 0.2])
_DEVIATIONS = jnp.array([1.0, 0.6, 1.5, 0.8])
_CORRELATION = jnp.array(
    [[1.0, 0.8, 0.5, 0.0], [0.8, 1.0, 0.4, -0.5], [0.5, 0.4, 1.0, 0.3], [0.0, -0.5, 0.3, 1.0]]
)
_CHOLESKY = jnp.linalg.cholesky(_CORRELATION * jnp.outer(_DEVIATIONS, _DEVIATIONS))
_SKEW = jnp.array([0.5, -0.4, 0.6, 0.0])
_TAIL = jnp.array([0.9, 0.8, 1.0, 0.75])


def log_density(x):
    """The normalised posterior: sinh-arcsinh of a correlated normal, two coordinates bent."""
    straight = jnp.stack([x[0], x[1] - 0.5 * (x[0] ** 2 - 1), x[2], x[3] - 0.4 * x[2]])
    inner = _TAIL * jnp.arcsinh(straight) - _SKEW
    log_det = jnp.log(_TAIL) + jnp.log(jnp.cosh(inner)) - 0.5 * jnp.log1p(straight**2)
    normal = dist.MultivariateNormal(_MEAN, scale_tril=_CHOLESKY)
    return normal.log_prob(jnp.sinh(inner)) + jnp.sum(log_det)


def draw(key, n_rows):
    """Exact draws, of shape (n_rows, 4)."""
    normal = dist.MultivariateNormal(_MEAN, scale_tril=_CHOLESKY).sample(key, (n_rows,))
    straight = jnp.sinh((jnp.arcsinh(normal) + _SKEW) / _TAIL)
    x0, y1, x2, y3 = jnp.moveaxis(straight, -1, 0)
    return jnp.stack([x0, y1 + 0.5 * (x0**2 - 1), x2, y3 + 0.4 * x2], axis=-1)


def model():
    """A flat prior, and the posterior's density times the evidence for a likelihood."""
    x = numpyro.sample("x", dist.ImproperUniform(constraints.real_vector, (), (N_DIMS,)))
    numpyro.factor("likelihood", log_density(x) + LOG_EVIDENCE)


@eqx.filter_jit
def _gaps(flow, key, n_draws):
    x, log_q = flow.sample_and_log_prob(key, (n_draws,))
    return log_q - jax.vmap(log_density)(x)


def elbo_gap(flow, key, n_draws=10_000):
    """Mean and standard error of log q(x) − log p(x), in nats: the log-evidence less the ELBO."""
    gaps = _gaps(flow, key, n_draws)
    return float(gaps.mean()), float(gaps.std() / n_draws**0.5)
