"""What `support=` says of every column, checked against its values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gauss_flows.columns.kinds import Category, Integer, Interval, Kind, Real
from gauss_flows.columns.tables import Table, is_number, missing_in

_WORDS = ("auto", "real", "positive", "integer", "category")
_LARGEST = 2.0**52
_FORMS = f"one of {', '.join(map(repr, _WORDS))} or a pair (low, high)"


def kinds_of(table: Table, support: Any, name: str) -> list[Kind]:
    """Find the kind of every column.

    Args:
        table: The rows to fit.
        support: A word or a pair (low, high) for all columns, one for each, or a mapping from
            names (in a data frame) or numbers of columns to them; what is not mentioned, or None,
            is `auto`: truth values, categories and texts are categories, a data frame's whole
            numbers are integers, and everything else is real.
        name: What messages call the table.

    Returns:
        One kind for each column.

    Raises:
        ValueError: If the support is none of these, or a column has values outside it; the row and
            column are named.
    """
    kinds = []
    for place, word in enumerate(_asked(table, support)):
        if word is None or word == "auto":
            word = _own(table, place)
        column = table.columns[place]
        if word == "category" and getattr(table.dtypes[place], "kind", "") == "b":
            column = _truth_values(column)
        kinds.append(_kind(column, word, table.names[place], name))
    return kinds


def _asked(table: Table, support: Any) -> list[Any]:
    n_columns = len(table.columns)
    if isinstance(support, Mapping):
        asked: list[Any] = [None] * n_columns
        for key, word in support.items():
            asked[_place(table, key)] = word
        return asked
    if support is None or isinstance(support, str) or _is_pair(support):
        return [support] * n_columns
    if isinstance(support, Sequence | np.ndarray) and len(support) == n_columns:
        return list(support)
    raise ValueError(
        f"Expected support to be {_FORMS}, a list of {n_columns} of these, or a mapping from "
        f"columns to them; got {support!r}."
    )


def _place(table: Table, key: Any) -> int:
    labels = table.labels if table.labels is not None else list(range(len(table.columns)))
    if key in labels:
        return labels.index(key)
    raise ValueError(
        f"Expected support to name columns among {', '.join(map(repr, labels))}; got {key!r}."
    )


def _is_pair(word: Any) -> bool:
    # A tuple, since a list of two may be the kinds of two columns.
    return isinstance(word, tuple) and len(word) == 2 and all(is_number(w) for w in word)


def _own(table: Table, place: int) -> str:
    """The word for a column that nothing is said of."""
    if table.columns[place].dtype == object:
        return "category"
    type_kind = getattr(table.dtypes[place], "kind", "")
    if type_kind == "b":
        return "category"
    # In an array one type serves all columns, so whole numbers say little about each.
    return "integer" if table.labels is not None and type_kind in ("i", "u") else "real"


def _truth_values(column: NDArray[Any]) -> NDArray[Any]:
    """An array's truth values, which were read as numbers, under the names that messages say."""
    values = np.empty(len(column), object)
    missing = missing_in(column)
    values[:] = [None if gone else bool(v) for v, gone in zip(column, missing, strict=True)]
    return values


def _kind(column: NDArray[Any], word: Any, where: str, name: str) -> Kind:
    observed = column[~missing_in(column)]
    if not len(observed):
        raise ValueError(
            f"Expected values in every column of {name}; got none in {where}. Leave it out."
        )
    if isinstance(word, str) and word == "category":
        return Category.from_values(observed)
    if column.dtype == object:
        # Truth values count 0 and 1 for those who say so.
        if not all(is_number(value) or isinstance(value, bool) for value in observed):
            raise ValueError(
                f"Expected the support of {where} to be 'category', as it holds "
                f"{observed[0]!r}; got {word!r}."
            )
        observed = observed.astype(float)
    kind = _number_kind(word, where)
    largest = np.abs(observed).max()
    if isinstance(kind, Integer) and largest >= _LARGEST:
        raise ValueError(
            f"Expected whole numbers below 2**52 in {where} of {name}, which floats tell apart; "
            f"got {largest:.0f}. Subtract an offset, or turn them into text."
        )
    faults = ~kind.holds(observed)
    if faults.any():
        row = int(np.flatnonzero(~missing_in(column))[np.argmax(faults)])
        more = int(faults.sum()) - 1
        raise ValueError(
            f"Expected {kind} in {where} of {name}, as its support says; got {column[row]} in row "
            f"{row}{f' and {more} more such values' if more else ''}."
        )
    return kind


def _number_kind(word: Any, where: str) -> Kind:
    if isinstance(word, str):
        found = {"real": Real(), "positive": Interval(0.0, np.inf), "integer": Integer()}.get(word)
        if found is not None:
            return found
    elif _is_pair(tuple(word) if isinstance(word, list) else word):
        low, high = (float(bound) for bound in word)
        if low < high:
            return Real() if np.isinf(low) and np.isinf(high) else Interval(low, high)
    raise ValueError(f"Expected the support of {where} to be {_FORMS}, low < high; got {word!r}.")
