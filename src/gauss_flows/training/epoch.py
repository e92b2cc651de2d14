"""One epoch of likelihood training as one compiled call."""

import math
from typing import NamedTuple, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import paramax
from jaxtyping import Array, Float, Int, PyTree

from gauss_flows.training.static_optimizer import StaticOptimizer

AnyArray: TypeAlias = Array | np.ndarray


class Rows(NamedTuple):
    """A table, of numpy arrays or on the device.

    Args:
        x: The data, of shape (n, d).
        condition: The conditioning variables, of shape (n, c), or None.
        weight: The rows' weights, of shape (n,) and mean 1.
    """

    x: AnyArray
    condition: AnyArray | None
    weight: AnyArray

    def take(self, rows: AnyArray) -> "Rows":
        """The rows at these positions."""
        return jax.tree.map(lambda column: column[rows], self)

    def where(self, present: AnyArray) -> "Rows":
        """The same rows, those that are not present without weight."""
        return self._replace(weight=self.weight * present)


class TrainingState(NamedTuple):
    """What one step changes: the trainable part of the flow and the optimizer's state."""

    params: PyTree
    opt_state: PyTree


class EpochReport(NamedTuple):
    """What an epoch tells the host.

    Args:
        train: Mean loss of the steps, in nats.
        selection: Loss of the evaluation rows after the last step, in nats.
        failed_step: Position of the step whose loss or gradient was not finite, or -1.
        failed_loss: The last step's loss.
    """

    train: Float[Array, ""]
    selection: Float[Array, ""]
    failed_step: Int[Array, ""]
    failed_loss: Float[Array, ""]


def split_trainable(flow: PyTree) -> tuple[PyTree, PyTree]:
    """The floating arrays that training moves, and all else.

    Arrays under ``paramax.NonTrainable`` are among "all else". ``eqx.combine`` puts the
    two back together.
    """
    return eqx.partition(
        flow,
        eqx.is_inexact_array,
        is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable),
    )


class Deal(NamedTuple):
    """Which rows make up which batch.

    Args:
        rows: Positions in the table, of shape (n_batches, width) and dtype int32.
        present: Whether a position counts or only fills up its batch, of the same shape.
    """

    rows: AnyArray
    present: AnyArray


def count_batches(n_rows: int, batch_size: int) -> int:
    """How many batches hold every row once, none larger than ``batch_size``."""
    return math.ceil(n_rows / batch_size)


def deal_rows(order: np.ndarray, n_batches: int) -> Deal:
    """Deal rows out as cards are dealt, so that batch sizes differ by at most one.

    Args:
        order: The rows' positions, of shape (n,), in the order in which they are dealt.
        n_batches: Number of batches, at most n.

    Returns:
        The deal. Batches that are one row short are filled up with a row that does not
        count.

    Example:
        >>> deal_rows(np.arange(5), 2).present.tolist()
        [[True, True, True], [True, True, False]]
    """
    n_rows = len(order)
    width = math.ceil(n_rows / n_batches)
    rows = np.resize(order, n_batches * width).reshape(width, n_batches).T
    present = (np.arange(n_batches * width) < n_rows).reshape(width, n_batches).T
    return Deal(rows.astype(np.int32), present)


@eqx.filter_jit
def start_training(params: PyTree, optimizer: StaticOptimizer) -> TrainingState:
    """The state before the first step."""
    # Weakly typed arrays would become ordinary ones in the first epoch and make the
    # second one compile again.
    params = jax.tree.map(lambda a: jax.lax.convert_element_type(a, a.dtype), params)
    opt_state = jax.tree.map(jnp.asarray, optimizer.optimizer.init(params))
    return TrainingState(params, opt_state)


