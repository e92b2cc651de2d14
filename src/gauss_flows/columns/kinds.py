r"""Kinds of columns, each with a map to the real line and its Jacobian.

A density p on the coded line gives the column's own: its value at the code times the Jacobian for
numbers, its integral over the code's interval for what is discrete. That integral is a mean over
points u that are uniform in the interval, so every kind has one face: `encode(x, u)` with the
logarithm of what the density is to be multiplied by.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr, ndtri

from gauss_flows.numerics.normal import LOG_SQRT_2PI

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Kind:
    """A kind of column."""

    is_discrete: ClassVar[bool] = False
    # Whether its values can be averaged and ordered.
    is_number: ClassVar[bool] = True

    @abstractmethod
    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Say of each value, none of them missing, whether the column can have it."""

    @abstractmethod
    def encode(self, values: NDArray[Any], u: Array) -> tuple[Array, Array]:
        """Code values that the column can have.

        Args:
            values: Values of shape (n,), none missing.
            u: Points of (0, 1), shape (n,): where in its interval a discrete value goes.

        Returns:
            Codes and log-Jacobians in nats, each of shape (n,).
        """

    @abstractmethod
    def decode(self, codes: Array) -> NDArray[Any]:
        """Turn codes of shape (n,) into values."""


@dataclass(frozen=True)
class Real(Kind):
    """Any number: coded as it is."""

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Every number."""
        return np.ones(len(values), bool)

    def encode(self, values: NDArray[Any], u: Array) -> tuple[Array, Array]:
        """Return the values."""
        return np.asarray(values, float), np.zeros(len(values))

    def decode(self, codes: Array) -> NDArray[Any]:
        """Return the codes."""
        return codes

    def __str__(self) -> str:
        """Return `real`."""
        return "real"


@dataclass(frozen=True)
class Interval(Kind):
    r"""Numbers between two bounds, one of which may be infinite.

    Between two, $z = \Phi^{-1}((x - a) / (b - a))$, which makes a uniform column normal; beyond
    one, $z = \log(x - a)$ or $-\log(b - x)$.

    Args:
        low: The lower bound a, not itself a value.
        high: The upper bound b, not itself a value.
    """

    low: float
    high: float

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """Those strictly between the bounds."""
        return (values > self.low) & (values < self.high)

    def encode(self, values: NDArray[Any], u: Array) -> tuple[Array, Array]:
        """Stretch to the line."""
        above, below = values - self.low, self.high - values
        if np.isinf(self.high):
            codes = np.log(above)
            return codes, -codes
        if np.isinf(self.low):
            codes = -np.log(below)
            return codes, codes
        width = self.high - self.low
        # From the nearer bound, so that no digit is lost beside it.
        half = ndtri(np.minimum(above, below) / width)
        codes = np.where(above < below, half, -half)
        return codes, 0.5 * codes**2 + LOG_SQRT_2PI - np.log(width)

    def decode(self, codes: Array) -> NDArray[Any]:
        """Bring back; what rounds to a bound becomes its nearest number inside."""
        if np.isinf(self.high):
            values = self.low + np.exp(codes)
        elif np.isinf(self.low):
            values = self.high - np.exp(-codes)
        else:
            width = self.high - self.low
            share = width * ndtr(-np.abs(codes))
            values = np.where(codes < 0, self.low + share, self.high - share)
        return np.clip(values, np.nextafter(self.low, np.inf), np.nextafter(self.high, -np.inf))

    def __str__(self) -> str:
        """Return for example `between 0 and 1`."""
        if np.isinf(self.high):
            return f"above {self.low:g}"
        return (
            f"below {self.high:g}"
            if np.isinf(self.low)
            else f"between {self.low:g} and {self.high:g}"
        )


@dataclass(frozen=True)
class Integer(Kind):
    """Whole numbers k, coded as k + u − ½: their log mass is that of the unit interval around k."""

    is_discrete: ClassVar[bool] = True

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """The whole numbers."""
        return values % 1 == 0

    def encode(self, values: NDArray[Any], u: Array) -> tuple[Array, Array]:
        """Spread every number over its unit interval."""
        return np.asarray(values, float) + (u - 0.5), np.zeros(len(values))

    def decode(self, codes: Array) -> NDArray[Any]:
        """Round."""
        return np.rint(codes)

    def __str__(self) -> str:
        """Return `whole numbers`."""
        return "whole numbers"


@dataclass(frozen=True)
class Category(Kind):
    r"""Levels without an order, coded by the distributional transform.

    $$z = \Phi^{-1}(F_{c-1} + u\, P_c), \qquad F_c = P_1 + \dots + P_c,$$

    with the levels' shares P in the rows that were fitted, which is N(0, 1) over these. A level's
    mass is the integral of the density over its interval,
    $\int p = P_c\, E_u[p(z) / \varphi(z)]$.

    Args:
        levels: The values.
        shares: Their shares, all above zero, adding up to one.

    References:
        Rüschendorf, *On the Distributional Transform, Sklar's Theorem, and the Empirical Copula
        Process* (2009).
    """

    levels: tuple[Any, ...]
    shares: tuple[float, ...]
    is_discrete: ClassVar[bool] = True
    is_number: ClassVar[bool] = False

    @classmethod
    def from_values(cls, values: NDArray[Any]) -> Category:
        """Learn the levels and their shares from values of shape (n,), none missing."""
        counts: dict[Any, int] = {}
        for value in values.tolist():
            counts[value] = counts.get(value, 0) + 1
        try:
            levels = sorted(counts)
        except TypeError:  # values of several types have no order
            levels = sorted(counts, key=lambda level: (type(level).__name__, str(level)))
        return cls(tuple(levels), tuple(counts[level] / len(values) for level in levels))

    def holds(self, values: NDArray[Any]) -> NDArray[np.bool_]:
        """The levels."""
        known = set(self.levels)
        return np.array([value in known for value in values.tolist()], bool)

    def encode(self, values: NDArray[Any], u: Array) -> tuple[Array, Array]:
        """Spread every level over its share of a standard normal."""
        place = {level: index for index, level in enumerate(self.levels)}
        index = np.array([place[value] for value in values.tolist()], int)
        shares = np.array(self.shares)
        before = np.concatenate([[0.0], np.cumsum(shares)])[index]
        after = np.concatenate([np.cumsum(shares[::-1])[::-1], [0.0]])[index + 1]
        share = shares[index]
        lower, upper = before + u * share, after + (1.0 - u) * share
        codes = np.where(lower < upper, ndtri(lower), -ndtri(upper))
        return codes, np.log(share) + 0.5 * codes**2 + LOG_SQRT_2PI

    def decode(self, codes: Array) -> NDArray[Any]:
        """Take the level in whose interval a code lies."""
        edges = np.cumsum(self.shares)[:-1]
        index = np.searchsorted(edges, ndtr(codes), side="right")
        levels = np.empty(len(self.levels), object)
        levels[:] = self.levels
        return levels[index]

    def __str__(self) -> str:
        """Return for example `one of 'a', 'b'`."""
        shown = [repr(level) for level in self.levels[:8]]
        more = len(self.levels) - len(shown)
        return f"one of {', '.join(shown)}{f' and {more} more' if more else ''}"
