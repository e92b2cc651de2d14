"""Rows pushed in blocks are rows pushed at once."""

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from gauss_flows.bijections import MixtureGaussianCDF, MixtureGaussianCDFCoupling
from gauss_flows.rbig import _push
from gauss_flows.rbig._push import push


@pytest.mark.parametrize("n", [1, 31, 32, 33, 100])
def test_blocks_make_no_difference(precision, monkeypatch, n):
    monkeypatch.setattr(_push, "_CPU_ELEMENTS", 48)  # sixteen rows of three
    monkeypatch.setattr(_push, "_ELEMENTS", 48)
    x = jr.normal(jr.key(0), (n, 3))
    layer = MixtureGaussianCDF(3, 4)
    z, log_det = push(layer, x)
    z_once, log_det_once = jax.vmap(layer.transform_and_log_det)(x)
    assert (z.shape, log_det.shape) == ((n, 3), (n,))
    assert np.allclose(z, z_once, atol=1e-6)
    assert np.allclose(log_det, log_det_once, atol=1e-5)


def test_conditions_stay_with_their_rows(monkeypatch):
    monkeypatch.setattr(_push, "_CPU_ELEMENTS", 48)
    monkeypatch.setattr(_push, "_ELEMENTS", 48)

    def conditioner(inputs):
        return jnp.tile(inputs[-1], 2 * 3 * 2)

    layer = MixtureGaussianCDFCoupling(
        jr.key(0), n_dims=3, n_components=2, cond_dim=1, conditioner=conditioner
    )
    x, condition = jr.normal(jr.key(1), (100, 3)), jr.normal(jr.key(2), (100, 1))
    z, _ = push(layer, x, condition)
    assert np.allclose(z, jax.vmap(layer.transform)(x, condition), atol=1e-5)
