"""What the command line says when the input is at fault."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable

# A slip of the keyboard leaves at least this share of a name; what is less like it is a guess.
_ALIKE = 0.7


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
        >>> suggestion("--bogus", ["--columns"])
        ''
    """
    # The dashes that all options begin with would make strangers look alike.
    bare = {candidate.lstrip("-"): candidate for candidate in known}
    close = difflib.get_close_matches(name.lstrip("-"), list(bare), n=1, cutoff=_ALIKE)
    return f"; did you mean '{bare[close[0]]}'?" if close else ""
