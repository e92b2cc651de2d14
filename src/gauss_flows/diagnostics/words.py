"""How the report says numbers and what it makes of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from gauss_flows.numerics.estimate import Estimate

Mark = Literal["fine", "look", "bad", "none"]

# A p-value from which on a check has found nothing, and below which it is beyond doubt.
DOUBTFUL, BEYOND_DOUBT = 0.05, 0.001


class Verdict(NamedTuple):
    """What a check found.

    Args:
        mark: `"fine"`, `"look"`, `"bad"`, or `"none"` where it could not be made.
        text: The same in a sentence.
    """

    mark: Mark
    text: str


class Picture(NamedTuple):
    """A picture and what it shows, for those who do not see it.

    Args:
        svg: The picture.
        alternative: The same in words and numbers.
    """

    svg: bytes
    alternative: str


class Numbers(NamedTuple):
    """A table of the report.

    Args:
        caption: What it holds.
        header: Names of its columns.
        rows: Its cells.
    """

    caption: str
    header: tuple[str, ...]
    rows: list[tuple[str, ...]]


class Section(NamedTuple):
    """One check of the report.

    Args:
        name: Its anchor.
        title: Its title.
        verdict: What it found.
        meaning: What it shows, in plain words.
        pictures: Its pictures.
        tables: Its numbers.
    """

    name: str
    title: str
    verdict: Verdict
    meaning: str
    pictures: list[Picture]
    tables: list[Numbers]


def mark_of(p_value: float) -> Mark:
    """What a p-value says.

    Example:
        >>> mark_of(0.3), mark_of(0.02), mark_of(0.001)
        ('fine', 'look', 'bad')
    """
    if p_value <= BEYOND_DOUBT:
        return "bad"
    return "look" if p_value < DOUBTFUL else "fine"


def said_p(p_value: float) -> str:
    """Write a p-value.

    Example:
        >>> said_p(0.1234), said_p(0.0004)
        ('p = 0.12', 'p ≤ 0.001')
    """
    return "p ≤ 0.001" if p_value <= BEYOND_DOUBT else f"p = {p_value:.2g}"


def cell_p(p_value: float) -> str:
    """Write a p-value in a column that is called p.

    Example:
        >>> cell_p(0.1234), cell_p(0.0004)
        ('0.12', '≤ 0.001')
    """
    return said_p(p_value).removeprefix("p = ").removeprefix("p ")


def number(value: float) -> str:
    """Write a number with three digits.

    Example:
        >>> number(0.123456), number(-1234.5), number(3.2e-12), number(0.0), number(float("inf"))
        ('0.123', '−1234', '3.2e−12', '0', '∞')
    """
    if math.isnan(value):
        return "?"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
    return (
        ("0" if value == 0 else digits).replace("-", "−").replace("e−0", "e−").replace("e+0", "e")
    )


def shown(estimate: Estimate) -> str:
    """Write an estimate with the digits that its error supports.

    Example:
        >>> shown(Estimate(-1.23456, 0.0712)), shown(Estimate(0.5, 0.0004))
        ('−1.235 ± 0.071', '0.50000 ± 0.00040')
    """
    value, error = float(estimate.value), float(estimate.standard_error)
    if not math.isfinite(error) or error <= 0 or max(abs(value), error) >= 1e6:
        return f"{number(value)} ± {number(error)}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    if digits > 8:
        return f"{number(value)} ± {number(error)}"
    return f"{value:z.{digits}f} ± {error:.{digits}f}".replace("-", "−")


def listed(names: Sequence[str], most: int = 6) -> str:
    """Join names into a phrase, the many cut short.

    Example:
        >>> listed(["a", "b", "c"]), listed(["a", "b", "c"], most=2)
        ('a, b and c', 'a and 2 more')
    """
    names = list(names)
    if len(names) > most:
        names = [*names[: most - 1], f"{len(names) - most + 1} more"]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
