"""Flows whose truth is known, cheap to compile, and layers that are broken on purpose."""

from typing import ClassVar

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection, AdditiveCondition, Chain, Invert
from flowjax.distributions import MultivariateNormal, Normal, StandardNormal, Transformed

import gauss_flows as gf

RHO = 0.8
COVARIANCE = np.array([[1.0, RHO], [RHO, 1.0]])
TOTAL_CORRELATION = -0.5 * np.log(1 - RHO**2)


def correlated_normal():
    """N(0, Σ) as a flow."""
    return MultivariateNormal(jnp.zeros(2), jnp.asarray(COVARIANCE))


def correlated_rows(n, seed=0):
    return np.random.default_rng(seed).multivariate_normal([0, 0], COVARIANCE, size=n)


def curve(condition):
    return jnp.sin(condition)


def regression():
    """x given c is N(sin c, ½²)."""
    shifted = AdditiveCondition(curve, (1,), (1,))
    scaled = eqx.tree_at(lambda one: one.log_scale, gf.ActNorm(1), jnp.log(jnp.array([0.5])))
    return Transformed(StandardNormal((1,)), Invert(Chain([Invert(shifted), scaled])))


def regression_rows(n, seed=0, spread=0.5):
    rng = np.random.default_rng(seed)
    c = rng.normal(size=(n, 1))
    return np.sin(c) + spread * rng.normal(size=(n, 1)), c


class _Doubling(AbstractBijection):
    """y = 2 x in two dimensions, right in every respect."""

    shape: tuple[int, ...] = (2,)
    cond_shape: ClassVar[None] = None

    def transform_and_log_det(self, x, condition=None):
        return 2 * x, jnp.asarray(2 * np.log(2.0))

    def inverse_and_log_det(self, y, condition=None):
        return y / 2, jnp.asarray(-2 * np.log(2.0))


class Doubling(_Doubling):
    pass


class WrongLogDet(_Doubling):
    """Wrong by the same there and back: only the Jacobian tells."""

    def transform_and_log_det(self, x, condition=None):
        return 2 * x, jnp.asarray(np.log(2.0))

    def inverse_and_log_det(self, y, condition=None):
        return y / 2, jnp.asarray(-np.log(2.0))


class WrongSign(_Doubling):
    """The inverse's log-determinant is the transform's."""

    def inverse_and_log_det(self, y, condition=None):
        return y / 2, jnp.asarray(2 * np.log(2.0))


class WrongInverse(_Doubling):
    """The inverse is off where y is large."""

    def inverse_and_log_det(self, y, condition=None):
        return jnp.where(y > 6.0, y / 2 + 1e-3, y / 2), jnp.asarray(-2 * np.log(2.0))


class FailingInverse(_Doubling):
    """The inverse says that it found none."""

    def inverse_and_log_det(self, y, condition=None):
        return jnp.where(y > 6.0, jnp.nan, y / 2), jnp.asarray(-2 * np.log(2.0))


def with_layer(layer):
    """A flow of three layers, the given one in the middle."""
    turn = gf.FixedRotation(np.array([[0.6, 0.8], [-0.8, 0.6]]))
    return Transformed(Normal(jnp.zeros(2)), Invert(Chain([gf.ActNorm(2), layer, turn])))
