"""What comes before all that takes time or is compiled.

`import kforce` takes a second or two, and comes before any code of the command line. A
Ctrl-C in that time is no error to trace. In other programs nothing is changed.

Numba keeps compiled functions beside their source or in the user's cache folder, and
refuses to define one where neither can be written to, as in a container or in a central
installation. They are kept in a private temporary folder then, until the process ends.
"""

# ruff: noqa: E402
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

# An interruption while these are imported is caught already.
import atexit
import logging
import shutil
import tempfile
from functools import cache
from pathlib import Path

from numba.core.caching import CacheImpl, _CacheLocator, _SourceFileBackedLocatorMixin

log = logging.getLogger("kforce.startup")

_PACKAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


@cache
def _temporary_folder() -> Path:
    """Make the folder, which no other user can enter, and say so once."""
    try:
        folder = tempfile.mkdtemp(prefix="kforce-")
    except OSError as error:
        raise RuntimeError(
            "kforce compiles its functions, and found no folder to keep them in: set "
            "NUMBA_CACHE_DIR to one that can be written to."
        ) from error
    atexit.register(_remove, folder, os.getpid())
    log.warning(
        "kforce found no folder to keep compiled functions in: they are compiled anew "
        "in every process, which takes a minute. Set NUMBA_CACHE_DIR to a folder of "
        "yours to keep them."
    )
    return Path(folder)


def _remove(folder, owner) -> None:
    """Remove the folder, unless this is a fork of the process that made it."""
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


class _TemporaryLocator(_SourceFileBackedLocatorMixin, _CacheLocator):
    """What Numba asks for a folder when all of its own locators have given up."""

    def __init__(self, py_func, py_file):
        self._py_file = py_file
        self._lineno = py_func.__code__.co_firstlineno

    def get_cache_path(self):
        return str(_temporary_folder() / self.get_suitable_cache_subpath(self._py_file))

    @classmethod
    def from_function(cls, py_func, py_file):
        if not os.path.abspath(py_file).startswith(_PACKAGE):
            return None
        return super().from_function(py_func, py_file)


CacheImpl._locator_classes = [*CacheImpl._locator_classes, _TemporaryLocator]
