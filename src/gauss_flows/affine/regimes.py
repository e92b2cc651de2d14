"""How the layers of an affine flow come by their rotations and their moments."""

import math
from typing import Any, Literal, NamedTuple

import jax.numpy as jnp
import jax.random as jr
import numpy as np
from flowjax.distributions import Transformed
from jaxtyping import PRNGKeyArray

from gauss_flows.affine.cross_fit import N_FOLDS, cross_fitted_gain, deal_folds, standardized
from gauss_flows.affine.gain import gain_and_rows
from gauss_flows.affine.growth import Growth, Made, grow
from gauss_flows.affine.layer import closed_form_coupling
from gauss_flows.affine.moments import MomentMethod, fit_conditional_moments
from gauss_flows.affine.states import Block, States, block_of
from gauss_flows.affine.subspace import Choice, choose_subspace
from gauss_flows.bijections.affine_coupling import AffineCoupling
from gauss_flows.bijections.conditioners import SiluMLP
from gauss_flows.bijections.fixed_rotation import FixedRotation
from gauss_flows.bijections.orthogonal import AbstractRotation, OrthogonalRotation
from gauss_flows.flows.assemble import flow_from_blocks
from gauss_flows.training import fit_gaussianization_flow

Rotations = Literal["oas", "random", "learned"]
Training = Literal["closed_form", "layerwise", "progressive", "end_to_end"]

# Layers that are trained together want a lower rate than one alone, and as many steps whatever the
# number of rows: progressive training comes back to all but the last layer. Few rows are seen no
# more often than the epochs say, which is when networks have learnt them by heart.
_RATE_TOGETHER = 5e-3
_STEPS_TOGETHER: dict[Training, int] = {"progressive": 2500, "end_to_end": 15_000}
_MOST_EPOCHS, _LEAST_STEPS = 300, 2000

# The log-scale that all layers of a flow trained as a whole share, and the least and the most of
# one: where each may stretch far, the first to do so leaves the others nothing to mend.
_LOG_SCALE_OF_ALL, _LEAST_LOG_SCALE, _MOST_LOG_SCALE = 24.0, 1.0, 5.0

# In more than two dimensions a layer's search climbs from one candidate, and not to the very top:
# the next layer looks again.
_STARTS, _STEPS = 1, 8


class Plan(NamedTuple):
    """How to build an affine flow; see `fit_affine_flow` for what the parts mean."""

    training: Training
    n_layers: int
    n_active: int
    rotations: Rotations
    step: float
    method: MomentMethod
    n_candidates: int
    networks: dict[str, Any]  # nn_width, nn_depth
    training_options: dict[str, Any]
    patience: int
    show_progress: bool


def build(key: PRNGKeyArray, fitted: States, held: States | None, plan: Plan) -> Growth:
    """Fit the blocks of a flow to standardised rows.

    Args:
        key: Random key.
        fitted: Rows to fit to.
        held: Rows that decide when to stop, or none.
        plan: How.

    Returns:
        The blocks and the record of their gains.
    """
    if plan.training == "end_to_end":
        return _end_to_end(key, fitted, held, plan)
    closed = plan.training == "closed_form"
    progressive = plan.training == "progressive"

    def make(layer_key: PRNGKeyArray, states: States) -> Made:
        rotation_key, network_key, training_key, fold_key = jr.split(layer_key, 4)
        rows = np.asarray(states.rows, np.float64)
        folds = deal_folds(len(rows), _seed(fold_key))
        choice = _rotation(rotation_key, rows, folds, plan)
        rotation = FixedRotation(choice.rotation)
        if closed:
            coupling, left_out = _closed_form(rotation, states, plan)
            gains = cross_fitted_gain(
                rows, folds, choice.without, plan.n_active, method=plan.method, step=plan.step
            )
            # What a layer seemed to do to rows that it was fitted without, too: the next one would
            # get the credit for undoing it.
            plain = left_out.log_probs() - states.log_probs()
            gains = min(gains, plain, key=np.mean)
            return Made(block_of(rotation, coupling), choice.gain, left_out, gains)
        block = block_of(rotation, _network(network_key, rotation.shape[0], plan))
        if not progressive:
            (block,) = _trained(training_key, [block], states.rows, plan)
        return Made(block, choice.gain)

    def refine(refine_key: PRNGKeyArray, blocks) -> list[Block]:
        return _trained(refine_key, blocks, fitted.rows, plan)

    growth = grow(
        key,
        fitted,
        held,
        make,
        refine if progressive else None,
        n_layers=plan.n_layers,
        patience=plan.patience,
        show_progress=plan.show_progress,
    )
    if growth.blocks:
        return growth
    # No layer is clearly better than none: one that changes nothing.
    n_dims = fitted.rows.shape[1]
    identity = block_of(FixedRotation(np.eye(n_dims)), _network(key, n_dims, plan))
    return growth._replace(blocks=[identity])


