"""Maps that bring rows near to normal, so that little is left for their neighbours to say."""

import warnings
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Float
from sklearn.exceptions import ConvergenceWarning
from sklearn.mixture import GaussianMixture

from gauss_flows.bijections.mixture_rosenblatt import MixtureRosenblatt
from gauss_flows.information.null import log_normal
from gauss_flows.numerics.in_parts import in_parts

_SIZES = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
_PATIENCE = 2
_MOST_FITTED = 10_000
# What a parameter of the richer mixture must add to twice the log-likelihood, less than BIC's log n
# where rows are many: Akaike's 2 fits the noise, and more than 4 or 5 leaves too much to be said.
_PENALTY = 4.25
# Rows that a component takes at least, for each of its parameters.
_ROWS_A_PARAMETER = 3

Array = np.ndarray


class Map(NamedTuple):
    """A density that has a map to the standard normal.

    Args:
        push: Sends rows (n, d) to their latents (n, d) and log-densities (n,) in nats.
        n_parameters: Number of parameters fitted.
        n_components: Components of the mixture; 1 is a single Gaussian.
    """

    push: Callable[[Array], tuple[Array, Array]]
    n_parameters: int
    n_components: int


def fit_gaussian(x: Float[np.ndarray, "n d"]) -> Map:
    """Fit a Gaussian with its full covariance.

    Args:
        x: Rows, shape (n, d).

    Returns:
        Its map, which whitens.
    """
    mean = x.mean(0)
    factor = np.linalg.cholesky((x - mean).T @ (x - mean) / len(x))
    log_det = -np.log(np.diagonal(factor)).sum()

    def push(rows: Array) -> tuple[Array, Array]:
        z = np.linalg.solve(factor, (rows - mean).T).T
        return z, log_normal(z) + log_det

    n_dims = x.shape[1]
    return Map(push, n_dims * (n_dims + 3) // 2, 1)


def fit_mixtures(x: Float[np.ndarray, "n d"], random_state: int) -> tuple[Map, Map]:
    """Fit mixtures of as many Gaussians as BIC and a smaller penalty support.

    Args:
        x: Rows, shape (n, d); at most 10 000 of them are fitted.
        random_state: Seed of which, and of the mixtures' starts.

    Returns:
        The maps of both, which may be one.
    """
    gaussian = fit_gaussian(x)
    rows, _ = gaussian.push(x)
    if len(rows) > _MOST_FITTED:
        rows = np.random.default_rng(random_state).permutation(rows)[:_MOST_FITTED]
    fits: list[GaussianMixture] = []
    misfits, penalties = [], []
    for size in _SIZES:
        if size > 1 and size * _ROWS_A_PARAMETER * gaussian.n_parameters > len(rows):
            break
        mixture = GaussianMixture(
            size, random_state=random_state, reg_covar=1e-6, max_iter=200, tol=1e-3
        )
        with warnings.catch_warnings():
            # Mixtures that have not settled are compared as they are.
            warnings.simplefilter("ignore", ConvergenceWarning)
            fits.append(mixture.fit(rows))
        misfits.append(-2 * mixture.score(rows) * len(rows))
        penalties.append(mixture.bic(rows) - misfits[-1])
        best = _best(misfits, penalties, len(rows))
        if len(fits) - 1 - best[1] > _PATIENCE:
            break
    sparse, rich = _best(misfits, penalties, len(rows))
    maps = {
        i: _of_mixture(fits[i], gaussian) if fits[i].n_components > 1 else gaussian
        for i in {sparse, rich}
    }
    return maps[sparse], maps[rich]


def _best(misfits: list[float], penalties: list[float], n_rows: int) -> tuple[int, int]:
    """Number the best by BIC, and by the smaller penalty, which has as many components at least."""
    whole = np.add(misfits, penalties)
    share = min(1.0, _PENALTY / np.log(n_rows))
    less = np.add(misfits, share * np.asarray(penalties))
    return int(whole.argmin()), int(less.argmin())


def _of_mixture(mixture: GaussianMixture, gaussian: Map) -> Map:
    with jax.enable_x64(True):
        layer = MixtureRosenblatt.from_mixture(
            np.log(np.asarray(mixture.weights_)),
            np.asarray(mixture.means_),
            np.asarray(mixture.covariances_),
        )

    def push(rows: Array) -> tuple[Array, Array]:
        whitened, log_density = gaussian.push(rows)
        before = log_density - log_normal(whitened)
        with jax.enable_x64(True):
            z, log_det = in_parts(partial(_transform, layer), whitened)
        return z, log_normal(z) + log_det + before

    size = mixture.n_components * (gaussian.n_parameters + 1) - 1
    return Map(push, size, mixture.n_components)


@eqx.filter_jit
def _transform(layer, rows):
    return jax.vmap(layer.transform_and_log_det)(rows)
