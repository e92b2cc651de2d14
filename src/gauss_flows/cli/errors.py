"""What the command line says when the input is at fault."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable


class InputError(Exception):
    """A fault of the user's input, told in one line; the command ends with exit code 2."""


def warn(message: str) -> None:
    """Print one warning line on stderr."""
    print(f"gauss-flows: warning: {message}", file=sys.stderr)


def listed(names: Iterable[str], limit: int = 8) -> str:
    """Join quoted names into one readable line, the many cut short.

    Example:
        >>> listed(["a", "b", "c"], limit=2)
        "'a', 'b' and 1 more"
    """
    names = [f"'{name}'" for name in names]
    if len(names) <= limit:
        return ", ".join(names)
    return f"{', '.join(names[:limit])} and {len(names) - limit} more"


def suggestion(name: str, known: Iterable[str]) -> str:
    """Return a phrase that offers the closest known name, or nothing.

    Example:
        >>> suggestion("raduis", ["radius", "area"])
        "; did you mean 'radius'?"
    """
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"; did you mean '{close[0]}'?" if close else ""
