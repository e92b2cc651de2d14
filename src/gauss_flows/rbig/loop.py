"""Rotation-based iterative Gaussianization: a flow fitted in closed form, layer by layer."""

import warnings
from typing import Literal, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from gauss_flows.numerics.estimate import Estimate
from gauss_flows.rbig._push import push
from gauss_flows.rbig.layers import (
    Layer,
    LayerOptions,
    apply_layer,
    fit_layer,
    log_density_under,
    marginal_log_density,
)
from gauss_flows.rbig.rotations import DataRotation
from gauss_flows.rbig.stopping import (
    WINDOW,
    Gains,
    is_independent,
    null_rows,
    sum_of_gains,
    total_correlation_drop,
)


class RBIGRecord(NamedTuple):
    """What each layer achieved.

    Args:
        total_correlation_drops: Total correlation that each layer of the flow removed, in nats.
        total_correlation: Their sum: the total correlation of the data as far as it was found, in
            nats. Its error includes that of the layers that were fitted and left out again.
        validation_log_likelihoods: Mean log-density of the held-out rows in nats after each layer
            that was fitted, those left out again included; empty without such rows.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> rng = np.random.default_rng(0)
        >>> x = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.9], [0.9, 1.0]], size=2000)
        >>> _, record = gf.fit_rbig(x, n_layers=3, return_record=True)
        >>> len(record.total_correlation_drops), record.validation_log_likelihoods
        (3, ())
        >>> drop, standard_error = record.total_correlation_drops[0]
        >>> bool(abs(drop + 0.5 * np.log(1 - 0.9**2)) < 3 * standard_error < 0.1)
        True
    """

    total_correlation_drops: tuple[Estimate, ...]
    total_correlation: Estimate
    validation_log_likelihoods: tuple[float, ...]


class RunOptions(NamedTuple):
    """When to stop and what to keep.

    Args:
        n_layers: Number of layers, or `"auto"`.
        max_layers: Most layers to fit.
        keep_record: Whether drops are wanted where the stopping rule does not need them.
    """

    n_layers: int | Literal["auto"]
    max_layers: int
    keep_record: bool


def gaussianize_rows(
    x: Float[Array, "n d"],
    options: LayerOptions,
    run: RunOptions,
    *,
    sample_weight: Float[np.ndarray, " n"] | None = None,
    validation: Float[Array, "m d"] | None = None,
) -> tuple[list[Layer], RBIGRecord | None]:
    """Fit layers until the stopping rule is met.

    Args:
        x: Checked rows, shape (n, d).
        options: How to fit a layer.
        run: When to stop.
        sample_weight: Weights of the rows, shape (n,).
        validation: Rows whose log-density decides when to stop, shape (m, d).

    Returns:
        The layers in data order, and the record if it was wanted or needed.
    """
    automatic = run.n_layers == "auto"
    by_drop = automatic and validation is None
    most = run.max_layers if automatic else int(run.n_layers)
    if automatic and x.shape[1] == 1:
        most = 1  # nothing to rotate
    data = _Rows(x, sample_weight)
    null = held_out = None
    if by_drop or run.keep_record:
        rows = null_rows(x.shape[1], sample_weight, len(x), options.random_state)
        null = _Rows(jnp.asarray(rows), None)
    if validation is not None:
        held_out = _HeldOut(validation)
    layers: list[Layer] = []
    ledger = _Ledger(sample_weight)
    stopped = most == 1
    for index in range(most):
        rotation = options.rotation
        if by_drop and index > 1 and is_independent(ledger.recent[-1:], sample_weight):
            # Principal axes mean nothing where the covariance is the identity: before the rows
            # are called independent, they are looked at from random directions too.
            rotation = "random"
        step = _Step(data, null, options, index, rotation, is_last=index + 1 == most)
        if by_drop and index == 0 and is_independent([step.gains], sample_weight):
            # Without a rotation the total correlation stays what it is, and may be zero.
            step = _Step(data, null, options, index, None, is_last=most == 1)
        data, null = step.data, step.null
        layers.append(step.layer)
        if null is not None:
            ledger.add(step.gains)
        if held_out is not None and held_out.is_past_best(step.layer):
            stopped = True
            break
        if by_drop and index >= WINDOW and is_independent(ledger.recent, sample_weight):
            stopped = True
            layers = layers[:-WINDOW]
            break
    if held_out is not None:
        layers = layers[: held_out.n_best]
    if automatic and not stopped:
        warnings.warn(
            f"Stopped at max_layers = {most} layers, while the last of them still gained.",
            stacklevel=4,
        )
    if null is None:
        return layers, None
    likelihoods = () if held_out is None else tuple(held_out.log_likelihoods)
    return layers, ledger.record(len(layers), likelihoods)


