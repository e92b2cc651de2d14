"""A flow whose log-density passes gradients through the point alone."""

import equinox as eqx
import jax
from flowjax.bijections import Permute
from flowjax.distributions import AbstractTransformed
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from gauss_flows.bijections import (
    ActNorm,
    FixedRotation,
    HouseholderRotation,
    LULinearPermute,
    MixtureGaussianCDF,
    MixtureLogisticCDF,
    OrthogonalRotation,
    RQSplineMarginal,
)
from gauss_flows.numpyro.flow_dist import FlowDist, log_density

# Layers whose Jacobian no network can make steep.
_STEADY = (
    ActNorm,
    FixedRotation,
    HouseholderRotation,
    LULinearPermute,
    MixtureGaussianCDF,
    MixtureLogisticCDF,
    OrthogonalRotation,
    Permute,
    RQSplineMarginal,
)


class PathGradientFlowDist(FlowDist):
    r"""A flow to draw from whose log-density holds the flow's own arrays fixed.

    With x = T_φ(ε), the gradient in φ of log q_φ(x) is the one that reaches φ through x and the
    score ∂ log q_φ/∂φ at x. The score's mean is 0 and its variance is not: without it the
    gradient of the evidence lower bound is unbiased still, and its variance goes to 0 as q
    nears the posterior.

    The price: the slope of log q in x enters, which a coupling's network can make so steep that
    single draws dominate, and float32 does not hold them.

    References:
        Roeder, Wu & Duvenaud (2017), *Sticking the Landing: Simple, Lower-Variance Gradient
        Estimators for Variational Inference*.
    """

    def sample_with_intermediates(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Float[Array, "..."], list[Float[Array, "..."]]]:
        """Draw; the log-density on the way would carry the score."""
        return self.sample(key, sample_shape), []

    def log_prob(
        self,
        value: Float[ArrayLike, "..."],
        intermediates: list[Float[Array, "..."]] | None = None,
    ) -> Float[Array, "..."]:
        """The log-density, in nats, with no gradient in the flow's arrays."""
        held = jax.tree.map(jax.lax.stop_gradient, self._arrays)
        return log_density(eqx.combine(held, self._static), value, self.condition)


def is_steady(flow: AbstractTransformed) -> bool:
    """Whether every trainable array belongs to a linear map or a marginal, and none to a network.

    Args:
        flow: The flow.
    """
    leaves = jax.tree.leaves(flow.bijection, is_leaf=lambda node: isinstance(node, _STEADY))
    return not any(eqx.is_inexact_array(leaf) for leaf in leaves)
