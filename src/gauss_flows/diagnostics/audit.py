"""Whether a flow's inverse is its inverse, and its log-determinants those of its Jacobian."""

from __future__ import annotations

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from flowjax.bijections import AbstractBijection
from jaxtyping import Array, Float

from gauss_flows.diagnostics import drawing
from gauss_flows.diagnostics.pushforward import (
    Precision,
    Rows,
    check_rows,
    filled,
    in_precision,
    layer_name,
    layers_of,
    open_flow,
    push,
)
from gauss_flows.rbig.options import check_count, check_seed

# What rounding may do to a well-made flow; a formula that is wrong does more.
_TOLERANCE: dict[str, float] = {"float64": 1e-4, "float32": 3e-2}


class Discrepancy(NamedTuple):
    """How far two things that should be equal are apart, row by row.

    Args:
        largest: In the worst row; infinite where a value is not finite.
        median: In the middle one.
        row: Number of the worst row.
    """

    largest: float
    median: float
    row: int


class LayerAudit(NamedTuple):
    """The audit of one layer, at the states that the rows have when they come to it.

    Args:
        name: The layer's name.
        round_trip: Forward and back, relative to the spread of each coordinate.
        log_det_sum: Sum of the log-determinants there and back, in nats.
        log_det_jacobian: Log-determinant against that of the Jacobian by automatic
            differentiation, in nats, on the first rows.
        passed: Whether all of them are within the tolerance.
    """

    name: str
    round_trip: Discrepancy
    log_det_sum: Discrepancy
    log_det_jacobian: Discrepancy
    passed: bool


class FlowAudit(NamedTuple):
    """The audit of a flow.

    Args:
        data_round_trip: x → z → x, relative to the spread of each column.
        latent_round_trip: z → x → z for draws of N(0, I), in units of z.
        log_det_sum: Sum of the log-determinants there and back, in nats.
        log_det_jacobian: Log-determinant against that of the Jacobian by automatic
            differentiation, in nats, on some rows.
        layers: The same of each layer, in data order.
        tolerance: What counts as rounding.
        precision: In which it was computed.
        n_rows: Number of rows.
        n_jacobians: Number of rows of which the Jacobian was computed.
    """

    data_round_trip: Discrepancy
    latent_round_trip: Discrepancy
    log_det_sum: Discrepancy
    log_det_jacobian: Discrepancy
    layers: tuple[LayerAudit, ...]
    tolerance: float
    precision: Precision
    n_rows: int
    n_jacobians: int

    @property
    def failed(self) -> tuple[str, ...]:
        """What is not within the tolerance, in words; empty when all is well."""
        whole = [
            name
            for name, found in zip(_WORDS, self[:4], strict=True)
            if not found.largest <= self.tolerance
        ]
        named = [
            f"layer {number}, {layer.name}"
            for number, layer in enumerate(self.layers, start=1)
            if not layer.passed
        ]
        return (*whole, *named)


_WORDS = (
    "data to latent and back",
    "latent to data and back",
    "log-determinants there and back",
    "log-determinants and Jacobians",
)


def audit_flow(
    flow: Any,
    x: Any,
    condition: Any = None,
    *,
    precision: Precision = "float64",
    tolerance: float | None = None,
    n_jacobians: int = 5,
    layer_rows: int = 1_000,
    random_state: int = 0,
) -> FlowAudit:
    r"""Check a flow and each of its layers against themselves and against differentiation.

    Of a map f with inverse g: $g(f(x)) = x$, $f(g(z)) = z$, the log-determinants there and back
    add up to 0, and

    $$\log |\det \partial f / \partial x|$$

    is that of the Jacobian which automatic differentiation finds. The last is what tells a wrong
    formula that is wrong there and back. In double precision, the default, what is left is the
    fault of a formula and not of rounding; in single precision it is what a user will see.

    Args:
        flow: A flow.
        x: Rows, an array or data frame of shape (n, d).
        condition: Their conditions, shape (n, c), for a conditional flow.
        precision: `"float64"` or `"float32"`: parameters and rows are converted.
        tolerance: What counts as rounding; by default 1e-4 in double precision
            (rotations held in single precision are orthogonal to 1e-7 a layer) and 3e-2 in single.
        n_jacobians: Number of rows of which to compute the Jacobian, evenly through the table.
        layer_rows: Most rows on which to check single layers, the first of x.
        random_state: Seed of the latents drawn.

    Returns:
        The discrepancies.

    Raises:
        ValueError: If it is no flow with a normal latent, a table has another width or holds what
            is no finite number, with row and column named; or if an option is unknown.

    Example:
        >>> import numpy as np
        >>> import gauss_flows as gf
        >>> from gauss_flows.diagnostics import audit_flow
        >>> x = np.random.default_rng(0).gamma(2.0, size=(200, 2))
        >>> audit = audit_flow(gf.fit_rbig(x, n_layers=2), x)
        >>> audit.failed, audit.data_round_trip.largest < 1e-5
        ((), True)
    """
    if precision not in _TOLERANCE:
        raise ValueError(f"Expected precision to be 'float32' or 'float64'; got {precision!r}.")
    check_count("n_jacobians", n_jacobians)
    check_count("layer_rows", layer_rows)
    check_seed(random_state)
    limit = _TOLERANCE[precision] if tolerance is None else tolerance
    opened = open_flow(flow)
    rows = check_rows(opened, x, condition)
    n, d = rows.x.shape
    few = np.unique(np.linspace(0, n - 1, min(n, n_jacobians)).round().astype(int))
    whole = _discrepancies(opened.to_latent, rows, few, n_jacobians, precision, _spread(rows.x))
    z = np.random.default_rng([random_state, 3]).normal(size=(n, d))
    latents = Rows(z, rows.condition)
    back = _round_trip(opened.to_latent, latents, precision, np.ones(d), inverse=True)[0]
    layers = []
    state = Rows(
        rows.x[:layer_rows], None if rows.condition is None else rows.condition[:layer_rows]
    )
    first = few[few < len(state.x)]
    for layer in layers_of(opened):
        found = _discrepancies(layer, state, first, n_jacobians, precision, _spread(state.x))
        passed = all(one.largest <= limit for one in found)
        layers.append(LayerAudit(layer_name(layer), *found, passed))
        state = Rows(push(layer, state).rows, state.condition)
    return FlowAudit(whole[0], back, *whole[1:], tuple(layers), limit, precision, n, len(few))


