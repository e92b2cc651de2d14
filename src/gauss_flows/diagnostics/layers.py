"""What each layer leaves to be done: negentropy of the coordinates, and their dependence."""

from __future__ import annotations

import warnings
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.pushforward import (
    Rows,
    check_rows,
    layer_name,
    layers_of,
    open_flow,
    push,
)
from gauss_flows.numerics import gaussian_mixture
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.numerics.normal import LOG_SQRT_2PI
from gauss_flows.rbig.entropy import marginal_entropy
from gauss_flows.rbig.fit import fit_rbig
from gauss_flows.rbig.marginal_fit import fit_mixtures
from gauss_flows.rbig.options import check_count, check_seed

_FEWEST_ROWS = 50
_MOST_LAYERS = 40


class LayerStates(NamedTuple):
    """What is left to be done before the first layer and after each.

    Args:
        name: `"data"`, then the name of each layer that changed anything, in data order.
        negentropy: Sum over the coordinates of the divergence from a normal of the same mean and
            variance, in nats, each of shape (n_states,).
        total_correlation: Dependence between the coordinates, in nats, each of shape (n_states,).
            For a conditional flow, what they say of the condition counts too, as far as later
            layers removed it.
        n_rows: Number of rows.
    """

    name: tuple[str, ...]
    negentropy: Estimate
    total_correlation: Estimate
    n_rows: int


