"""Maximum-likelihood training of a flow."""

import os
import warnings
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from flowjax.distributions import AbstractDistribution
from jaxtyping import ArrayLike, Float, PRNGKeyArray

from gauss_flows.training.checkpoint import CheckpointFolder, Progress, describe_run
from gauss_flows.training.epoch import (
    Rows,
    count_batches,
    deal_rows,
    split_trainable,
    start_training,
)
from gauss_flows.training.inputs import (
    check_count,
    check_optimizer,
    check_rows,
    check_settings,
)
from gauss_flows.training.loop import Run, train
from gauss_flows.training.schedule import learning_rates
from gauss_flows.training.split import seeds_of, split_rows
from gauss_flows.training.static_optimizer import StaticOptimizer

_PEAK_RATE = 1e-2
_ADAM = optax.scale_by_adam()

Flow = TypeVar("Flow", bound=AbstractDistribution)


class TrainingStoppedWarning(UserWarning):
    """Training ended early, on a value that is not finite or by the user's hand.

    Example:
        >>> import warnings
        >>> import jax.random as jr, optax
        >>> from gauss_flows import gaussianization_flow
        >>> flow = gaussianization_flow(jr.key(0), n_dims=1, n_layers=1)
        >>> options = {"optimizer": optax.sgd(1e30), "clip_norm": None, "show_progress": False}
        >>> with warnings.catch_warnings():
        ...     warnings.simplefilter("error", TrainingStoppedWarning)
        ...     fit_gaussianization_flow(jr.key(1), flow, jr.normal(jr.key(2), (50, 1)), **options)
        Traceback (most recent call last):
            ...
        gauss_flows.training.fit.TrainingStoppedWarning: Training stopped: the ...
    """


