"""An affine coupling layer set from conditional moments: training-free."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import random as jr
from jaxtyping import Array, Float

from gauss_flows.affine.arguments import step_share
from gauss_flows.affine.moments import ConditionalMoments
from gauss_flows.bijections.affine_coupling import AffineCoupling

# Bound on the absolute log-scale, wide enough for any unit of the data that is not absurd, and the
# share of it that they may use: tanh has no inverse at 1.
_MAX_LOG_SCALE = 64.0
_ROOM = 0.999


class MomentConditioner(eqx.Module):
    r"""The conditioner that Lemma 1 asks for: it standardises the active coordinates given p.

    With ``step`` s it goes a share of the way,

    $$a' = (1 - s)\, a + s\, \frac{a - m(p)}{\sigma(p)}.$$

    Args:
        moments: Mean and variance of the active coordinates given the passive ones.
        step: Share s of the way, in (0, 1].
    """

    moments: ConditionalMoments
    step: float = eqx.field(static=True)

    def __call__(self, p: Float[Array, " d_passive"]) -> Float[Array, " 2*d_active"]:
        """Shift and raw log-scale of every active coordinate, as `AffineCoupling` reads them."""
        deviation = jnp.sqrt(self.moments.variance(p))
        mean = self.moments.mean(p)
        slope = (1.0 - self.step) + self.step / deviation
        shift = self.step * mean / deviation / slope
        bounded = jnp.clip(-jnp.log(slope) / _MAX_LOG_SCALE, -_ROOM, _ROOM)
        raw = _MAX_LOG_SCALE * jnp.arctanh(bounded)
        return jnp.stack([shift, raw], axis=-1).reshape(-1)


def closed_form_coupling(moments: ConditionalMoments, *, step: float = 1.0) -> AffineCoupling:
    r"""The affine coupling layer of largest likelihood, given the conditional moments (Lemma 1).

    $$z_i = \frac{a_i - m_i(p)}{\sigma_i(p)}, \qquad
    \mathrm{log\_det} = -\sum_i \log\sigma_i(p).$$

    Args:
        moments: What `conditional_moments(p, a)` found, by a method that JAX can evaluate.
        step: Share of the way from the identity to that layer, in (0, 1].

    Returns:
        A layer on vectors [p, a], passive coordinates first. Its conditioner's arrays can be
        trained from there like any other layer's.

    Raises:
        ValueError: If the moments are not JAX functions or the step is not in (0, 1].

    References:
        Draxler, Schwarz, Schnörr and Köthe, *Characterizing the Role of a Single Coupling Layer in
        Affine Normalizing Flows* (2020), Lemma 1.

    Example:
        >>> import jax
        >>> import numpy as np
        >>> from gauss_flows.affine import closed_form_coupling, conditional_moments
        >>> rng = np.random.default_rng(0)
        >>> p = rng.uniform(-2, 2, size=(4000, 1))
        >>> a = np.sin(p) + np.exp(0.5 * p) * rng.normal(size=(4000, 1))
        >>> layer = closed_form_coupling(conditional_moments(p, a))
        >>> z = jax.vmap(layer.transform)(np.hstack([p, a]))
        >>> bool(abs(z[:, 1].std() - 1) < 0.05 and abs(z[p[:, 0] > 1, 1].std() - 1) < 0.1)
        True
    """
    share = step_share(step)
    if not isinstance(moments, ConditionalMoments) or not moments.differentiable:
        raise ValueError(
            "Expected moments that JAX can evaluate, from conditional_moments by any method but "
            f"'boosting'; got {type(moments).__name__}."
        )
    mask = np.arange(moments.n_passive + moments.n_active) < moments.n_passive
    return AffineCoupling(
        jr.key(0),
        n_dims=len(mask),
        mask=mask,
        conditioner=MomentConditioner(moments, share),
        max_log_scale=_MAX_LOG_SCALE,
    )
