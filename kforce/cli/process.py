"""The process of the program: signals that end it, and its standard streams.

Signals become exceptions, so that what has been begun is cleared away. Streams may be
closed, full, or without letters such as Å.
"""

from __future__ import annotations

import codecs
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

#: How letters and signs of messages are written where there is ASCII alone.
_ASCII = {
    "Å": "A",
    "³": "^3",
    "²": "^2",
    "α": "alpha",
    "δ": "delta",
    "ε": "epsilon",
    "σ": "sigma",
    "±": "+-",
    "×": "x",
    "−": "-",
    "∂": "d",
    "∝": "~",
    "√": "sqrt ",
    "…": "...",
}


class Stopped(KeyboardInterrupt):
    """Raised where a signal arrives that asks the program to end."""

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
    """Return what shells expect of a program that a signal has ended."""
    return 128 + getattr(error, "number", signal.SIGINT)


def reason(error: KeyboardInterrupt) -> str:
    """Name the signal, as 'Interrupted' or 'Terminated'."""
    if isinstance(error, Stopped):
        return signal.strsignal(error.number) or f"Signal {error.number}"
    return "Interrupted"


def _spelled(error):
    """Spell the letters that a stream does not have; '?' for unknown ones."""
    letters = error.object[error.start : error.end]
    return "".join(_ASCII.get(letter, "?") for letter in letters), error.end


def open_streams() -> None:
    """Let every standard stream take what is printed.

    A stream that the caller has closed becomes the null device. Its descriptor must
    not go to a file: compiled libraries write to descriptors 1 and 2 by number.
    """
    codecs.register_error("kforce.spelled", _spelled)
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, mode, encoding="utf-8"))  # noqa: SIM115
        elif mode == "w" and hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="kforce.spelled")


def drop_unwritten() -> None:
    """Forget what a stream does not take, lest the interpreter tries again."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
