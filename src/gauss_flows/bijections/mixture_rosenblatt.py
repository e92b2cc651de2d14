"""The Rosenblatt transformation of a Gaussian mixture: its exact map to a standard normal."""

import math
from typing import NamedTuple, Self

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float

from gauss_flows.numerics import gaussian_mixture

_LOG_SQRT_2PI = 0.5 * math.log(2.0 * math.pi)


class _Conditionals(NamedTuple):
    """The mixtures of coordinates given those before them; the first axes are the coordinates."""

    log_weights: Array
    means: Array
    log_scales: Array


class MixtureRosenblatt(AbstractBijection):
    r"""Map a mixture of Gaussians with full covariances to a standard normal.

    Each coordinate is Gaussianized through its conditional distribution given the coordinates
    before it, which is again a mixture of Gaussians,

    $$z_i = \Phi^{-1}\Big(\sum_k w_{k}(x_{<i})\,
    \Phi\big(\tfrac{x_i - m_{ki}(x_{<i})}{\sigma_{ki}}\big)\Big), \qquad
    m_{ki} = \mu_{ki} + \sum_{j<i} C_{kij}\,(x_j - \mu_{kj}),$$

    with the weights that component k has once $x_{<i}$ is known. So a flow that ends here has the
    mixture's own density, and the map and its inverse are exact.

    Between components whose distance is many of their scales the map is flat to the last bit, so
    that a point in such a gap comes back as another one of the same gap.

    With `cond_dim` the mixture is over the condition and the event together, the condition first,
    and the layer is the event's transformation given the condition.

    Args:
        log_weights: Logarithms of the components' weights, shape (K,), up to a constant.
        means: Their means, shape (K, cond_dim + d).
        coefficients: Each component's regression coefficients of a coordinate (row) on those
            before it (column), shape (K, cond_dim + d, cond_dim + d). What is not below the
            diagonal is not looked at.
        log_scales: Logarithms of the standard deviations of what the regressions leave, shape
            (K, cond_dim + d).
        cond_dim: Width of the condition, the first coordinates of the mixture; `None` for none.

    Raises:
        ValueError: If the shapes do not fit or no coordinate is left beside the condition.

    References:
        Rosenblatt, *Remarks on a Multivariate Transformation* (1952).

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows import MixtureRosenblatt
        >>> means = jnp.array([[-2.0, 0.0], [2.0, 1.0]])
        >>> covariances = jnp.array([[[1.0, 0.8], [0.8, 1.0]], [[1.0, -0.5], [-0.5, 2.0]]])
        >>> log_weights = jnp.log(jnp.array([0.3, 0.7]))
        >>> layer = MixtureRosenblatt.from_mixture(log_weights, means, covariances)
        >>> x = jnp.array([0.5, -30.0])
        >>> bool(jnp.allclose(layer.inverse(layer.transform(x)), x, rtol=1e-4))
        True
    """

    logits: Float[Array, " k"]
    means: Float[Array, "k all"]
    coefficients: Float[Array, "k all all"]
    log_scales: Float[Array, "k all"]
    shape: tuple[int, ...] = eqx.field(static=True)
    cond_shape: tuple[int, ...] | None = eqx.field(static=True)

    def __init__(
        self,
        log_weights: Float[ArrayLike, " k"],
        means: Float[ArrayLike, "k all"],
        coefficients: Float[ArrayLike, "k all all"],
        log_scales: Float[ArrayLike, "k all"],
        *,
        cond_dim: int | None = None,
    ):
        arrays = [jnp.asarray(a) for a in (log_weights, means, coefficients, log_scales)]
        self.logits, self.means, self.coefficients, self.log_scales = arrays
        shapes = [a.shape for a in arrays]
        k, n_all = shapes[1] if len(shapes[1]) == 2 else (0, 0)
        if not k or shapes != [(k,), (k, n_all), (k, n_all, n_all), (k, n_all)]:
            raise ValueError(
                "Expected log_weights (K,), means (K, d), coefficients (K, d, d) and log_scales "
                f"(K, d); got {', '.join(map(str, shapes))}."
            )
        width = 0 if cond_dim is None else cond_dim
        if not (cond_dim is None or cond_dim >= 1) or width >= n_all:
            raise ValueError(
                f"Expected cond_dim from 1 to {n_all - 1}, or None, where the mixture has {n_all} "
                f"coordinates; got {cond_dim}."
            )
        self.shape = (n_all - width,)
        self.cond_shape = None if cond_dim is None else (cond_dim,)

    @classmethod
    def from_mixture(
        cls,
        log_weights: Float[ArrayLike, " k"],
        means: Float[ArrayLike, "k all"],
        covariances: Float[ArrayLike, "k all all"],
        *,
        cond_dim: int | None = None,
    ) -> Self:
        """The layer of a mixture given by its weights, means and covariances.

        Args:
            log_weights: Logarithms of the weights, shape (K,).
            means: The means, shape (K, cond_dim + d).
            covariances: The covariances, shape (K, cond_dim + d, cond_dim + d).
            cond_dim: Width of the condition, as above.

        Returns:
            The layer, in JAX's precision; the factors are computed in double precision.

        Raises:
            ValueError: If a covariance is not positive definite, or as above.
        """
        covariances = np.asarray(covariances, float)
        if covariances.ndim != 3 or covariances.shape[1] != covariances.shape[2]:
            raise ValueError(f"Expected covariances of shape (K, d, d); got {covariances.shape}.")
        try:
            factors = np.linalg.cholesky(covariances)
        except np.linalg.LinAlgError:
            definite = np.linalg.eigvalsh(covariances)[:, 0] > 0
            raise ValueError(
                "Expected covariances that are positive definite; got one that is not for "
                f"component {int(np.argmin(definite))}."
            ) from None
        scales = np.diagonal(factors, axis1=1, axis2=2)
        # Σ = L Lᵀ and x − μ = L ε: the rows of D L⁻¹ − I, D the diagonal of L, are minus the
        # coefficients.
        inverse = np.linalg.inv(factors)
        coefficients = -np.tril(scales[:, :, None] * inverse, -1)
        return cls(
            log_weights,
            means,
            jnp.asarray(coefficients),
            jnp.asarray(np.log(scales)),
            cond_dim=cond_dim,
        )

    def transform_and_log_det(
        self, x: Float[ArrayLike, " d"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Data to latent: z of shape (d,) and the log-determinant in nats."""
        x = jnp.asarray(x)
        z, log_det = gaussian_mixture.gaussianize(
            x, *self._conditionals(self._joined(x, condition))
        )
        return z, log_det.sum()

    def inverse_and_log_det(
        self, y: Float[ArrayLike, " d"], condition: ArrayLike | None = None
    ) -> tuple[Float[Array, " d"], Float[Array, ""]]:
        """Latent to data: x of shape (d,) and the inverse's log-determinant in nats."""
        y = jnp.asarray(y)
        n_given = self.means.shape[1] - self.shape[0]
        given = self._joined(jnp.zeros_like(y), condition)[:n_given]
        beyond = jnp.zeros((self.means.shape[0], self.shape[0]), y.dtype)
        means = self.means.astype(y.dtype)
        residuals = jnp.concatenate([given - means[:, :n_given], beyond], axis=1)
        log_weights = self.logits + self._log_densities(residuals)[:, :n_given].sum(1)
        strictly_lower = jnp.tril(self.coefficients, -1)

        def next_coordinate(carry, step):
            residuals, log_weights = carry
            score, index, mean, rows, log_scales = step
            centre = mean + jnp.sum(rows * residuals, axis=-1)
            normalised = jax.nn.log_softmax(log_weights)
            x = gaussian_mixture.quantile(score, normalised, centre, log_scales)
            log_density = _log_normal((x - centre) * jnp.exp(-log_scales)) - log_scales
            residuals = residuals.at[:, index].set(x - mean)
            return (residuals, log_weights + log_density), x

        steps = (
            y,
            jnp.arange(n_given, means.shape[1]),
            means.T[n_given:],
            strictly_lower.transpose(1, 0, 2)[n_given:],
            self.log_scales.T[n_given:],
        )
        _, x = jax.lax.scan(next_coordinate, (residuals, log_weights), steps)
        _, log_det = self.transform_and_log_det(x, condition)
        return x, -log_det

    def _joined(self, x: Array, condition: ArrayLike | None) -> Array:
        if self.cond_shape is None:
            return x
        return jnp.concatenate([jnp.asarray(condition, x.dtype), x])

    def _conditionals(self, joined: Array) -> _Conditionals:
        n_given = joined.shape[0] - self.shape[0]
        residuals = joined - self.means
        centres = self.means + self._moved(residuals)
        before = jnp.cumsum(self._log_densities(residuals)[:, :-1], axis=1)
        before = jnp.pad(before, ((0, 0), (1, 0)))
        log_weights = jax.nn.log_softmax(self.logits[:, None] + before, axis=0)
        parts = (log_weights, centres, self.log_scales)
        return _Conditionals(*(part.T[n_given:] for part in parts))

    def _moved(self, residuals: Array) -> Array:
        """What a component's regressions add to its means."""
        return jnp.einsum("kij,kj->ki", jnp.tril(self.coefficients, -1), residuals)

    def _log_densities(self, residuals: Array) -> Array:
        left = residuals - self._moved(residuals)
        return _log_normal(left * jnp.exp(-self.log_scales)) - self.log_scales


def _log_normal(u: Array) -> Array:
    return -0.5 * u * u - _LOG_SQRT_2PI
