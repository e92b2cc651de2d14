"""`gauss-flows information`: entropy and dependence of a table's columns."""

from __future__ import annotations

import warnings
from argparse import Namespace
from collections.abc import Callable
from typing import Any, TypeVar

from gauss_flows.cli import tables
from gauss_flows.cli.checks import check_finite
from gauss_flows.cli.errors import InputError, listed, warn
from gauss_flows.cli.report import as_json
from gauss_flows.information import measures, mutual_information
from gauss_flows.information.tables import NamedRows
from gauss_flows.numerics.estimate import Estimate
from gauss_flows.selection.words import counted, shown

_Found = TypeVar("_Found")


def run(arguments: Namespace) -> None:
    """Measure the table and print what was found."""
    named = [name for block in arguments.between or () for name in block]
    twice = [name for name in dict.fromkeys(named) if named.count(name) > 1]
    if twice:
        raise InputError(f"--between names {listed(twice)} more than once")
    # A column that no block has may hold anything.
    table = tables.read_table(
        arguments.table, columns=named or arguments.columns, exclude=arguments.exclude
    )
    if gone := [name for name in named if name not in table.columns]:
        raise InputError(f"--exclude leaves out {listed(gone)}, which --between names")
    check_finite(table)
    names = table.columns
    blocks = [[names.index(name) for name in block] for block in arguments.between or ()]

    def rows(places: list[int]) -> Any:  # what the checks take for a data frame
        return NamedRows(table.values[:, places], [table.columns[i] for i in places])

    found: dict[str, Estimate]
    if blocks:
        first, second = (rows(block) for block in blocks)
        seed = arguments.seed
        value = _told(lambda: mutual_information(first, second, random_state=seed))
        found = {"mutual_information": value}
    else:
        every = _told(lambda: measures(rows(list(range(len(names)))), random_state=arguments.seed))
        found = every._asdict()
    if arguments.json:
        said: dict[str, Any] = {"table": arguments.table, "n_rows": len(table.values)}
        said["columns"] = list(names)
        if blocks:
            said["between"] = [[table.columns[place] for place in block] for block in blocks]
        print(as_json({**said, "unit": "nats", **found}))
        return
    print(f"{arguments.table}: {counted(len(table.values), 'row')}, {listed(names)}; in nats")
    if blocks:
        sides = [listed(table.columns[place] for place in block) for block in blocks]
        print(f"  between {sides[0]} and {sides[1]}")
    width = max(map(len, found))
    for name, value in found.items():
        print(f"  {name.replace('_', ' '):{width}s}  {shown(value)}")


def _told(measure: Callable[[], _Found]) -> _Found:
    """Measure, with faults and warnings told as the command line tells them."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            found = measure()
        except ValueError as fault:
            raise InputError(f"{fault} (--exclude leaves columns out)") from None
    for message in dict.fromkeys(
        str(w.message) for w in caught if issubclass(w.category, UserWarning)
    ):
        warn(message)
    return found
