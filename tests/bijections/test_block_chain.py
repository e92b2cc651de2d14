"""A scanned chain is the plain chain of its blocks, compiled once."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from flowjax.bijections import Chain

from bijections.registry import randomised
from gauss_flows import ActNorm, AffineCoupling, BlockChain, HouseholderRotation, MixtureGaussianCDF

N_DIMS = 2
X = jnp.asarray([0.7, -1.4])


def block(seed):
    rotation = HouseholderRotation(N_DIMS, key=jr.key(seed))
    return randomised(Chain([rotation, MixtureGaussianCDF(N_DIMS, 3)]), seed)


def conditional_block(seed):
    coupling = AffineCoupling(jr.key(seed), n_dims=N_DIMS, cond_dim=3, nn_width=4, nn_depth=1)
    return randomised(Chain([coupling, ActNorm(N_DIMS)]), seed)


BLOCKS = [block(seed) for seed in range(3)]


def test_is_the_plain_chain():
    chain, plain = BlockChain.from_blocks(BLOCKS), Chain(BLOCKS)
    for name in ("transform_and_log_det", "inverse_and_log_det"):
        found, expected = getattr(chain, name)(X), getattr(plain, name)(X)
        np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(found[1], expected[1], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(chain.inverse(chain.transform(X)), X, rtol=1e-5)


def test_order_matters_and_is_kept():
    forwards, backwards = (BlockChain.from_blocks(BLOCKS[::step]) for step in (1, -1))
    assert np.any(np.abs(forwards.transform(X) - backwards.transform(X)) > 1e-3)
    np.testing.assert_allclose(
        backwards.transform(X), Chain(BLOCKS[::-1]).transform(X), rtol=1e-5, atol=1e-6
    )


def test_layers_stay_reachable_in_data_order():
    chain = BlockChain.from_blocks(BLOCKS)
    assert chain.n_blocks == 3
    assert chain.shape == (N_DIMS,)
    layers = [layer for each in BLOCKS for layer in each.bijections]
    assert len(chain.bijections) == len(layers) == 6
    for found, layer in zip(chain.bijections, layers, strict=True):
        assert type(found) is type(layer)
        assert eqx.tree_equal(found, layer)
    assert all(
        eqx.tree_equal(found, each) for found, each in zip(chain.blocks, BLOCKS, strict=True)
    )
    again = BlockChain.from_blocks(chain.blocks)
    assert eqx.tree_equal(again, chain)


def test_intermediates_are_the_states_between_layers():
    chain = BlockChain.from_blocks(BLOCKS)
    states = chain.intermediates(X)
    assert len(states) == 7
    expected = X
    np.testing.assert_array_equal(states[0], X)
    for layer, state in zip(chain.bijections, states[1:], strict=True):
        expected = layer.transform(expected)
        np.testing.assert_allclose(state, expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(states[-1], chain.transform(X))


def test_gradients_are_the_plain_chains():
    def loss(bijection):
        z, log_det = bijection.transform_and_log_det(X)
        return jnp.sum(z**2) - log_det

    found = eqx.filter_grad(loss)(BlockChain.from_blocks(BLOCKS)).blocks
    expected = eqx.filter_jit(eqx.filter_grad(loss))(Chain(BLOCKS)).bijections
    pairs = zip(jax.tree.leaves(found), jax.tree.leaves(tuple(expected)), strict=True)
    for gradient, wanted in pairs:
        np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_conditional_blocks():
    blocks = [conditional_block(seed) for seed in range(2)]
    chain, plain = BlockChain.from_blocks(blocks), Chain(blocks)
    assert chain.cond_shape == (3,)
    condition = jnp.asarray([0.3, -1.0, 2.0])
    z, log_det = chain.transform_and_log_det(X, condition)
    expected = plain.transform_and_log_det(X, condition)
    np.testing.assert_allclose(z, expected[0], rtol=1e-5)
    np.testing.assert_allclose(log_det, expected[1], rtol=1e-5)
    np.testing.assert_allclose(chain.inverse(z, condition), X, rtol=1e-5)
    assert np.any(chain.transform(X, -condition) != z)
    np.testing.assert_allclose(chain.intermediates(X, condition)[-1], z, rtol=1e-6)


def test_one_block():
    chain = BlockChain.from_blocks(BLOCKS[:1])
    assert len(chain.bijections) == 2
    np.testing.assert_allclose(chain.transform(X), BLOCKS[0].transform(X), rtol=1e-5, atol=1e-6)


def test_blocks_that_differ_are_refused():
    with pytest.raises(ValueError, match="Expected at least one block; got none."):
        BlockChain.from_blocks([])
    other = Chain([ActNorm(N_DIMS), MixtureGaussianCDF(N_DIMS, 3)])
    with pytest.raises(ValueError, match="Expected blocks of one structure; got block 2 unlike"):
        BlockChain.from_blocks([*BLOCKS[:2], other])
    more = Chain([BLOCKS[0].bijections[0], MixtureGaussianCDF(N_DIMS, 4)])
    with pytest.raises(ValueError, match="got array shapes in block 1"):
        BlockChain.from_blocks([BLOCKS[0], more])
    masks = [
        Chain([AffineCoupling(jr.key(0), n_dims=2, nn_width=4, nn_depth=1, mask=mask)])
        for mask in ([True, False], [False, True])
    ]
    with pytest.raises(ValueError, match="Expected blocks of one structure; got block 1 unlike"):
        BlockChain.from_blocks(masks)