def layer_states(
    flow: Any,
    x: Any,
    condition: Any = None,
    *,
    n_components: int | None = None,
    max_rows: int = 20_000,
    random_state: int = 0,
) -> LayerStates:
    r"""Negentropy and total correlation left after each layer.

    A layer $y = g(x)$ changes the total correlation by what it does to the entropies of single
    coordinates and to the volume,

    $$T(x) - T(y) = \sum_i h(x_i) - \sum_i h(y_i)
    + \mathrm E \log \Bigl|\frac{\partial g}{\partial x}\Bigr|,$$

    in which no entropy of more than one dimension occurs. That the last state is N(0, I) is not
    taken for granted: the total correlation that RBIG still finds in z, up to its own error, is
    where the sum starts. Entropies are those of `gauss_flows.rbig.entropy`, free of their fit's
    optimism to first order; every figure may come out below zero by its error, in which that
    correction counts as uncertain by its own size.

    Args:
        flow: A flow.
        x: Rows it was not fitted to, an array or data frame of shape (n, d).
        condition: Their conditions, shape (n, c), for a conditional flow.
        n_components: Components of the mixtures that measure entropies; by default 2, and one more
            for every 150 rows up to 8.
        max_rows: Most rows to use; of more, some are drawn at random.
        random_state: Seed of that choice and of the splits inside.

    Returns:
        A figure for each state.

    Raises:
        ValueError: If it is no flow with a normal latent, a table has another width or holds what
            is no finite number (row and column are named), or there are fewer than 50 rows or no
            more than columns.

    References:
        Laparra, Camps-Valls and Malo, *Iterative Gaussianization: from ICA to Random Rotations*
        (2011).

    Example:
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> from gauss_flows.diagnostics import layer_states
        >>> rng = np.random.default_rng(0)
        >>> x = rng.multivariate_normal([0.0, 0.0], [[1.0, 0.8], [0.8, 1.0]], size=4000)
        >>> states = layer_states(gf.fit_rbig(x[:2000], n_layers=2), x[2000:])
        >>> bool(abs(states.total_correlation.value[0] + 0.5 * np.log(1 - 0.8**2)) < 0.06)
        True
    """
    if n_components is not None:
        check_count("n_components", n_components)
    check_count("max_rows", max_rows)
    check_seed(random_state)
    opened = open_flow(flow)
    rows = check_rows(opened, x, condition)
    n, d = rows.x.shape
    fewest = max(_FEWEST_ROWS, d + 1, n_components or 1)
    if n < fewest:
        raise ValueError(f"Expected at least {fewest} rows of x; got {n}.")
    if n > max_rows:
        chosen = np.sort(np.random.default_rng([random_state, n]).choice(n, max_rows, False))
        given = None if rows.condition is None else rows.condition[chosen]
        rows = Rows(rows.x[chosen], given)
    if n_components is None:  # of few rows, more only add noise
        n_components = min(2 + len(rows.x) // 150, 8)
    states = _states(layers_of(opened), rows, n_components, random_state)
    left = _total_correlation(states[-1].rows, n_components, random_state)
    return LayerStates(
        tuple(state.name for state in states),
        _stacked([_negentropy(state) for state in states]),
        _stacked([_plus_change(left, state, states[-1]) for state in states]),
        len(rows.x),
    )


def draw_layer_states(states: LayerStates, axes: Any = None) -> Any:
    """Draw what each layer leaves, with two standard errors either way.

    Args:
        states: What `layer_states` returned.
        axes: Matplotlib axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    axes = drawing.axes_or_new(axes)
    place = np.arange(len(states.name))
    dense = len(place) > 24
    for figure, colour, marker, label in (
        (states.total_correlation, drawing.SEEN, "o", "total correlation left"),
        (states.negentropy, drawing.OFF, "s", "negentropy of the coordinates"),
    ):
        value, error = np.asarray(figure.value), np.asarray(figure.standard_error)
        axes.fill_between(
            place, value - 2 * error, value + 2 * error, color=colour, alpha=0.2, lw=0
        )
        axes.plot(place, value, color=colour, marker=marker, ms=0 if dense else 3.5, lw=1.3,
                  label=label)  # fmt: skip
    axes.axhline(0.0, color=drawing.EXPECTED, lw=0.8, ls=(0, (4, 3)))
    axes.set_yscale("symlog", linthresh=_straight_below(states))
    axes.set_xlim(-0.3, place[-1] + 0.3)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layers passed (0: the data)")
    axes.set_ylabel("nats left")
    drawing.legend_above(axes, n_columns=1)
    return axes


class _State(NamedTuple):
    name: str
    rows: np.ndarray
    entropy: float  # sum over the coordinates
    log_density: np.ndarray  # of each row, summed over the coordinates
    log_det: np.ndarray  # of each row, all layers so far

    @property
    def correction(self) -> float:
        """What was added to the entropy for the optimism of the fits."""
        return self.entropy + float(self.log_density.mean())


def _states(layers: list, rows: Rows, n_components: int, random_state: int) -> list[_State]:
    x, log_det = rows.x, np.zeros(len(rows.x))
    states = [_state("data", x, log_det, n_components, random_state)]
    for layer in layers:
        y, change = push(layer, Rows(x, rows.condition))
        if np.array_equal(y, x) and not change.any():
            continue
        x, log_det = y, log_det + change
        states.append(_state(layer_name(layer), x, log_det, n_components, random_state))
    return states


def _state(name: str, x: np.ndarray, log_det, n_components: int, random_state: int) -> _State:
    entropy = np.sum(marginal_entropy(x, n_components, random_state=random_state).value)
    fit = fit_mixtures(x, n_components)
    with jax.enable_x64(True):
        log_weights, means, log_scales = (
            jnp.asarray(np.asarray(part, np.float64)[:, None]) for part in fit[:3]
        )
        log_density = gaussian_mixture.log_density(jnp.asarray(x.T), log_weights, means, log_scales)
        by_row = np.asarray(log_density).sum(0)
    return _State(name, x, float(entropy), by_row, log_det)


def _negentropy(state: _State) -> Estimate:
    n = len(state.rows)
    deviation = state.rows - state.rows.mean(0)
    variance = np.mean(deviation**2, axis=0)
    kurtosis = np.mean(deviation**4, axis=0) / variance**2
    # A normal fitted to the rows it is averaged over looks better than it is, by as much.
    optimism = (1 + (kurtosis - 1) / 2) / (2 * n)
    normal = np.sum(0.5 * np.log(variance) + LOG_SQRT_2PI + 0.5 + optimism)
    under_normal = -np.sum(0.5 * deviation**2 / variance, axis=1)
    error = Estimate.of_mean(state.log_density - under_normal).standard_error
    return Estimate(float(normal - state.entropy), float(np.hypot(error, state.correction)))


def _plus_change(left: Estimate, state: _State, last: _State) -> Estimate:
    """The total correlation of a state from that of the last one."""
    to_come = last.log_det - state.log_det
    value = left.value + state.entropy - last.entropy + to_come.mean()
    change = last.log_density - state.log_density + to_come
    error = np.hypot(left.standard_error, Estimate.of_mean(change).standard_error)
    if state is not last:
        error = np.hypot(error, np.hypot(state.correction, last.correction))
    return Estimate(float(value), float(error))


def _total_correlation(z: np.ndarray, n_components: int, random_state: int) -> Estimate:
    """What RBIG still finds."""
    if z.shape[1] == 1:
        return Estimate(0.0, 0.0)
    with warnings.catch_warnings():
        # Of whole numbers and of layers that still gain: of the latents that is a figure's error.
        warnings.simplefilter("ignore", UserWarning)
        _, record = fit_rbig(
            z,
            n_layers="auto",
            n_components=n_components,
            max_layers=_MOST_LAYERS,
            random_state=random_state,
            return_record=True,
        )
    return record.total_correlation


def _stacked(figures: list[Estimate]) -> Estimate:
    values, errors = zip(*figures, strict=True)
    return Estimate(np.array(values, float), np.array(errors, float))


def _straight_below(states: LayerStates) -> float:
    """Where the axis turns from a straight to a logarithmic scale: at what errors allow to see."""
    errors = np.concatenate(
        [np.asarray(f.standard_error) for f in (states.negentropy, states.total_correlation)]
    )
    return float(max(4 * np.median(errors), 1e-3))
