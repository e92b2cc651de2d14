"""Ctrl-C ends the process of the command, whatever is running."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from typing import NoReturn

INTERRUPTED = 130  # 128 + SIGINT, as shells have it
# An interrupt that nobody holds up has removed its temporary files long before.
_GRACE_SECONDS = 2.0
_arrived = threading.Event()


def end_on_interrupt() -> None:
    """Make an interrupt end the process even where the exception is lost.

    Python drops a `KeyboardInterrupt` that arrives in a callback of the garbage collector, of
    which JAX has one, and delivers none during a long call into XLA. A process that was started
    with interrupts ignored, in the background, goes on ignoring them.
    """
    if threading.current_thread() is not threading.main_thread():
        return
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def check_interrupt() -> None:
    """Raise `KeyboardInterrupt` if one arrived and was lost: before a file is replaced."""
    if _arrived.is_set():
        raise KeyboardInterrupt


def leave(code: int) -> NoReturn:
    """End the process without taking the interpreter down in order.

    A computation that an interrupt left running in XLA's threads reads memory which an orderly end
    frees, and the process would die of a segmentation fault instead.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the impatient press twice
    _flush()
    os._exit(code)


def _interrupt(*_: object) -> NoReturn:
    _arrived.set()
    threading.Thread(target=_end_after_grace, daemon=True).start()
    raise KeyboardInterrupt


def _end_after_grace() -> NoReturn:
    time.sleep(_GRACE_SECONDS)
    print("gauss-flows: interrupted", file=sys.stderr)
    _flush()
    os._exit(INTERRUPTED)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
