"""Derivatives of both mixture families: truth, finiteness, and what an outlier does to them."""

import jax
import jax.numpy as jnp
import numpy as np
from mpmath import mp, mpf

from numerics import mixture_reference as reference
from numerics.mixture_checks import LIBRARY, OUTPUTS, TOLERANCE, functions, points


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


def check_derivatives(family, precision, mixture, scores, names):
    """Reverse-mode gradients of the named outputs against differences to fifty digits."""
    tolerance = 10 * TOLERANCE[precision]
    x = points(family, [p[None] for p in mixture], scores, precision)[0]
    mixture = [jnp.asarray(p, precision) for p in mixture]
    jacobian = jax.jacrev(with_logits(functions(family, names)), argnums=(0, 1, 2, 3))
    gradients = jax.jit(jax.vmap(jacobian, in_axes=(0, None, None, None)))(x, *mixture)
    z = scores
    for i, point in enumerate(np.asarray(x)):
        exact = exact_derivatives(family, point, *mixture)
        # log_det = log f + z²/2 + …: its derivative is the sum of two that may cancel.
        parts = np.abs(exact["log_density"]), np.abs(z[i] * exact["z"]), np.abs(exact["log_det"])
        size = {name: np.abs(value) for name, value in exact.items()}
        size["log_det"] = size["log_density"] = np.maximum.reduce(parts)
        for name in names:
            found = np.concatenate([np.ravel(g[i]) for g in gradients[name]]).astype(float)
            assert np.all(np.isfinite(found)), (name, z[i])
            # Relative to the largest derivative of its kind: x and means, logits, log-scales.
            n = len(mixture[0])
            kinds = np.r_[0, np.full(n, 1), np.full(n, 0), np.full(n, 2)]
            largest = np.array([size[name][kinds == kind].max() for kind in range(3)])[kinds]
            error = np.abs(found - exact[name]) / (largest * max(1, z[i] ** 2))
            assert np.all(error <= tolerance), (name, z[i], found, exact[name])


def check_far_out(family, precision, mixtures, names, far=1e6):
    """Values and gradients finite at distances of up to a million of the widest scale."""
    _, means, log_scales = mixtures
    distance = np.exp(log_scales).max(axis=1, keepdims=True) * np.geomspace(1, far, 7)
    right, left = means.max(1, keepdims=True) + distance, means.min(1, keepdims=True) - distance
    x = jnp.asarray(np.concatenate([right, left], axis=1), precision)
    mixture = [jnp.asarray(p, precision) for p in mixtures]
    function = with_logits(functions(family, names))

    def both(x, *mixture):
        return function(x, *mixture), jax.jacrev(function, (0, 1, 2, 3))(x, *mixture)

    values, gradients = jax.jit(jax.vmap(jax.vmap(both, (0, None, None, None))))(x, *mixture)
    for leaf in jax.tree.leaves((values, gradients)):
        assert leaf.dtype == x.dtype
        assert np.all(np.isfinite(leaf))
    if "z" in names:  # monotone, so not saturated
        steps = np.diff(np.asarray(values["z"]).reshape(len(means), 2, -1), axis=-1)
        assert np.all(steps[:, 0] > 0)
        assert np.all(steps[:, 1] < 0)


def check_outlier_is_harmless(family, precision, mixture, far=1e6):
    """A far row neither poisons a batch's parameter gradient nor, weighing nothing, alters it."""
    mixture = [jnp.asarray(p, precision) for p in mixture]
    gaussianize = with_logits(LIBRARY[family].gaussianize)
    x = jnp.asarray(np.r_[np.random.default_rng(3).normal(size=20), far], precision)

    @jax.jit
    def gradient(x, weights):
        def loss(*mixture):
            z, log_det = jax.vmap(gaussianize, (0, None, None, None))(x, *mixture)
            return jnp.sum(weights * (0.5 * z**2 - log_det))

        return jax.grad(loss, argnums=(0, 1, 2))(*mixture)

    everyone = jnp.ones_like(x)
    all_but_last = everyone.at[-1].set(0)
    whole = gradient(x, everyone)
    far_alone = gradient(x, 1 - all_but_last)
    weightless = gradient(x, all_but_last)
    without = gradient(x.at[-1].set(0.0), all_but_last)
    eps = np.finfo(precision).eps
    for total, outlier, masked, rest in zip(whole, far_alone, weightless, without, strict=True):
        assert np.all(np.isfinite(total))
        size = np.abs(outlier) + np.abs(rest)
        assert np.all(np.abs(total - outlier - rest) <= 64 * eps * size.max())
        # A row of weight zero: any infinity or NaN in it would show here.
        np.testing.assert_allclose(masked, rest, rtol=64 * eps, atol=64 * eps)


def check_rules(family, plain, mixture, x):
    """First derivatives, forward and reverse, against those of a plain log-space version."""
    arguments = [jnp.asarray(p) for p in mixture]
    _, unravel = jax.flatten_util.ravel_pytree(arguments)
    flat = jnp.stack([jnp.r_[point, np.concatenate(arguments)] for point in x])

    def loss(function):
        def number(flat):
            z, log_det = function(flat[0], *unravel(flat[1:]))
            return jnp.sin(z) + log_det * z

        return number

    ours, wanted = loss(with_logits(LIBRARY[family].gaussianize)), loss(plain)
    expected = jax.jit(jax.vmap(jax.jacrev(wanted)))(flat)
    assert np.all(np.any(np.asarray(expected) != 0, axis=0))
    for mode in (jax.jacfwd, jax.jacrev):
        found = jax.jit(jax.vmap(mode(ours)))(flat)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)

    gradient, hessian = jax.jit(jax.vmap(jax.grad(ours))), jax.jit(jax.hessian(ours))
    for row in flat[:: len(flat) // 4]:
        steps = 1e-5 * jnp.eye(len(row))
        differences = (gradient(row + steps) - gradient(row - steps)) / 2e-5
        np.testing.assert_allclose(hessian(row), differences, rtol=1e-6, atol=1e-7)
