"""Numbers as people and machines read them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.numerics.estimate import Estimate

# Numbers from here on are written with an exponent.
_LONG = 1e7


def mean_of(log_density: NDArray[np.float64]) -> Estimate:
    """Return the mean of log densities, which are infinite or huge where a row is far away."""
    with np.errstate(over="ignore", invalid="ignore"):
        return Estimate.of_mean(log_density)


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


def as_json(value: Any) -> str:
    """Write JSON that every parser takes: an estimate is an object, NaN and infinities are null.

    Example:
        >>> as_json({"nats": Estimate(1.0, float("nan"))})
        '{"nats": {"value": 1.0, "standard_error": null}}'
    """
    return json.dumps(plain(value), allow_nan=False, ensure_ascii=False)


def plain(value: Any) -> Any:
    """Return a value in what JSON can hold."""
    if isinstance(value, Estimate):
        return {
            "value": plain(float(value.value)),
            "standard_error": plain(float(value.standard_error)),
        }
    if isinstance(value, dict):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def estimate_from(entry: dict[str, float | None]) -> Estimate:
    """Return the estimate that `plain` made an object of."""
    value, error = entry["value"], entry["standard_error"]
    return Estimate(math.nan if value is None else value, math.nan if error is None else error)
