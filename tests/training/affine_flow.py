"""A flow whose maximum likelihood is known, and what its tests share."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
from flowjax.bijections import Affine
from flowjax.distributions import Normal, Transformed

QUIET = {"show_progress": False}


def standard_normal(n_dims):
    return paramax.non_trainable(Normal(jnp.zeros(n_dims), jnp.ones(n_dims)))


def affine_flow(n_dims=2):
    """Its maximum likelihood is the rows' mean and standard deviation."""
    return Transformed(standard_normal(n_dims), Affine(jnp.zeros(n_dims), jnp.ones(n_dims)))


def rows(n, n_dims=2, seed=0):
    scales = 1.0 + np.arange(n_dims)
    return np.random.default_rng(seed).normal(size=(n, n_dims)) * scales + 3.0


def advance_by_one():
    """An optimizer that adds 1 to every parameter, and so counts its steps."""
    return optax.GradientTransformation(
        lambda params: optax.EmptyState(),
        lambda updates, state, params=None: (jax.tree.map(jnp.ones_like, updates), state),
    )
