"""Signals that end the program, as exceptions: what it has begun is cleared away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Stopped(KeyboardInterrupt):
    """Raised where a signal arrives that asks the program to end.

    Parameters
    ----------
    number : int
        Of the signal.
    """

    def __init__(self, number: int):
        super().__init__(number)
        self.number = number


def _stop(number, frame):
    raise Stopped(number)


@contextmanager
def signals_raised() -> Iterator[None]:
    """Raise `Stopped` for SIGTERM and SIGHUP, unless they are ignored or handled."""
    changed = []
    if threading.current_thread() is threading.main_thread():  # the rest may not
        for name in ("SIGTERM", "SIGHUP"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) == signal.SIG_DFL:
                signal.signal(number, _stop)
                changed.append(number)
    try:
        yield
    finally:
        for number in changed:
            signal.signal(number, signal.SIG_DFL)


def exit_code(error: KeyboardInterrupt) -> int:
    """Return what shells expect of a program that a signal has ended.

    Examples
    --------
    >>> exit_code(KeyboardInterrupt()), exit_code(Stopped(15))
    (130, 143)
    """
    return 128 + getattr(error, "number", signal.SIGINT)


def reason(error: KeyboardInterrupt) -> str:
    """Name the signal, as 'Interrupted' or 'Terminated'."""
    if isinstance(error, Stopped):
        return signal.strsignal(error.number) or f"Signal {error.number}"
    return "Interrupted"