class _Rows(NamedTuple):
    """Rows on their way from data to latent, and their weights."""

    x: Array
    weight: Float[np.ndarray, " n"] | None

    def advanced(
        self,
        options: LayerOptions,
        index: int,
        rotation: DataRotation | None,
        *,
        is_last: bool,
        wants_gains: bool,
    ) -> tuple[Layer, "_Rows", Float[np.ndarray, " n"]]:
        """The next layer, the rows after it, and what every row gained, if wanted."""
        layer, turned = fit_layer(
            self.x, options, index=index, sample_weight=self.weight, rotation=rotation
        )
        gains = np.zeros(len(turned))
        if is_last and not wants_gains:
            return layer, self, gains  # nobody will look at the rows again
        z, log_det = push(layer.marginal, turned)
        if wants_gains and rotation is not None:
            before = marginal_log_density(self.x, options.n_components, self.weight)
            gains = log_density_under(z, log_det) - before
        return layer, self._replace(x=z), gains


class _Step:
    """One layer fitted to the data, and its twin fitted to independent normal rows."""

    def __init__(
        self,
        data: _Rows,
        null: _Rows | None,
        options: LayerOptions,
        index: int,
        rotation: DataRotation | None,
        *,
        is_last: bool,
    ):
        how = {"is_last": is_last, "wants_gains": null is not None}
        self.layer, self.data, gained = data.advanced(options, index, rotation, **how)
        self.null, null_gained = None, np.zeros(0)
        if null is not None:
            # Normal rows have no independent components; FastICA would look for them in vain, and
            # at length, and end with the principal axes.
            turn = "pca" if rotation == "ica" else rotation
            _, self.null, null_gained = null.advanced(options, index, turn, **how)
        self.gains = Gains(gained, null_gained)


class _HeldOut:
    """Rows that no layer was fitted to, and their mean log-density after each."""

    def __init__(self, x: Array):
        self.x = x
        self.log_det = jnp.zeros(len(x), x.dtype)
        self.log_likelihoods: list[float] = []

    @property
    def n_best(self) -> int:
        """Number of layers after which the log-density was highest."""
        return int(np.argmax(self.log_likelihoods)) + 1

    def is_past_best(self, layer: Layer) -> bool:
        """Move on through a layer; whether the best is so many layers ago that it stays."""
        self.x, change = apply_layer(layer, self.x)
        self.log_det = self.log_det + change
        self.log_likelihoods.append(float(log_density_under(self.x, self.log_det).mean()))
        return len(self.log_likelihoods) - self.n_best >= WINDOW


class _Ledger:
    """What the layers gained: of the last few row by row, of those before only their sum."""

    def __init__(self, sample_weight: Float[np.ndarray, " n"] | None):
        self.sample_weight = sample_weight
        self.drops: list[Estimate] = []
        self.recent: list[Gains] = []
        self.earlier: list[Gains] = []

    def add(self, gains: Gains) -> None:
        """Note the gains of another layer."""
        self.drops.append(total_correlation_drop(gains, self.sample_weight))
        self.recent.append(gains)
        if len(self.recent) > WINDOW:
            self.earlier = [sum_of_gains([*self.earlier, self.recent.pop(0)])]

    def record(self, n_layers: int, likelihoods: tuple[float, ...]) -> RBIGRecord:
        """The record of the first layers, if the others, all of them recent, are left out."""
        n_kept = n_layers - len(self.drops) + len(self.recent)
        kept, left_out = [*self.earlier, *self.recent[:n_kept]], self.recent[n_kept:]
        value, error = total_correlation_drop(sum_of_gains(kept), self.sample_weight)
        if left_out:
            missed = total_correlation_drop(sum_of_gains(left_out), self.sample_weight)
            error = float(np.hypot(error, missed.standard_error))
        return RBIGRecord(tuple(self.drops[:n_layers]), Estimate(value, error), likelihoods)
