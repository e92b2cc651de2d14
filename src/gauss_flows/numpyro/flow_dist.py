"""A flow as a NumPyro distribution."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from flowjax.distributions import AbstractDistribution
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from numpyro.distributions import Distribution, constraints
from numpyro.distributions.batch_util import promote_batch_shape
from numpyro.distributions.util import validate_sample


class FlowDist(Distribution):
    r"""A flow as a NumPyro distribution.

    $$x = T(z; c), \quad z \sim N(0, I), \qquad
    \log p(x \mid c) = \log N(z; 0, I) - \log\lvert\det \partial T / \partial z\rvert.$$

    It goes where a distribution goes: in `numpyro.sample` as a prior or, with ``obs``, as a
    likelihood, in plates, under `jax.jit` and `jax.vmap`, in SVI and MCMC. Samples are
    reparametrised, and gradients reach the value, the condition and the flow's arrays.

    Args:
        flow: A flow of this library, or any flowjax distribution.
        condition: The condition, of shape (..., *flow.cond_shape), for a conditional flow; its
            leading axes are the batch shape.
        support: Where the density lives, for a flow that ends in a map to less than the whole
            space; by default all of it.
        validate_args: As in every NumPyro distribution.

    Raises:
        ValueError: If ``flow`` is no flow, its condition is missing, uncalled for or of another
            shape, or the support is one of events of another rank.

    Example:
        >>> import jax.random as jr
        >>> import numpyro
        >>> import gauss_flows as gf
        >>> from gauss_flows.numpyro import FlowDist
        >>> flow = gf.gaussianization_flow(jr.key(0), n_dims=2, n_layers=2)
        >>> def model():
        ...     with numpyro.plate("rows", 3):
        ...         return numpyro.sample("x", FlowDist(flow))
        >>> numpyro.handlers.seed(model, rng_seed=0)().shape
        (3, 2)
    """

    pytree_data_fields = ("_arrays", "condition")
    pytree_aux_fields = ("_static", "_support")

    def __init__(
        self,
        flow: AbstractDistribution,
        condition: Float[ArrayLike, "..."] | None = None,
        *,
        support: constraints.Constraint | None = None,
        validate_args: bool | None = None,
    ):
        if not isinstance(flow, AbstractDistribution):
            raise ValueError(f"Expected a flow; got {type(flow).__name__}.")
        if support is None:
            support = real_events(flow.ndim)
        elif support.event_dim != flow.ndim:
            raise ValueError(
                f"Expected a support of events of rank {flow.ndim}, as the flow's are; got rank "
                f"{support.event_dim}."
            )
        self.condition = _checked_condition(flow, condition)
        # A flow holds whole numbers and functions beside its arrays, which JAX would trace.
        self._arrays, self._static = eqx.partition(flow, eqx.is_array)
        self._support = support
        batch_shape = _batch_shape(flow, self.condition)
        super().__init__(batch_shape, flow.shape, validate_args=validate_args)

    @property
    def flow(self) -> AbstractDistribution:
        """The flow."""
        return eqx.combine(self._arrays, self._static)

    def sample(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> Float[Array, "..."]:
        """Draw.

        Args:
            key: Random key, new-style or raw.
            sample_shape: Draws for each element of the batch.

        Returns:
            Of shape (*sample_shape, *batch_shape, *event_shape).
        """
        return _draw(self.flow, typed_key(key), sample_shape, self.condition)

    def sample_with_intermediates(
        self, key: PRNGKeyArray | None, sample_shape: tuple[int, ...] = ()
    ) -> tuple[Float[Array, "..."], list[Float[Array, "..."]]]:
        """Draw, with the log-densities, which come at no cost when one draws."""
        x, log_prob = _draw_with_density(self.flow, typed_key(key), sample_shape, self.condition)
        return x, [log_prob]

    @validate_sample
    def log_prob(
        self,
        value: Float[ArrayLike, "..."],
        intermediates: list[Float[Array, "..."]] | None = None,
    ) -> Float[Array, "..."]:
        """The log-density.

        Args:
            value: Points, of shape (..., *event_shape), broadcast against the batch.
            intermediates: What `sample_with_intermediates` gave for these very points.

        Returns:
            Nats, of the shape of the points and the batch without the event's axes.
        """
        if intermediates:
            return intermediates[0]
        shape, rank = jnp.shape(value), self.event_dim
        if shape[len(shape) - rank :] != self.event_shape:
            raise ValueError(
                f"Expected a value whose last axes are {self.event_shape}; got shape {shape}."
            )
        return log_density(self.flow, value, self.condition)


# Compiled as a whole: NumPyro calls them outside of jit too, to look at a model for one.
@eqx.filter_jit
def _draw(flow: AbstractDistribution, key: PRNGKeyArray, shape: tuple[int, ...], condition):
    return flow.sample(key, shape, condition)


@eqx.filter_jit
def _draw_with_density(
    flow: AbstractDistribution, key: PRNGKeyArray, shape: tuple[int, ...], condition
):
    return flow.sample_and_log_prob(key, shape, condition)


@eqx.filter_jit
def log_density(flow: AbstractDistribution, value: ArrayLike, condition: Array | None) -> Array:
    """The flow's log-density, in nats."""
    return flow.log_prob(value, condition)


# The generic function is typed by its default, which only raises.
@promote_batch_shape.register  # pyright: ignore[reportCallIssue, reportArgumentType]
def _(dist: FlowDist) -> FlowDist:
    # After jax.vmap the condition has axes that the batch shape, a static, does not know of.
    dist._batch_shape = _batch_shape(dist.flow, dist.condition)
    return dist


def real_events(event_dim: int) -> constraints.Constraint:
    """The whole space of events of this rank."""
    if event_dim == 0:
        return constraints.real
    if event_dim == 1:
        return constraints.real_vector
    return constraints.independent(constraints.real, event_dim)


def _checked_condition(flow: AbstractDistribution, condition: ArrayLike | None) -> Array | None:
    if flow.cond_shape is None:
        if condition is not None:
            raise ValueError("Expected no condition, as the flow has none; got one.")
        return None
    if condition is None:
        raise ValueError(f"Expected a condition whose last axes are {flow.cond_shape}; got none.")
    array = jnp.asarray(condition)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(float)
    rank = len(flow.cond_shape)
    if array.ndim < rank or array.shape[array.ndim - rank :] != flow.cond_shape:
        raise ValueError(
            f"Expected a condition whose last axes are {flow.cond_shape}; got shape {array.shape}."
        )
    return array


def _batch_shape(flow: AbstractDistribution, condition: Array | None) -> tuple[int, ...]:
    if flow.cond_shape is None or condition is None:
        return ()
    return jnp.shape(condition)[: jnp.ndim(condition) - len(flow.cond_shape)]


def typed_key(key: PRNGKeyArray | None) -> PRNGKeyArray:
    """The key as flowjax wants it: NumPyro's users still pass raw ones."""
    if key is None:
        raise ValueError("Expected a random key; got None.")
    return key if jnp.issubdtype(key.dtype, jax.dtypes.prng_key) else jr.wrap_key_data(key)
