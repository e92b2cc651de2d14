"""Entropy and negentropy of single columns, with sampling error and the fit's optimism removed."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import ArrayLike, Float

from gauss_flows.numerics import gaussian_mixture
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig.marginal_fit import fit_mixtures
from gauss_flows.rbig.options import check_seed
from gaussianization.marginals import Histogram, MixtureFit, bin_edges


def marginal_entropy(
    x: Float[ArrayLike, "n d"],
    n_components: int = 8,
    *,
    sample_weight: Float[ArrayLike, " n"] | None = None,
    random_state: int = 0,
) -> Estimate:
    r"""Differential entropy of every column, from a fitted mixture.

    A mixture fitted to the rows it is then averaged over looks better than it is, by
    $b = p / 2n$ for p parameters that the data determine. How many those are is not known (the
    components of a mixture fitted to normal data are redundant), but it need not be: fits to
    either half, evaluated on the other, look worse by $2b$, so that

    $$\hat h = -\tfrac13 \bigl(2\, \overline{\log f}_{\text{all}} +
    \overline{\log f}_{\text{crossed halves}}\bigr)$$

    has neither.

    Args:
        x: Rows of shape (n, d).
        n_components: Components of the mixtures.
        sample_weight: Weights of the rows, shape (n,).
        random_state: Seed of the split into halves.

    Returns:
        Entropies in nats and their standard errors, each of shape (d,).

    Raises:
        ValueError: If there are fewer than two rows, or `random_state` is no seed.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.entropy import marginal_entropy
        >>> x = np.random.default_rng(0).uniform(0.0, 2.0, size=(5000, 1))
        >>> entropy = marginal_entropy(x)
        >>> bool(abs(entropy.value[0] - np.log(2.0)) < 0.03)
        True
    """

    def row_values(fit, _, x):
        return -_log_density(fit, x)

    return _crossed(x, n_components, sample_weight, random_state, row_values)


def negentropy(
    x: Float[ArrayLike, "n d"],
    n_components: int = 8,
    *,
    sample_weight: Float[ArrayLike, " n"] | None = None,
    random_state: int = 0,
) -> Estimate:
    r"""How far every column is from normal.

    $$J = \mathrm{E} \log \frac{f(x)}{N(x; m, s^2)} = h_{\text{normal}}(s) - h(x) \ge 0,$$

    with the mean and variance of the column. Corrected as in `marginal_entropy`, so that normal
    data give zero within the error, negative as often as positive.

    Args:
        x: Rows of shape (n, d).
        n_components: Components of the mixtures.
        sample_weight: Weights of the rows, shape (n,).
        random_state: Seed of the split into halves.

    Returns:
        Negentropies in nats and their standard errors, each of shape (d,).

    Raises:
        ValueError: If there are fewer than two rows, or `random_state` is no seed.

    References:
        Hyvärinen and Oja, *Independent Component Analysis: Algorithms and Applications* (2000).

    Example:
        >>> import numpy as np
        >>> from gauss_flows.rbig.entropy import negentropy
        >>> x = np.random.default_rng(0).laplace(size=(5000, 1))
        >>> bool(abs(negentropy(x).value[0] - 0.0724) < 0.02)
        True
    """

    def row_values(fit, histogram, x):
        w = histogram.weights / histogram.weights.sum(1, keepdims=True)
        mean = (w * histogram.means).sum(1, keepdims=True)
        deviation = histogram.means - mean
        variance = (w * (deviation**2 + histogram.variances)).sum(1, keepdims=True)
        normal = -0.5 * (x - mean) ** 2 / variance - 0.5 * np.log(2 * np.pi * variance)
        return _log_density(fit, x) - normal

    return _crossed(x, n_components, sample_weight, random_state, row_values)


def _log_density(fit: MixtureFit, x):
    """Log-density of values (d, m), taken in units in which float32 resolves them."""
    centre, unit = np.mean(fit.means, axis=1), np.exp(np.max(fit.log_scales, axis=1))
    centre, unit = centre[:, None], unit[:, None]
    log_density = gaussian_mixture.log_density(
        jnp.asarray((x - centre) / unit),
        jnp.asarray(fit.log_weights[:, None]),
        jnp.asarray(((fit.means - centre) / unit)[:, None]),
        jnp.asarray((fit.log_scales - np.log(unit))[:, None]),
    )
    return np.asarray(log_density, np.float64) - np.log(unit)


def _crossed(x, n_components, sample_weight, random_state, row_values):
    check_seed(random_state)
    x = np.asarray(x, np.float64)
    if x.ndim != 2 or len(x) < 2:
        raise ValueError(f"Expected x of shape (n, d) with at least 2 rows; got {x.shape}.")
    weight = np.ones(len(x)) if sample_weight is None else np.asarray(sample_weight, np.float64)
    edges = bin_edges(x, sample_weight=weight)
    first = np.random.default_rng(random_state).permutation(len(x)) < len(x) // 2
    halves = [
        Histogram.from_data(x[part], sample_weight=weight[part], edges=edges)
        for part in (first, ~first)
    ]
    whole = halves[0].merge(halves[1])
    fits = [fit_mixtures(part, n_components) for part in (whole, *halves)]
    values = [
        (2 * row_values(fits[0], whole, half.means) + row_values(fit, other, half.means)) / 3
        for half, other, fit in zip(halves, halves[::-1], fits[:0:-1], strict=True)
    ]
    shares = np.concatenate([half.weights for half in halves], axis=1) / weight.sum()
    values = np.concatenate(values, axis=1)
    mean = (shares * values).sum(1)
    variance = (shares * (values - mean[:, None]) ** 2).sum(1)
    one_row = (weight**2).sum() / weight.sum() ** 2
    return Estimate(mean, np.sqrt(variance * one_row / (1 - one_row)))
