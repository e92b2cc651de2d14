"""An interrupt that arrives, wherever it falls, and what a fit says of it."""

from __future__ import annotations

import _thread
import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping
from typing import Any

# The history of a fit that ended so.
INTERRUPTED = {"stopped": "interrupted: this is the best so far."}

_DELAY = 0.05  # seconds, after which the callback has ended


def was_interrupted(history: Mapping[str, Any]) -> bool:
    """Say whether the user ended the fit that this is the history of."""
    return str(history.get("stopped", "")).startswith("interrupted")


@contextlib.contextmanager
def returning() -> Iterator[None]:
    """Deliver a `KeyboardInterrupt` once more that Python has dropped.

    It does so where one arrives in a callback of the garbage collector, of which JAX has one: the
    user has pressed Ctrl-C, and nothing would happen.
    """
    former = sys.unraisablehook

    def hook(dropped: Any) -> None:
        if dropped.exc_type is not None and issubclass(dropped.exc_type, KeyboardInterrupt):
            threading.Timer(_DELAY, _thread.interrupt_main).start()
        else:
            former(dropped)

    sys.unraisablehook = hook
    try:
        yield
    finally:
        sys.unraisablehook = former