def fit_gaussianization_flow(
    key: PRNGKeyArray,
    flow: Flow,
    x: Float[ArrayLike, "n d"],
    *,
    condition: Float[ArrayLike, "n c"] | None = None,
    sample_weight: Float[ArrayLike, " n"] | None = None,
    optimizer: optax.GradientTransformation | None = None,
    learning_rate: float | Callable | None = None,
    clip_norm: float | None = 1.0,
    batch_size: int = 512,
    max_epochs: int | None = None,
    max_steps: int | None = None,
    patience: float | None = None,
    val_prop: float = 0.1,
    return_best: bool = True,
    show_progress: bool = True,
    checkpoint_dir: str | os.PathLike[str] | None = None,
    checkpoint_every: int = 10,
    resume: bool = True,
) -> tuple[Flow, dict[str, Any]]:
    r"""Train a flow by maximum likelihood, with early stopping on held-out rows.

    $$\min_\theta \; -\sum_i w_i \log p_\theta(x_i) \Big/ \sum_i w_i$$

    Floating arrays of the flow are trained, except those under ``paramax.NonTrainable``.
    An epoch is one compiled call, which a second fit of the same shapes and settings
    uses again. It takes every row once: the rows are dealt into ⌈n / batch_size⌉ batches
    whose sizes differ by at most one row, so that there is no small last batch.

    Args:
        key: Key of the split and the shuffles.
        flow: The flow to start from, a flowjax distribution of shape (d,).
        x: The data, of shape (n, d).
        condition: The conditioning variables, of shape (n, c), for a conditional flow.
        sample_weight: Weights of shape (n,), not negative; only their ratios count.
        optimizer: An optax optimizer. By default adam with a one-cycle schedule.
        learning_rate: For the default optimizer: the peak of the one-cycle schedule over
            the steps to come, 1e-2 by default, or an optax schedule, which is a function
            from the step's number to its rate (``optax.constant_schedule`` for a
            constant one). Not to be given together with ``optimizer``.
        clip_norm: Gradients of larger global norm are scaled to this one before any
            optimizer sees them; None leaves them alone.
        batch_size: Largest number of rows in a batch; may exceed n.
        max_epochs: Most epochs to run. By default as many as ``max_steps`` takes, and
            without that 100, or more where 100 epochs come to fewer than 2000 steps.
        max_steps: Most optimizer steps to run.
        patience: Training ends after this many epochs without a new best loss; None for
            never. While the default schedule's rate is high the loss may rest for half of
            the run, and it falls when the rate does: patience suits a constant rate.
        val_prop: Share of the rows held out, rounded to whole rows; ``split_rows`` says
            which. Where that is none, the training rows themselves are evaluated after each
            epoch, and the best epoch is theirs.
        return_best: Return the flow of the epoch with the lowest validation loss, the
            start included, rather than the last one.
        show_progress: Show a progress bar with both losses, in nats.
        checkpoint_dir: A folder for checkpoints. One file is replaced there as a whole,
            so that a run killed at any moment can go on.
        checkpoint_every: Epochs between checkpoints. The last epoch is always written.
        resume: Go on from a checkpoint found in ``checkpoint_dir``, to the result that
            an uninterrupted run gives. Otherwise start again and replace it.

    Returns:
        The flow, and its history: ``{"train": [...], "val": [...]}``, a loss in nats per
        epoch, "train" being the mean over the epoch while it ran and "val" the loss of
        the held-out rows after it (empty without such rows).

        If a loss or a gradient is not finite, or on KeyboardInterrupt, training ends
        with a ``TrainingStoppedWarning`` that names epoch and step. The history then
        has a third entry, "stopped", with that message, and the flow returned is the
        best of the epochs before, or the last of them if ``return_best`` is false.

    Raises:
        ValueError: If the data does not fit the flow or has a value that is not finite,
            an option is out of its range, or a checkpoint is damaged or of another run.

    Warns:
        TrainingStoppedWarning: If training ended early, as above.
        UserWarning: If ``val_prop`` is positive but comes to no row.

    References:
        Gaussianization Flows, Meng, Song, Song and Ermon, 2020.

    Example:
        >>> import jax.numpy as jnp, jax.random as jr
        >>> from flowjax.bijections import Affine
        >>> from flowjax.distributions import Normal, Transformed
        >>> flow = Transformed(Normal(jnp.zeros(2)), Affine(jnp.zeros(2), jnp.ones(2)))
        >>> x = 3.0 + 2.0 * jr.normal(jr.key(0), (500, 2))
        >>> options = {"max_epochs": 30, "show_progress": False}
        >>> flow, losses = fit_gaussianization_flow(jr.key(1), flow, x, **options)
        >>> losses["val"][-1] < losses["val"][0]
        True
    """
    optimizer = check_optimizer(optimizer, learning_rate)
    check_count("checkpoint_every", checkpoint_every)
    rows = check_rows(flow, x, condition, sample_weight)
    _, shuffle_seed = seeds_of(key)
    n_rows = len(rows.x)
    fitted, left_out = split_rows(key, n_rows, val_prop)
    train_rows = rows.take(fitted)
    held_out = rows.take(left_out) if len(left_out) else None
    if held_out is None and val_prop > 0:
        warnings.warn(
            f"val_prop={val_prop:g} is too small for {n_rows} row{'s' if n_rows > 1 else ''} and "
            "holds none out: the training rows choose the best epoch. Pass val_prop=0 to have "
            "it so, or a larger one.",
            stacklevel=2,
        )
    settings = check_settings(
        train_rows.x.shape[0],
        batch_size=batch_size,
        max_epochs=max_epochs,
        max_steps=max_steps,
        patience=patience,
        clip_norm=clip_norm,
    )
    if optimizer is None:
        optimizer = _ADAM
        # Adam's direction points uphill: the sign is ours to give.
        peak = _PEAK_RATE if learning_rate is None else learning_rate
        rates = -learning_rates(peak, settings.n_steps)
    else:
        rates = np.ones(settings.n_steps, rows.x.dtype)
    params, static = split_trainable(flow)
    if not jax.tree.leaves(params):
        raise ValueError("Expected a flow with arrays to train; got none.")
    held = StaticOptimizer(optimizer)
    run = Run(
        static=static,
        train=jax.tree.map(jnp.asarray, train_rows),
        evaluation=_in_batches(held_out or train_rows, batch_size),
        validates=held_out is not None,
        seed=shuffle_seed,
        rates=rates,
        settings=settings,
        optimizer=held,
    )
    state = start_training(params, held)
    progress = Progress(state, best=state.params)
    folder = None
    if checkpoint_dir is not None:
        description = describe_run(
            key=key,
            data=rows,
            flow=flow,
            optimizer=held.describe(),
            batch_size=batch_size,
            val_prop=val_prop,
            clip_norm=clip_norm,
        )
        folder = CheckpointFolder(
            checkpoint_dir, description, rates, settings.n_batches, checkpoint_every
        )
        if resume:
            progress = folder.read(progress)
    progress, stopped = train(run, progress, folder, show_progress=show_progress)
    losses: dict[str, Any] = {"train": list(progress.train), "val": list(progress.val)}
    if stopped is not None:
        losses["stopped"] = stopped
        warnings.warn(f"Training stopped: {stopped}", TrainingStoppedWarning, stacklevel=2)
    params = progress.best if return_best else progress.state.params
    return eqx.combine(params, static), losses


def _in_batches(rows: Rows, batch_size: int) -> Rows:
    n_rows = len(rows.x)
    deal = deal_rows(np.arange(n_rows), count_batches(n_rows, batch_size))
    return jax.tree.map(jnp.asarray, rows.take(deal.rows).where(deal.present))
