"""Fit a one-dimensional Gaussian mixture to every column, in one jitted call."""

from functools import partial

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import ArrayLike, Float

from gaussianization.marginals import Histogram, MixtureFit, em
from gaussianization.marginals.marginal_fit import fit_mixtures_with


def _repeat(leap, columns, place, most):
    def unfinished(state):
        return jnp.any(state[0].climbs) & (state[1] < most)

    def leap_and_count(state):
        return leap(columns, state[0]), state[1] + 1

    return lax.while_loop(unfinished, leap_and_count, (place, jnp.asarray(0)))


JAX = em.Arrays(jnp, lambda a, b: (a * b).sum(-1), _repeat)
fit_bins = jax.jit(partial(em.fit_bins, arrays=JAX), static_argnames="n_coarse")


def fit_mixtures(
    x: Float[ArrayLike, "n d"] | Histogram,
    n_components: int = 8,
    *,
    sample_weight: Float[ArrayLike, " n"] | None = None,
    n_bins: int = 256,
    tolerance: float = 3e-5,
    max_iterations: int = 300,
) -> MixtureFit:
    r"""Fit $f_i(x) = \sum_k w_{ik}\, N(x; \mu_{ik}, \sigma_{ik}^2)$ to every column by EM.

    This is `gaussianization.marginals.fit_mixtures`, which says more, compiled and in JAX's
    precision.

    Args:
        x: The rows, shape `(n, d)`, or a histogram of them.
        n_components: Number of components `K` of each column.
        sample_weight: Non-negative weight of each row, shape `(n,)`; a weight of two counts as the
            row twice. One each by default; not with a histogram, which has weights of its own.
        n_bins: Number of bins, a power of two.
        tolerance: A column stops when three steps raise its mean log-likelihood by no more nats.
        max_iterations: Most EM steps, in each of the two parts of the climb.

    Returns:
        The fitted mixtures, as NumPy arrays in float64.

    Raises:
        ValueError: If `n_components` is below one, `n_bins` no power of two, or the shapes do not
            fit.

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.marginal_fit import fit_mixtures
        >>> x = np.random.default_rng(0).normal(loc=[0.0, 50.0], size=(4000, 2))
        >>> fit = fit_mixtures(x, n_components=3)
        >>> fit.means.shape
        (2, 3)
        >>> bool(np.all(np.abs(fit.log_likelihood + 0.5 * np.log(2 * np.pi * np.e)) < 0.05))
        True
    """
    # NumPy arrays go in as they are: JAX takes them in its own precision.
    return fit_mixtures_with(
        fit_bins,
        x,
        n_components,
        sample_weight=sample_weight,
        n_bins=n_bins,
        tolerance=tolerance,
        max_iterations=max_iterations,
        dtype=jnp.zeros(()).dtype,
    )
