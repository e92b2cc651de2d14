"""Gauss-Legendre quadrature on panels, in float64, that says when it has not converged."""

from collections.abc import Callable

import numpy as np
from jaxtyping import ArrayLike, Float

# Every order has half as many nodes again, so that agreement of two is no accident.
_ORDERS = (8, 12, 18, 27, 40)
_TOLERANCE = 1e-9


def panel_rule(
    breaks: Float[ArrayLike, " panels_and_1"], order: int
) -> tuple[Float[np.ndarray, " nodes"], Float[np.ndarray, " nodes"]]:
    """Nodes and weights of the Gauss-Legendre rule on neighbouring panels.

    Args:
        breaks: Ends of the panels, in order.
        order: Nodes of a panel.

    Returns:
        The nodes, in order, and their weights, which sum to the length.

    Example:
        >>> from gauss_flows.datasets._quadrature import panel_rule
        >>> nodes, weights = panel_rule([0.0, 0.5, 2.0], 4)
        >>> print(round(float(weights @ nodes**7), 12))
        32.0
    """
    breaks = np.asarray(breaks, np.float64)
    unit, unit_weights = np.polynomial.legendre.leggauss(order)
    half = np.diff(breaks)[:, None] / 2
    nodes = (breaks[:-1, None] + half) + half * unit
    return nodes.ravel(), (half * unit_weights).ravel()


def even_breaks(low: float, high: float, width: float) -> Float[np.ndarray, " panels_and_1"]:
    """Ends of panels of equal width.

    Args:
        low: Where the first begins.
        high: Where the last ends.
        width: The widest that a panel may be.

    Returns:
        The ends, in order.
    """
    return np.linspace(low, high, max(1, int(np.ceil((high - low) / width))) + 1)


def settled(integral: Callable[[int], float]) -> float:
    """Raise the order of a rule until two in a row agree to 1e-9.

    Args:
        integral: The integral by a rule of a given order.

    Returns:
        The later of the two, whose own error is far smaller where the rule converges
        geometrically.

    Raises:
        ArithmeticError: If none agree.

    Example:
        >>> from gauss_flows.datasets._quadrature import settled
        >>> settled(lambda order: 2.0)
        2.0
        >>> settled(float)
        Traceback (most recent call last):
            ...
        ArithmeticError: Expected quadrature to settle to 1e-09; got 27.0, then 40.0.
    """
    coarse = value = float("nan")
    for order in _ORDERS:
        coarse, value = value, float(integral(order))
        if abs(value - coarse) < _TOLERANCE:
            return value
    raise ArithmeticError(
        f"Expected quadrature to settle to {_TOLERANCE}; got {coarse}, then {value}."
    )
