"""Every exported bijection with random parameters, never the identity."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from flowjax.bijections import AbstractBijection, Chain
from paramax import NonTrainable

import gauss_flows.bijections as layers

N_DIMS = 3
COND_DIM = 2
NOT_BIJECTIONS = {"MLP", "ResidualMLP", "SharedMLP", "SiluMLP"}
SMALL = {"n_dims": N_DIMS, "nn_width": 6, "nn_depth": 1}


class Entry(NamedTuple):
    """One layer to test: its exported name, how it is made, and its condition's width."""

    name: str
    make: Callable[[], AbstractBijection]
    cond_dim: int | None = None
    variant: str = ""

    @property
    def label(self) -> str:
        """What the test calls it."""
        return f"{self.name}-{self.variant}" if self.variant else self.name


def is_fixed(leaf) -> bool:
    """Whether training leaves this part of a tree alone."""
    return isinstance(leaf, NonTrainable)


def randomised(layer: AbstractBijection, seed: int = 0, scale: float = 0.15) -> AbstractBijection:
    """The layer with noise on every trainable array."""
    leaves, structure = jax.tree.flatten(layer, is_leaf=is_fixed)
    moved = [
        leaf + scale * jr.normal(key, leaf.shape, leaf.dtype)
        if eqx.is_inexact_array(leaf)
        else leaf
        for leaf, key in zip(leaves, jr.split(jr.key(seed), len(leaves)), strict=True)
    ]
    return jax.tree.unflatten(structure, moved)


def _block(seed: int) -> Chain:
    rotation = layers.HouseholderRotation(N_DIMS, key=jr.key(seed))
    coupling = layers.AffineCoupling(jr.key(seed), cond_dim=COND_DIM, **SMALL)
    return randomised(Chain([rotation, coupling]), seed)


def _coupling(cls, **options) -> AbstractBijection:
    return randomised(cls(jr.key(0), **SMALL, **options))


def _with_conditioner(network: str) -> AbstractBijection:
    sizes = {"in_size": 1, "nn_width": 6, "nn_depth": 2}
    if network == "SharedMLP":
        conditioner = layers.SharedMLP(jr.key(1), n_coordinates=2, n_params=2, **sizes)
    else:
        conditioner = layers.ResidualMLP(jr.key(1), out_size=4, **sizes)
    return _coupling(layers.AffineCoupling, conditioner=conditioner)


def _rotation(**options) -> AbstractBijection:
    return randomised(layers.OrthogonalRotation(N_DIMS, key=jr.key(0), **options))


def _rosenblatt(cond_dim: int | None) -> AbstractBijection:
    n_all = N_DIMS + (cond_dim or 0)
    keys = jr.split(jr.key(0), 4)
    # Regressions that differ open gaps between components as wide as x is far, and there the map
    # is flat to the last bit: with a condition, one of the far points would lie in such a gap.
    n_slopes = 3 if cond_dim is None else 1
    slopes = 0.5 * jr.normal(keys[2], (n_slopes, n_all, n_all))
    return layers.MixtureRosenblatt(
        0.5 * jr.normal(keys[0], (3,)),
        jr.normal(keys[1], (3, n_all)),
        jnp.broadcast_to(slopes, (3, n_all, n_all)),
        0.3 * jr.normal(keys[3], (3, n_all)),
        cond_dim=cond_dim,
    )


COUPLINGS = {
    "AffineCoupling": {},
    "DeepSigmoidCoupling": {"n_components": 3},
    "MixtureGaussianCDFCoupling": {"n_components": 3},
    "RQSplineCoupling": {"n_bins": 4},
    "ResidualCoupling": {"n_units": 4},
}

REGISTRY = (
    Entry("ActNorm", lambda: randomised(layers.ActNorm(N_DIMS))),
    Entry(
        "BlockChain",
        lambda: layers.BlockChain.from_blocks([_block(0), _block(1)]),
        COND_DIM,
    ),
    Entry("FixedRotation", lambda: layers.FixedRotation.random(jr.key(0), N_DIMS)),
    Entry("HouseholderRotation", lambda: layers.HouseholderRotation(N_DIMS, key=jr.key(0))),
    Entry("LULinearPermute", lambda: randomised(layers.LULinearPermute(N_DIMS, key=jr.key(0)))),
    Entry("MixtureGaussianCDF", lambda: randomised(layers.MixtureGaussianCDF(N_DIMS, 3))),
    Entry("MixtureLogisticCDF", lambda: randomised(layers.MixtureLogisticCDF(N_DIMS, 3))),
    Entry("MixtureRosenblatt", lambda: _rosenblatt(None)),
    Entry("MixtureRosenblatt", lambda: _rosenblatt(COND_DIM), COND_DIM, variant="given"),
    Entry("OrthogonalRotation", lambda: _rotation(method="cayley"), variant="cayley"),
    Entry(
        "OrthogonalRotation",
        lambda: _rotation(method="exponential", reflect=True),
        variant="exponential",
    ),
    Entry(
        "RQSplineMarginal", lambda: randomised(layers.RQSplineMarginal(N_DIMS, n_bins=4), 0, 0.5)
    ),
    *(
        Entry(
            name,
            lambda name=name, options=options: _coupling(
                getattr(layers, name), cond_dim=COND_DIM, mask=[True, False, True], **options
            ),
            COND_DIM,
        )
        for name, options in COUPLINGS.items()
    ),
    *(
        Entry("AffineCoupling", lambda network=network: _with_conditioner(network), None, network)
        for network in ("SharedMLP", "ResidualMLP")
    ),
)
