"""Total correlation by the layers of RBIG."""

import jax
import numpy as np
from jaxtyping import Float
from scipy.special import polygamma

from gauss_flows.information.balls import log_ratio_curves, orders_up_to
from gauss_flows.information.copula import error_of, with_fresh_margins
from gauss_flows.information.extrapolation import limit_of
from gauss_flows.information.log_density import MOST_NEIGHBOURS
from gauss_flows.information.null import log_normal, null_of
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig._push import push
from gauss_flows.rbig.layers import LayerOptions
from gauss_flows.rbig.loop import RunOptions, gaussianize_rows

_MOST_LAYERS = 20
_HELD_OUT = 0.25
_MOST_ROWS = 10_000


def route(x: Float[np.ndarray, "n d"], random_state: int) -> Estimate:
    r"""Sum of what the layers of RBIG remove, and of what they leave.

    Rows with normal margins go through L rotations, each followed by marginal Gaussianizations.
    A rotation keeps the entropy, a marginal map the total correlation, so that

    $$T(x) = \sum_{\ell=1}^{L} \sum_i J\bigl(y_{\ell i}\bigr) +
    \mathrm{KL}\bigl(p_{x_L} \,\|\, N(0, I)\bigr), \qquad y_\ell = Q_\ell\, x_{\ell - 1},$$

    with the one-dimensional negentropies J, here against the standard normal. How many layers there
    are held-out rows decide. What is left is estimated from neighbours, so that the sum does not
    depend on where the layers end, nor on what they have learned of the rows by heart.

    Args:
        x: Checked rows, shape (n, d); at most 10 000 of them are looked at.
        random_state: Seed of margins, split and rotations.

    Returns:
        The total correlation and its standard error, in nats.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).
    """
    if len(x) > _MOST_ROWS:
        x = np.random.default_rng(random_state).permutation(x)[:_MOST_ROWS]
    rows = with_fresh_margins(x, random_state)
    n, n_dims = rows.shape
    held_out = np.random.default_rng(random_state).permutation(n) < round(_HELD_OUT * n)
    with jax.enable_x64(True):
        layers, _ = gaussianize_rows(
            jax.numpy.asarray(rows[~held_out]),
            LayerOptions(8, "pca", random_state),
            RunOptions(_MOST_LAYERS, _MOST_LAYERS, False),
            validation=jax.numpy.asarray(rows[held_out]),
        )
        z = jax.numpy.asarray(rows)
        drops = np.zeros(n)
        for layer in layers:
            y, _ = push(layer.rotation, z)
            before = log_normal(np.asarray(y))
            z, log_det = push(layer.marginal, y)
            drops += log_normal(np.asarray(z)) + np.asarray(log_det) - before
    most = max(1, min(MOST_NEIGHBOURS, n // 10))
    left = log_ratio_curves(np.asarray(z), most)
    noise = null_of(n, n_dims, most).noise
    limit = limit_of(
        drops.mean() + left.mean(0), noise, orders_up_to(most), n_dims, has_edges=False
    )
    row_noise = float(polygamma(1, orders_up_to(most)[-1]))
    return Estimate(limit.value, error_of(drops + left[:, -1], row_noise, limit.variance))
