"""What a file of structures promises, compared with its size before it is read.

The first lines of a frame say how many atoms and columns there are, and readers believe
them: a few bytes can keep them busy for ever or ask for all of the memory. So can
compressed files that unfold to many times their size.
"""

from __future__ import annotations

import re
from io import TextIOWrapper
from itertools import islice
from pathlib import Path

from ase.io.extxyz import key_val_str_to_dict
from ase.io.formats import get_compression, open_with_compression

from kforce.errors import InputError

#: A compressed file may unfold to so many bytes, or to so many times its own size.
_MOST_UNFOLDED, _MOST_RATIO = 64 * 2**20, 100

_CHUNK = 2**20

#: A count of columns that is worth a closer look.
_MANY_COLUMNS = re.compile(r":\s*\+?[\d_]{5,}")


def check_promises(path: Path, format: str) -> None:
    """Raise an error if a file cannot hold what it says that it holds.

    Frames are looked at in files of XYZ, as a format of ASE is called. A damaged file
    raises errors of many kinds.
    """
    size = _unfolded_size(path)
    if format not in ("xyz", "extxyz"):
        return
    binary = open_with_compression(str(path), "rb")
    with TextIOWrapper(binary, encoding="utf-8", errors="replace") as stream:
        left, frame = size, 0
        while line := stream.readline():
            if line.lstrip().startswith("VEC"):  # a cell after the atoms
                left -= len(line)
                continue
            try:
                n_atoms = int(line)
            except ValueError:
                return  # the reader will say so
            comment = stream.readline()
            left -= len(line) + len(comment)
            for what, n in (("atoms", n_atoms), ("columns", _n_columns(comment))):
                if n > left:
                    raise InputError(
                        f"Frame {frame} of {path} promises {n:,} {what}, but at most "
                        f"{max(left, 0):,} bytes follow: it is damaged or cut off, get "
                        "a fresh copy."
                    )
            left -= sum(map(len, islice(stream, max(n_atoms, 0))))
            frame += 1


def _unfolded_size(path):
    """Return the size of a file in bytes, after it has been unfolded."""
    size = path.stat().st_size
    if get_compression(str(path))[1] is None:
        return size
    most, unfolded = max(_MOST_UNFOLDED, _MOST_RATIO * size), 0
    with open_with_compression(str(path), "rb") as stream:
        while chunk := stream.read(_CHUNK):
            unfolded += len(chunk)
            if unfolded > most:
                raise InputError(
                    f"{path} has {size:,} bytes and unfolds to more than {most:,}, "
                    "which structures do not: unpack it yourself if you trust it."
                )
    return unfolded


def _n_columns(comment):
    """Return the columns that a line of extended XYZ promises, 0 if just a few."""
    if not _MANY_COLUMNS.search(comment):
        return 0
    try:
        properties = key_val_str_to_dict(comment)["Properties"]
        return sum(abs(int(count)) for count in properties.split(":")[2::3])
    except (AttributeError, LookupError, ValueError):
        return 0  # none, or the reader will say what is wrong with them
