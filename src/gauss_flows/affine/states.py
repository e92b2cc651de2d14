"""Rows on their way through a flow that is being built block by block."""

from collections.abc import Sequence
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection, Chain
from jaxtyping import Array, Float
from paramax import non_trainable, unwrap

from gauss_flows.bijections.actnorm import ActNorm
from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.orthogonal import AbstractRotation
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.numerics.normal import LOG_SQRT_2PI

_ROWS_AT_ONCE = 65_536

Block = tuple[AbstractBijection, ...]


class States(NamedTuple):
    """Where rows have come to.

    Args:
        rows: Their states, shape (n, d).
        log_det: Log-determinants of the way there in nats, shape (n,).
    """

    rows: Float[Array, "n d"]
    log_det: Float[np.ndarray, " n"]

    @classmethod
    def of(cls, x: Float[Array, "n d"]) -> "States":
        """Rows that have not moved yet."""
        return cls(x, np.zeros(len(x)))

    def through(self, block: Block) -> "States":
        """Their states after a block."""
        parts = [
            _pushed(Chain(list(block)), self.rows[start : start + _ROWS_AT_ONCE])
            for start in range(0, len(self.rows), _ROWS_AT_ONCE)
        ]
        rows = jnp.concatenate([part[0] for part in parts])
        change = np.concatenate([np.asarray(part[1], np.float64) for part in parts])
        return States(rows, self.log_det + change)

    def through_all(self, blocks: Sequence[Block]) -> "States":
        """Their states after several blocks."""
        states = self
        for block in blocks:
            states = states.through(block)
        return states

    def log_probs(self) -> Float[np.ndarray, " n"]:
        """Log-density of each row, the states taken for standard normal, in nats."""
        rows = np.asarray(self.rows, np.float64)
        with np.errstate(over="ignore"):
            quadratic = 0.5 * np.sum(rows**2, axis=1)
        return self.log_det - quadratic - rows.shape[1] * LOG_SQRT_2PI

    def gain_over(self, before: "States") -> Estimate:
        """Mean log-density gained since another state, in nats."""
        return Estimate.of_mean(self.log_probs() - before.log_probs())


def block_of(rotation: AbstractRotation, coupling: AffineCoupling) -> Block:
    """One block of an affine flow.

    Args:
        rotation: The rotation.
        coupling: The coupling behind it.

    Returns:
        The layers in data order. The first changes nothing and is not trained: it keeps the
        place of what standardises the data, since all blocks of a flow have one structure.
    """
    return non_trainable(ActNorm(rotation.shape[0])), rotation, coupling


@eqx.filter_jit
def _pushed(chain: Chain, rows: Array) -> tuple[Array, Array]:
    return jax.vmap(unwrap(chain).transform_and_log_det)(rows)
