"""A long batch in blocks, or narrow rows taken together, give what each row gives by itself."""

import functools

import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from gauss_flows.numerics import batching
from gauss_flows.numerics.gaussian_mixture import gaussianize, log_density

N_DIMS, N_COMPONENTS = 3, 4


@pytest.fixture
def blocks_of_a_few_rows(monkeypatch):
    seen = []
    run = jax.lax.map

    def counted(function, rows):
        seen.append(jax.tree.leaves(rows)[0].shape[:2])
        return run(function, rows)

    monkeypatch.setattr(batching.jax.lax, "map", counted)
    one_row = N_DIMS * N_COMPONENTS * 4
    for name in ("_ON_CPU", "_OFF_CPU"):
        monkeypatch.setattr(batching, name, batching._Block(16 * one_row, 32 * one_row))
    return seen


def batch(n, own):
    keys = jr.split(jr.key(0), 4)
    shape = (n, N_DIMS, N_COMPONENTS) if own else (N_DIMS, N_COMPONENTS)
    logits, means, log_scales = (jr.normal(key, shape) for key in keys[:3])
    return jr.normal(keys[3], (n, N_DIMS)), jax.nn.log_softmax(logits), means, 0.3 * log_scales


def everything(own, x, *mixture):
    """Values, gradients and a second derivative of every row."""
    axes = (0, *[0 if own else None] * 3)

    def loss(x, *mixture):
        z, log_det = jax.vmap(gaussianize, axes)(x, *mixture)
        return jnp.sum(jnp.sin(z) + z * log_det)

    def bend(x, *mixture):
        return jax.grad(lambda x: jnp.sum(jax.grad(log_density)(x, *mixture) ** 2))(x)

    over_coordinates = jax.vmap(bend)
    return (
        jax.vmap(gaussianize, axes)(x, *mixture),
        jax.grad(loss, (0, 1, 2, 3))(x, *mixture),
        jax.vmap(over_coordinates, axes)(x, *mixture),
    )


@pytest.mark.parametrize("n", [7, 32])
@pytest.mark.parametrize("event", [(), (1,), (2, 1)])
def test_one_value_may_serve_several_mixtures(n, event):
    _, *mixture = batch(1, own=False)
    x = jr.normal(jr.key(5), (n, *event))

    def total(x):
        return jnp.sum(gaussianize(x, *mixture)[0] ** 2)

    found = jax.jit(jax.vmap(jax.grad(total)))(x)
    # The same values, each given to every mixture by itself.
    wide = jnp.broadcast_to(x.reshape(n, -1, 1), (n, x[0].size, N_DIMS))
    each = jax.jit(jax.vmap(jax.vmap(jax.grad(total))))(wide)
    assert found.shape == x.shape
    np.testing.assert_allclose(found.reshape(n, -1), each.sum(-1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("n", "n_blocks", "own"),
    [(32, None, False), (37, (3, 13), False), (96, (6, 16), False), (37, (3, 13), True)],
    ids=["few", "unequal", "equal", "own"],
)
def test_blocks_make_no_difference(blocks_of_a_few_rows, n, n_blocks, own):
    seen = blocks_of_a_few_rows
    arguments = batch(n, own)
    found = jax.jit(functools.partial(everything, own))(*arguments)
    # Blocks where there are enough rows for them, of equal size where the rows can be so parted.
    assert set(seen) == (set() if n_blocks is None else {n_blocks})
    with pytest.MonkeyPatch.context() as context:
        for name in ("_ON_CPU", "_OFF_CPU"):
            context.setattr(batching, name, batching._Block(2**16, 2**40))
        context.setattr(batching, "_NARROW", 0)
        expected = jax.jit(functools.partial(everything, own))(*arguments)
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-4)
