"""Numbers as machines read them."""

from __future__ import annotations

import json
import math
from typing import Any

from gauss_flows.numerics.estimate import Estimate


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
