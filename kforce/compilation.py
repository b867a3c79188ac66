"""A place for compiled code where Numba finds none.

Numba keeps compiled functions beside their source or in the user's cache folder, and
refuses to define one where neither can be written to, as in a container or in a central
installation. They are kept in a private temporary folder then, until the process ends.
"""

from __future__ import annotations

import atexit
import logging
import os
import shutil
import tempfile
from functools import cache
from pathlib import Path

from numba.core.caching import (
    CacheImpl,
    _CacheLocator,
    _SourceFileBackedLocatorMixin,
)

log = logging.getLogger("kforce.compilation")

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