@eqx.filter_jit
def run_epoch(
    state: TrainingState,
    static: PyTree,
    train: Rows,
    evaluation: Rows,
    deal: Deal,
    step_sizes: Float[AnyArray, " n_batches"],
    n_active: Int[AnyArray, ""],
    clip_norm: Float[AnyArray, ""],
    optimizer: StaticOptimizer,
) -> tuple[TrainingState, EpochReport]:
    """Take a step on every batch, then evaluate.

    Args:
        state: The state to start from.
        static: What training leaves alone.
        train: The training rows.
        evaluation: The rows whose loss is reported at the end, in batches.
        deal: Which training rows make up which batch.
        step_sizes: Factor on each step's update.
        n_active: Number of steps to take.
        clip_norm: Gradients of larger global norm are scaled down to it.
        optimizer: The optimizer.

    Returns:
        The state after the last step and the report. A step whose loss or gradient is
        not finite is the last; the state is then of no use.
    """
    n_batches = deal.rows.shape[0]
    share = len(train.x) / n_batches

    def goes_on(carry):
        position, _, _, _, healthy = carry
        return healthy & (position < n_active)

    def step(carry):
        position, state, total, _, _ = carry
        batch = train.take(deal.rows[position]).where(deal.present[position])
        loss, gradient = eqx.filter_value_and_grad(_batch_loss)(state.params, static, batch, share)
        norm = _global_norm(gradient)
        factor = jnp.where(norm > clip_norm, clip_norm / norm, 1.0)
        gradient = jax.tree.map(lambda g: (g * factor).astype(g.dtype), gradient)
        updates, opt_state = optimizer.optimizer.update(
            gradient, state.opt_state, state.params, value=loss
        )
        updates = jax.tree.map(lambda u: u * step_sizes[position], updates)
        new = TrainingState(optax.apply_updates(state.params, updates), opt_state)
        new = jax.tree.map(_as_before, new, state)
        loss = loss.astype(total.dtype)
        healthy = jnp.isfinite(loss) & jnp.isfinite(norm)
        return position + 1, new, total + loss, loss, healthy

    zero = jnp.zeros((), step_sizes.dtype)
    position, state, total, last, healthy = jax.lax.while_loop(
        goes_on, step, (jnp.array(0), state, zero, zero, jnp.array(True))
    )
    report = EpochReport(
        train=total / jnp.maximum(position, 1),
        selection=_mean_loss(state.params, static, evaluation),
        failed_step=jnp.where(healthy, -1, position - 1),
        failed_loss=last,
    )
    return state, report


def _batch_loss(params: PyTree, static: PyTree, batch: Rows, share: float) -> Float[Array, ""]:
    """Minus the weighted log-likelihood of a batch, per row of an average batch.

    Dividing by the same number in every batch makes the mean over an epoch's batches the
    mean over the rows, whatever the weights and however the rows were dealt.
    """
    flow = eqx.combine(params, static)
    log_prob = flow.log_prob(batch.x, batch.condition)
    # Rows that only fill up a batch must not bring in a 0 * inf.
    return -jnp.where(batch.weight > 0, batch.weight * log_prob, 0).sum() / share


def _mean_loss(params: PyTree, static: PyTree, batches: Rows) -> Float[Array, ""]:
    """Weighted mean loss of a table, a batch at a time so that memory stays bounded."""
    sums = jax.lax.map(lambda batch: _batch_loss(params, static, batch, 1.0), batches)
    return sums.sum() / batches.weight.sum()


def _as_before(after: Array, before: Array) -> Array:
    """Keep the old dtype: an optimizer may promote its state."""
    return after if after.dtype == before.dtype else after.astype(before.dtype)


def _global_norm(tree: PyTree) -> Float[Array, ""]:
    """Euclidean norm over all leaves, which overflows only where the norm itself does."""
    leaves = jax.tree.leaves(tree)
    largest = jnp.max(jnp.stack([jnp.max(jnp.abs(leaf), initial=0) for leaf in leaves]))
    scale = jnp.where(largest > 0, largest, 1)
    return scale * jnp.sqrt(sum(jnp.sum(jnp.square(leaf / scale)) for leaf in leaves))
