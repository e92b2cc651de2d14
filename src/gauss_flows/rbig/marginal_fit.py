"""Fit a one-dimensional Gaussian mixture to every column, for layers of JAX's precision."""

import jax.numpy as jnp
from jaxtyping import ArrayLike, Float

from gaussianization import marginals
from gaussianization.marginals import Histogram, MixtureFit


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

    This is `gaussianization.marginals.fit_mixtures`, which says more, for mixtures that will be
    used in JAX's precision.

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
    return marginals.fit_mixtures(
        x,
        n_components,
        sample_weight=sample_weight,
        n_bins=n_bins,
        tolerance=tolerance,
        max_iterations=max_iterations,
        dtype=jnp.zeros(()).dtype,
    )