def draw_audit(audit: FlowAudit, axes: Any = None) -> Any:
    """Draw each layer's largest discrepancies, and the flow's.

    Args:
        audit: What `audit_flow` returned.
        axes: Matplotlib axes to draw on; new ones when None.

    Returns:
        The axes.
    """
    axes = drawing.axes_or_new(axes)
    place = np.arange(1, len(audit.layers) + 2)
    least = float(np.finfo(audit.precision).eps)
    for label, colour, marker, whole, parts in (
        ("round trip", drawing.SEEN, "o", audit.data_round_trip,
         [layer.round_trip for layer in audit.layers]),
        ("log-dets there + back", drawing.EXPECTED, "s", audit.log_det_sum,
         [layer.log_det_sum for layer in audit.layers]),
        ("log-det − Jacobian's", drawing.OFF, "^", audit.log_det_jacobian,
         [layer.log_det_jacobian for layer in audit.layers]),
    ):  # fmt: skip
        values = np.array([one.largest for one in (*parts, whole)])
        shown = np.clip(values, least / 10, 1e3)
        axes.plot(place, shown, color=colour, marker=marker, ms=3.5, lw=0, label=label)
    axes.axhline(audit.tolerance, color=drawing.OFF, lw=1.0, ls=(0, (4, 3)), label="tolerance")
    axes.set_yscale("log")
    axes.axvline(place[-1] - 0.5, color=drawing.FAINT, lw=0.6)
    axes.set_xlim(0.5, place[-1] + 0.5)
    axes.xaxis.get_major_locator().set_params(integer=True)
    axes.set_xlabel("layer; the last is the whole flow")
    axes.set_ylabel("largest discrepancy")
    drawing.legend_above(axes)
    return axes


def _spread(x: np.ndarray) -> np.ndarray:
    spread = x.std(0)
    return np.where(spread > 0, spread, 1.0)


def _discrepancies(
    bijection: AbstractBijection,
    rows: Rows,
    few: np.ndarray,
    n_jacobians: int,
    precision: Precision,
    unit: np.ndarray,
) -> tuple[Discrepancy, Discrepancy, Discrepancy]:
    """Round trip, log-determinants there and back, log-determinants and Jacobians."""
    round_trip, log_dets, there = _round_trip(bijection, rows, precision, unit)
    chosen = Rows(rows.x[few], None if rows.condition is None else rows.condition[few])
    jacobian = _log_det_of_jacobian(bijection, chosen, n_jacobians)
    return round_trip, log_dets, _worst(there[few] - jacobian, few)


def _round_trip(
    bijection: AbstractBijection,
    rows: Rows,
    precision: Precision,
    unit: np.ndarray,
    *,
    inverse: bool = False,
) -> tuple[Discrepancy, Discrepancy, Float[np.ndarray, " n"]]:
    there = push(bijection, rows, precision, inverse=inverse)
    back = push(bijection, Rows(there.rows, rows.condition), precision, inverse=not inverse)
    # In single precision the rows themselves are rounded before they set out.
    start = rows.x.astype(precision).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        trip = np.max(np.abs(back.rows - start) / unit, axis=1)
        total = there.log_det + back.log_det
    return _worst(trip), _worst(total), there.log_det


def _worst(difference: np.ndarray, numbers: np.ndarray | None = None) -> Discrepancy:
    size = np.abs(difference)
    size = np.where(np.isfinite(size), size, np.inf)
    row = int(np.argmax(size))
    number = row if numbers is None else int(numbers[row])
    return Discrepancy(float(size[row]), float(np.median(size)), number)


def _log_det_of_jacobian(
    bijection: AbstractBijection, rows: Rows, n_jacobians: int
) -> Float[np.ndarray, " n"]:
    """Always in double precision: it is what the others are measured by."""
    with jax.enable_x64(True):
        x, condition = (
            None if table is None else filled(table, n_jacobians, np.float64) for table in rows
        )
        wide = in_precision(bijection, "float64")
        return np.asarray(_jacobians(wide, x, condition))[: len(rows.x)]


@eqx.filter_jit
def _jacobians(bijection: AbstractBijection, x: Any, condition: Any) -> Array:
    def log_det(row: Array, given: Array | None) -> Array:
        jacobian = jax.jacfwd(lambda value: bijection.transform(value, given))(row)
        return jnp.linalg.slogdet(jacobian)[1]

    if condition is None:
        return jax.vmap(lambda row: log_det(row, None))(x)
    return jax.vmap(log_det)(x, condition)