def _end_to_end(key, fitted: States, held: States | None, plan: Plan) -> Growth:
    rotations_key, networks_key, training_key = jr.split(key, 3)
    n_dims = fitted.rows.shape[1]
    blocks = [
        block_of(_mixing(rotation_key, n_dims, plan), _network(network_key, n_dims, plan))
        for rotation_key, network_key in zip(
            jr.split(rotations_key, plan.n_layers),
            jr.split(networks_key, plan.n_layers),
            strict=True,
        )
    ]
    blocks = _trained(training_key, blocks, fitted.rows, plan, show_progress=plan.show_progress)
    rises = [] if held is None else [held.through_all(blocks).gain_over(held)]
    return Growth(blocks, [], rises, stopped=False)


def _mixing(key: PRNGKeyArray, n_dims: int, plan: Plan) -> AbstractRotation:
    """A random rotation that passes at least an average share of what was active to the networks.

    One that leaves the passive subspace in its place makes two layers one.
    """
    n_passive = n_dims - plan.n_active
    average = n_passive * plan.n_active / n_dims
    while True:
        key, draw_key = jr.split(key)
        turn = FixedRotation.random(draw_key, n_dims)
        if float(jnp.sum(turn.matrix.tree[:n_passive, n_passive:] ** 2)) >= average:
            break
    if plan.rotations == "random":
        return turn
    return OrthogonalRotation.from_matrix(turn.matrix)


def _rotation(key, rows: np.ndarray, folds: np.ndarray, plan: Plan) -> Choice:
    """A layer's rotation, what Theorem 1 lets it gain there, and the rotations by other rows."""
    turn_key, seed_key = jr.split(key)
    seed = _seed(seed_key)
    if plan.rotations == "random":
        turn = np.asarray(FixedRotation.random(turn_key, rows.shape[1]).matrix.tree, np.float64)
        gain, _ = gain_and_rows(rows @ turn.T, plan.n_active, plan.method, seed)
        return Choice(turn, gain, np.stack([turn] * N_FOLDS))
    return choose_subspace(
        rows,
        plan.n_active,
        folds,
        n_candidates=plan.n_candidates,
        n_starts=_STARTS,
        max_steps=_STEPS,
        method=plan.method,
        random_state=seed,
    )


def _closed_form(
    rotation: FixedRotation, states: States, plan: Plan
) -> tuple[AffineCoupling, States]:
    """The layer, and where it would send each row had it been fitted without it.

    Were the rows sent on by the layer that has seen them, the next layers would be fitted to
    rows that lie closer to the normal than fresh ones.
    """
    y = np.asarray(states.rows @ rotation.matrix.tree.T, np.float64)
    n_passive = y.shape[1] - plan.n_active
    p, a = y[:, :n_passive], y[:, n_passive:]
    moments, rows = fit_conditional_moments(p, a, plan.method, random_state=0)
    moved = standardized(a, rows.left_out_mean, rows.left_out_log_variance, plan.step)
    left_out = States(
        jnp.asarray(np.hstack([p, moved.active]), states.rows.dtype),
        states.log_det + moved.log_det,
    )
    return closed_form_coupling(moments, step=plan.step), left_out


def _seed(key: PRNGKeyArray) -> int:
    return int(jr.randint(key, (), 0, np.iinfo(np.int32).max))


def _network(key: PRNGKeyArray, n_dims: int, plan: Plan) -> AffineCoupling:
    n_passive = n_dims - plan.n_active
    mask = np.arange(n_dims) < n_passive
    if plan.training != "end_to_end":
        return AffineCoupling(key, n_dims=n_dims, mask=mask, **plan.networks)
    network = SiluMLP(key, in_size=n_passive, out_size=2 * plan.n_active, **plan.networks)
    bound = float(np.clip(_LOG_SCALE_OF_ALL / plan.n_layers, _LEAST_LOG_SCALE, _MOST_LOG_SCALE))
    return AffineCoupling(key, n_dims=n_dims, mask=mask, conditioner=network, max_log_scale=bound)


def _trained(key, blocks, rows, plan: Plan, *, show_progress: bool = False) -> list[Block]:
    """The same blocks after training them together."""
    flow: Transformed = flow_from_blocks(blocks)
    options = dict(plan.training_options)
    if plan.training in _STEPS_TOGETHER:
        if options["learning_rate"] is None:
            options["learning_rate"] = _RATE_TOGETHER
        if options["max_epochs"] is None:
            n_batches = math.ceil(len(rows) / options["batch_size"])
            steps = min(_STEPS_TOGETHER[plan.training], _MOST_EPOCHS * n_batches)
            options["max_epochs"] = math.ceil(max(steps, _LEAST_STEPS) / n_batches)
    trained, _ = fit_gaussianization_flow(
        key, flow, jnp.asarray(rows), show_progress=show_progress, **options
    )
    # flow_from_blocks made it an inverted BlockChain, which the type of a flow does not say.
    chain = trained.bijection.bijection  # pyright: ignore[reportAttributeAccessIssue]
    return [tuple(block.bijections) for block in chain.blocks]
