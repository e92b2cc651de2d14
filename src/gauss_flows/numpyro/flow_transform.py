"""A bijection as a NumPyro transform."""

import equinox as eqx
import jax.numpy as jnp
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, ArrayLike, Float
from numpyro.distributions import constraints
from numpyro.distributions.transforms import Transform
from paramax import unwrap


class FlowTransform(Transform):
    """A bijection of vectors as a NumPyro transform.

    Args:
        bijection: A bijection of vectors without a condition, such as a flow's.

    Raises:
        ValueError: If it is one of other events, or conditional.

    Example:
        >>> import jax.numpy as jnp
        >>> from gauss_flows import MixtureGaussianCDF
        >>> from gauss_flows.numpyro import FlowTransform
        >>> transform = FlowTransform(MixtureGaussianCDF(n_dims=2))
        >>> z = transform(jnp.ones((5, 2)))
        >>> bool(jnp.allclose(transform.inv(z), 1.0, atol=1e-5))
        True
    """

    def __init__(self, bijection: AbstractBijection):
        if len(bijection.shape) != 1 or bijection.cond_shape is not None:
            raise ValueError(
                "Expected a bijection of vectors without a condition; got shape "
                f"{bijection.shape} and condition shape {bijection.cond_shape}."
            )
        # A layer holds whole numbers and functions beside its arrays, which JAX would trace.
        self._arrays, self._static = eqx.partition(bijection, eqx.is_array)

    @property
    def bijection(self) -> AbstractBijection:
        """The bijection."""
        return eqx.combine(self._arrays, self._static)

    @property
    def domain(self) -> constraints.Constraint:
        """All vectors."""
        return constraints.real_vector

    @property
    def codomain(self) -> constraints.Constraint:
        """All vectors."""
        return constraints.real_vector

    def __call__(self, x: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
        """The image of x (..., d)."""
        return self.call_with_intermediates(x)[0]

    def call_with_intermediates(
        self, x: Float[ArrayLike, "... d"]
    ) -> tuple[Float[Array, "... d"], Float[Array, "..."]]:
        """The image of x (..., d) and the log-determinant (...), in nats."""
        return _batched(unwrap(self.bijection).transform_and_log_det)(x)

    def _inverse(self, y: Float[ArrayLike, "... d"]) -> Float[Array, "... d"]:
        return _batched(unwrap(self.bijection).inverse_and_log_det)(y)[0]

    def log_abs_det_jacobian(
        self,
        x: Float[ArrayLike, "... d"],
        y: Float[ArrayLike, "... d"],
        intermediates: Float[Array, "..."] | None = None,
    ) -> Float[Array, "..."]:
        """The log-determinant at x (..., d), in nats, of shape (...)."""
        return self.call_with_intermediates(x)[1] if intermediates is None else intermediates

    def tree_flatten(self):
        """The arrays, and what JAX need not see."""
        return (self._arrays,), (("_arrays",), {"_static": self._static})


def _batched(method):
    return jnp.vectorize(method, signature="(d)->(d),()")
