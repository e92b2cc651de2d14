"""A flow as a guide for stochastic variational inference."""

from collections.abc import Callable, Mapping
from typing import Any, cast, get_args

import jax
import jax.numpy as jnp
import jax.random as jr
import numpyro
from flowjax.distributions import AbstractTransformed, StandardNormal
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray
from numpyro.distributions import Distribution, Normal
from numpyro.distributions.transforms import IndependentTransform, biject_to
from numpyro.infer.autoguide import AutoContinuous
from numpyro.infer.initialization import init_to_uniform

from gauss_flows.flows import gaussianization_flow
from gauss_flows.numpyro.flow_dist import FlowDist, typed_key
from gauss_flows.numpyro.flow_transform import FlowTransform
from gauss_flows.numpyro.latents import check_latents
from gauss_flows.numpyro.parameters import registered, with_arrays
from gauss_flows.numpyro.path_gradient import PathGradientFlowDist, is_steady
from gauss_flows.numpyro.posterior_flow import Sampling, check_flow, posterior_flow

FlowFactory = Callable[..., AbstractTransformed]


class FlowGuide(AutoContinuous):
    r"""A guide whose posterior of all latents together is a flow.

    $$x = m + e^{s} \odot L U\, T_\theta(\varepsilon), \quad \varepsilon \sim N(0, I), \qquad
    \text{latents} = \mathrm{biject}(x).$$

    It is used as NumPyro's own guides are: `SVI` learns m, s, LU and the flow's θ by the gradient
    through the draw, which for a root find is the implicit function theorem's; latents come
    under their own names and in their supports, and `Predictive`, `NeuTraReparam` and the
    methods below take the parameters that `SVI.get_params` gives. These are plain arrays, one
    for each name.

    Args:
        model: A NumPyro model whose latents are all continuous.
        flow: What makes T: a factory of this library, called with a key and ``n_dims``; set its
            sizes with `functools.partial`. Or a ready flow of as many coordinates as the latents
            have, unconstrained, which is then the whole map, without m, s and LU.
        sampling: The direction in which a fresh flow's layers run. ``"inverse"``, as in data:
            draws find roots and the density is that of mixtures, which stays smooth.
            ``"analytic"``: layers run from ε to x. Draws need no root find, which makes steps
            cheaper where the gradient has the score, and dearer where it has not, as the density
            then finds the roots; the first thousands of steps bring less.
        path_gradient: Leave the score, whose mean is 0, out of the gradient. The noise then goes
            to 0 as the guide nears the posterior. Made for the plain ELBO; with importance-weighted
            objectives, such as `RenyiELBO`, it is biased. By default on for flows without
            networks, and off for couplings, whose steep slopes it suffers from.
        prefix: What the names of parameters and auxiliary sites start with.
        init_loc_fn: Where m starts, one of NumPyro's ``init_to_...`` functions.
        init_scale: Where eˢ starts.
        options: What else `numpyro.infer.autoguide.AutoContinuous` takes.

    Raises:
        ValueError: If the flow is no flow or factory, an option is unknown, or, at the first
            call, the flow does not fit the model's latents.

    References:
        Rezende & Mohamed (2015), *Variational Inference with Normalizing Flows*; Kucukelbir,
        Tran, Ranganath, Gelman & Blei (2017), *Automatic Differentiation Variational Inference*.

    Example:
        >>> import jax.random as jr
        >>> import numpyro
        >>> import numpyro.distributions as dist
        >>> from numpyro.infer import SVI, Trace_ELBO
        >>> from gauss_flows.numpyro import FlowGuide
        >>> def model():
        ...     scale = numpyro.sample("scale", dist.Gamma(2.0, 2.0))
        ...     numpyro.sample("x", dist.Normal(0.0, scale))
        >>> guide = FlowGuide(model)
        >>> svi = SVI(model, guide, numpyro.optim.Adam(1e-3), Trace_ELBO())
        >>> params = svi.run(jr.key(0), 20, progress_bar=False).params
        >>> draws = guide.sample_posterior(jr.key(1), params, sample_shape=(100,))
        >>> bool((draws["scale"] > 0).all()), guide.get_flow(params).shape
        (True, (2,))
    """

    def __init__(
        self,
        model: Callable[..., Any],
        flow: FlowFactory | AbstractTransformed = gaussianization_flow,
        *,
        sampling: Sampling = "inverse",
        path_gradient: bool | None = None,
        prefix: str = "auto",
        init_loc_fn: Callable[..., Any] = init_to_uniform,
        init_scale: float = 0.1,
        **options: Any,
    ):
        if not (isinstance(flow, AbstractTransformed) or callable(flow)):
            raise ValueError(
                "Expected a flow or a factory of flows, such as gaussianization_flow; got "
                f"{type(flow).__name__}."
            )
        if sampling not in get_args(Sampling):
            raise ValueError(
                f"Expected sampling to be one of {get_args(Sampling)}; got {sampling!r}."
            )
        try:
            is_positive = bool(float(init_scale) > 0) and not isinstance(init_scale, str)
        except (TypeError, ValueError):
            is_positive = False
        if not is_positive:
            raise ValueError(f"Expected init_scale > 0, a number; got {init_scale!r}.")
        self._flow = flow
        self._sampling: Sampling = sampling
        self._path_gradient = path_gradient
        self._init_scale = init_scale
        self._start: AbstractTransformed | None = None
        super().__init__(model, prefix=prefix, init_loc_fn=init_loc_fn, **options)

    def _setup_prototype(self, *args, **kwargs):
        check_latents(self.model, *args, **kwargs)
        super()._setup_prototype(*args, **kwargs)
        shapes = {name: jnp.shape(loc) for name, loc in self._init_locs.items()}
        if isinstance(self._flow, AbstractTransformed):
            check_flow(self._flow, shapes)
            self._start = self._flow
        else:
            flow = self._flow(typed_key(numpyro.prng_key()), n_dims=self.latent_dim)
            check_flow(flow, shapes)
            self._start = posterior_flow(flow, self._init_latent, self._init_scale, self._sampling)
        if self._path_gradient is None:
            self._path_gradient = is_steady(self._start)

    def _get_posterior(self) -> FlowDist:
        flow = registered(f"{self.prefix}_flow", self._start_flow())
        return PathGradientFlowDist(flow) if self._path_gradient else FlowDist(flow)

    def _start_flow(self) -> AbstractTransformed:
        if self._start is None:
            raise ValueError(
                "Expected a guide that has met its model, by SVI's init or run; got a new one."
            )
        return self._start

    def get_flow(self, params: Mapping[str, ArrayLike]) -> AbstractTransformed:
        """The learnt flow.

        Args:
            params: Parameters, as `SVI.get_params` gives them.

        Returns:
            An ordinary flow, of the latents in their unconstrained space, raveled and joined in
            the order of their names in the model's trace; `gauss_flows.save` writes it.

        Raises:
            ValueError: If a parameter is missing or has another shape, or the guide has not met
                its model.
        """
        return with_arrays(f"{self.prefix}_flow", self._start_flow(), params)

    def get_posterior(self, params: Mapping[str, ArrayLike]) -> FlowDist:
        """The learnt flow as a distribution of the unconstrained latents.

        Args:
            params: Parameters, as `SVI.get_params` gives them.
        """
        return FlowDist(self.get_flow(params))

    def get_base_dist(self) -> Distribution:
        """N(0, I), which `get_transform` takes to the unconstrained latents."""
        return Normal(jnp.zeros(self.latent_dim), 1.0).to_event(1)

    def get_transform(self, params: Mapping[str, ArrayLike]) -> FlowTransform:
        """The map from N(0, I) to the unconstrained latents, as `NeuTraReparam` needs it.

        Args:
            params: Parameters, as `SVI.get_params` gives them.

        Raises:
            NotImplementedError: If the flow was given with another base than a normal one.
        """
        flow = self.get_flow(params).merge_transforms()
        if not isinstance(flow.base_dist, StandardNormal):
            raise NotImplementedError(
                f"Expected a flow of a normal base; got {type(flow.base_dist).__name__}."
            )
        return FlowTransform(flow.bijection)

    def median(
        self,
        params: Mapping[str, ArrayLike],
        *,
        rng_key: PRNGKeyArray | None = None,
        n_draws: int = 10_000,
    ) -> dict[str, Float[Array, "..."]]:
        """The median of every element of every latent; see `quantiles`."""
        return self.quantiles(params, 0.5, rng_key=rng_key, n_draws=n_draws)

    def quantiles(
        self,
        params: Mapping[str, ArrayLike],
        quantiles: ArrayLike,
        *,
        rng_key: PRNGKeyArray | None = None,
        n_draws: int = 10_000,
    ) -> dict[str, Float[Array, "..."]]:
        r"""Marginal quantiles of every element of every latent, from draws.

        A flow's marginals have no closed form. The quantile at p has a standard error of
        $\sqrt{p (1 - p) / n}$ in probability. Where a support couples its elements, as a simplex
        does, quantiles are taken in the unconstrained space, so that they lie in the support.

        Args:
            params: Parameters, as `SVI.get_params` gives them.
            quantiles: One level in (0, 1), or several.
            rng_key: Random key of the draws; a fixed one by default.
            n_draws: Number of draws n.

        Returns:
            By name, arrays of shape (*levels, *shape of the latent).

        Raises:
            ValueError: If a level is not in (0, 1).
        """
        key = jr.key(0) if rng_key is None else rng_key
        levels = _levels(quantiles)
        latents = self.get_posterior(params).sample(key, (n_draws,))

        def constrained(latent):
            return self._unpack_and_constrain(latent, params)

        of_draws = {
            name: jnp.quantile(values, levels, axis=0)
            for name, values in jax.vmap(constrained)(latents).items()
        }
        of_levels = constrained(jnp.quantile(latents, levels, axis=0))
        return {
            name: of_levels[name] if self._is_coupled(name) else values
            for name, values in of_draws.items()
        }

    def _is_coupled(self, name: str) -> bool:
        """Whether a latent's support couples the elements of one event."""
        site = cast(dict[str, dict], self.prototype_trace)[name]
        if site["type"] != "sample":
            return False
        transform = biject_to(site["fn"].support)
        while isinstance(transform, IndependentTransform):
            transform = transform.base_transform
        return transform.domain.event_dim > 0


def _levels(quantiles: ArrayLike) -> Array:
    try:
        levels = jnp.asarray(quantiles, float)
    except (TypeError, ValueError):
        levels = jnp.array(jnp.nan)
    # Inside a jitted function there are no values to look at.
    if not isinstance(levels, Tracer) and not bool(jnp.all((levels > 0) & (levels < 1))):
        raise ValueError(f"Expected quantiles in (0, 1); got {quantiles!r}.")
    return levels
