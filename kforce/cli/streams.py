"""Standard streams as they may be: closed, full, or without letters such as Å."""

from __future__ import annotations

import codecs
import os
import sys
from contextlib import suppress

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
