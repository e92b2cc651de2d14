"""Whether a flow can stand for a model's latents at all."""

from collections.abc import Callable
from typing import Any

import jax
import jax.random as jr
from numpyro import handlers
from numpyro.infer.initialization import init_to_uniform


def check_latents(model: Callable[..., Any], *args: Any, **kwargs: Any) -> None:
    """Refuse a model without latents or with discrete ones; the model is traced, not run.

    Args:
        model: The NumPyro model.
        args: Its arguments.
        kwargs: Its named arguments.

    Raises:
        ValueError: If there is no latent, or a discrete one, which is named.
    """
    is_discrete: dict[str, bool] = {}

    def trace():
        # Latents may have an improper prior, from which nothing can be drawn.
        started = handlers.substitute(
            handlers.seed(model, jr.key(0)), substitute_fn=init_to_uniform
        )
        for name, site in handlers.trace(started).get_trace(*args, **kwargs).items():
            if site["type"] == "sample" and not site["is_observed"]:
                is_discrete[name] = site["fn"].support.is_discrete

    with handlers.block():
        jax.eval_shape(trace)
    for name, discrete in is_discrete.items():
        if discrete:
            raise ValueError(
                f"Expected continuous latents; got the discrete {name!r}. Sum it out of the "
                "model, or block it and give it a guide of its own."
            )
    if not is_discrete:
        raise ValueError("Expected a model with latents; got none, and nothing to learn.")
