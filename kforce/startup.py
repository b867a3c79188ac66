"""How an interruption ends the program while it still imports.

`import kforce` takes a second or two, and comes before any code of the command line. A
Ctrl-C in that time is no error to trace. In other programs nothing is changed.
"""

from __future__ import annotations

import os
import sys


def _is_program() -> bool:
    """Whether this process is `kforce` or `python -m kforce`."""
    name = sys.argv[0] if sys.argv else ""
    if name == "-m":  # as long as the module is not found
        return not {"kforce", "-mkforce", "kforce.cli"}.isdisjoint(sys.orig_argv)
    return os.path.basename(name).removesuffix(".exe") == "kforce"


def _show(kind, error, trace):
    """Stand in for `sys.excepthook`; Python ends as the signal demands after it."""
    if issubclass(kind, KeyboardInterrupt):
        sys.stderr.write("kforce: error: Interrupted.\n")
    else:
        sys.__excepthook__(kind, error, trace)


if _is_program():
    sys.excepthook = _show
