"""The mixture's Rosenblatt transformation against the mixture itself."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from scipy.special import logsumexp
from scipy.stats import kstest, multivariate_normal

import gauss_flows as gf

LOG_WEIGHTS = np.log([0.2, 0.5, 0.3])


def mixture(n_dims, seed=0):
    rng = np.random.default_rng(seed)
    factors = rng.normal(size=(3, n_dims, n_dims)) + 1.5 * np.eye(n_dims)
    return LOG_WEIGHTS, 2 * rng.normal(size=(3, n_dims)), factors @ factors.transpose(0, 2, 1)


def log_density(x, log_weights, means, covariances):
    terms = [
        w + multivariate_normal(m, c).logpdf(x)
        for w, m, c in zip(log_weights, means, covariances, strict=True)
    ]
    return logsumexp(terms, axis=0)


@pytest.mark.parametrize("n_dims", [1, 2, 5])
def test_the_density_is_the_mixtures(x64, n_dims):
    parts = mixture(n_dims)
    flow = gf.flow_from_blocks([(gf.MixtureRosenblatt.from_mixture(*parts),)])
    x = 4 * np.random.default_rng(1).normal(size=(200, n_dims))
    np.testing.assert_allclose(flow.log_prob(x), log_density(x, *parts).reshape(-1), rtol=1e-11)


def test_conditional_density_is_the_joint_over_the_marginal(x64):
    log_weights, means, covariances = parts = mixture(5)
    layer = gf.MixtureRosenblatt.from_mixture(*parts, cond_dim=2)
    x = 3 * np.random.default_rng(1).normal(size=(100, 5))
    z, log_det = jax.vmap(layer.transform_and_log_det)(x[:, 2:], x[:, :2])
    found = log_det - 0.5 * np.sum(np.square(z), axis=1) - 1.5 * np.log(2 * np.pi)
    of_condition = log_density(x[:, :2], log_weights, means[:, :2], covariances[:, :2, :2])
    np.testing.assert_allclose(found, log_density(x, *parts) - of_condition, rtol=1e-10)


def test_draws_of_the_mixture_become_normal(x64):
    log_weights, means, covariances = parts = mixture(3)
    rng = np.random.default_rng(2)
    component = rng.choice(3, size=4000, p=np.exp(log_weights))
    noise = np.linalg.cholesky(covariances)[component] @ rng.normal(size=(4000, 3, 1))
    layer = gf.MixtureRosenblatt.from_mixture(*parts)
    z = np.asarray(jax.vmap(layer.transform)(means[component] + noise[..., 0]))
    assert min(kstest(column, "norm").pvalue for column in z.T) > 1e-3
    assert np.abs(np.cov(z.T) - np.eye(3)).max() < 0.08


def test_draws_of_the_flow_have_the_mixtures_moments(x64):
    log_weights, means, covariances = parts = mixture(3)
    flow = gf.flow_from_blocks([(gf.MixtureRosenblatt.from_mixture(*parts),)])
    x = np.asarray(flow.sample(jr.key(0), (20_000,)))
    weights = np.exp(log_weights)
    mean = weights @ means
    second = np.einsum("k,kij->ij", weights, covariances + means[:, :, None] * means[:, None])
    error = np.sqrt(np.diag(second) / len(x))
    assert np.all(np.abs(x.mean(0) - mean) < 4 * error)
    assert np.allclose(np.cov(x.T), second - np.outer(mean, mean), rtol=0.05, atol=0.3)


def test_scale_and_order_of_the_weights_do_not_matter(x64):
    log_weights, means, covariances = mixture(2)
    x = jnp.array([0.3, -1.0])
    expected = gf.MixtureRosenblatt.from_mixture(log_weights, means, covariances).transform(x)
    order = [2, 0, 1]
    other = gf.MixtureRosenblatt.from_mixture(
        log_weights[order] + 7.0, means[order], covariances[order]
    )
    np.testing.assert_allclose(other.transform(x), expected, rtol=1e-12)


def test_a_component_without_weight_is_not_there(x64):
    _, means, covariances = mixture(2)
    x = jnp.array([0.3, -1.0])
    layer = gf.MixtureRosenblatt.from_mixture([0.0, -1e30, -1e30], means, covariances)
    alone = gf.MixtureRosenblatt.from_mixture([0.0], means[:1], covariances[:1])
    np.testing.assert_allclose(layer.transform(x), alone.transform(x), rtol=1e-12)
    np.testing.assert_allclose(layer.inverse(x), alone.inverse(x), rtol=1e-12)


def test_faults_are_named():
    log_weights, means, covariances = mixture(3)
    with pytest.raises(ValueError, match=r"positive definite; got one .* component 1"):
        gf.MixtureRosenblatt.from_mixture(log_weights, means, covariances * [[[1]], [[-1]], [[1]]])
    with pytest.raises(ValueError, match=r"\(K, d, d\); got \(3, 3\)"):
        gf.MixtureRosenblatt.from_mixture(log_weights, means, covariances[0])
    with pytest.raises(ValueError, match=r"log_weights \(K,\).*got \(2,\), \(3, 3\)"):
        gf.MixtureRosenblatt.from_mixture(log_weights[:2], means, covariances)
    for width in (0, 3, -1):
        with pytest.raises(ValueError, match=f"cond_dim from 1 to 2, or None.*got {width}"):
            gf.MixtureRosenblatt.from_mixture(log_weights, means, covariances, cond_dim=width)
