"""Numbers in messages, as people read them."""

from __future__ import annotations

import math

from gauss_flows.numerics.estimate import Estimate

# Numbers from here on are written with an exponent.
_LONG = 1e7


def shown(estimate: Estimate) -> str:
    """Write an estimate with the digits that its error supports.

    Example:
        >>> shown(Estimate(-1.23456, 0.0712)), shown(Estimate(12.0, float("nan")))
        ('-1.235 ± 0.071', '12.00 ± ?')
        >>> shown(Estimate(-1e-9, 1e-9)), shown(Estimate(-2.34e305, float("inf")))
        ('0.0000 ± 0.0000', '-2.34e+305 ± ?')
    """
    value, error = float(estimate.value), float(estimate.standard_error)
    if not math.isfinite(error):
        return f"{nats(value)} ± ?"
    if max(abs(value), error) >= _LONG:
        return f"{nats(value)} ± {nats(error)}"
    digits = 2 if error >= 0.1 else 3 if error >= 0.01 else 4
    # The z takes the sign off what rounds to zero.
    return f"{value:z.{digits}f} ± {error:.{digits}f}"


def nats(value: float) -> str:
    """Write one log density.

    Example:
        >>> nats(-12.345), nats(-1.2345e300)
        ('-12.35', '-1.23e+300')
    """
    return f"{value:z.2f}" if abs(value) < _LONG else f"{value:.3g}"


def counted(n: int, noun: str) -> str:
    """Write a number with its noun.

    Example:
        >>> counted(1, "block"), counted(2, "block")
        ('1 block', '2 blocks')
    """
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"
