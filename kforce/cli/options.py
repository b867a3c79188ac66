"""Options that several commands share, and the models and outputs they name."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from zipfile import is_zipfile

from kforce.data.readers import format_of
from kforce.data.slices import FileSlice
from kforce.errors import InputError
from kforce.io import read_quip_xml, read_sgdml
from kforce.storage.files import load, refuse_structures
from kforce.storage.npz import read_arrays, require_readable, require_writable

#: What models of GAP hold within the first bytes.
_OF_GAP, _BYTES_OF_START = re.compile(rb"GAP_params|IP\s+GAP"), 2**16


def positive_int(text: str) -> int:
    """Parse a whole number above zero."""
    return _positive(int(text), text)


def whole_number(text: str) -> int:
    """Parse a whole number, zero or above."""
    return 0 if int(text) == 0 else positive_int(text)


def positive_float(text: str) -> float:
    """Parse a finite number above zero."""
    return _positive(float(text), text)


def _positive(value, text):
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def add_overwrite(parser: argparse.ArgumentParser) -> None:
    """Add the option that lets a command replace a file."""
    parser.add_argument(
        "--overwrite", action="store_true", help="replace the output if it exists"
    )


def add_splitting(parser: argparse.ArgumentParser, number=positive_int):
    """Add the options of test frames and of their choice; return the group.

    The number of test frames is parsed by a function.
    """
    none = "; 0: none" if number is whole_number else ""
    group = parser.add_argument_group("splitting")
    group.add_argument(
        "--n-test",
        type=number,
        metavar="N",
        help=f"test frames (default: a fifth of the frames, at most 1000{none})",
    )
    group.add_argument("--seed", type=int, default=0, help="default: 0")
    return group


def load_model(path):
    """Load a model of kforce, or one of sGDML or, as XML, of GAP."""
    if not _is_xml(path):
        refuse_structures(path)
    kind = model_format(path)
    if kind is None and _is_xml(path):
        raise InputError(
            f"{path} is no model of GAP, but holds structures that ASE reads as "
            f"{format_of(Path(path))!r}: the model comes first, then the structures."
        )
    return {"gap": read_quip_xml, "sgdml": read_sgdml}.get(kind, load)(path)


def model_format(path) -> str | None:
    """Return whose model a file is, by its name and content; None if it is none.

    That is 'gap', 'sgdml' (in today's or in the 2018 layout) or 'kforce'.
    """
    path = FileSlice.parse(path).path
    if _is_xml(path):
        return "gap" if _may_be_gap(path) else None
    if path.suffix.lower() != ".npz" and not is_zipfile(path):
        return None
    fields = read_arrays(path, names=("R_desc", "Rt_desc", "format"))
    if fields.keys() & {"R_desc", "Rt_desc"}:
        return "sgdml"
    return "kforce" if fields else None


def _is_xml(path):
    return Path(path).suffix.lower() == ".xml"


def _may_be_gap(path):
    """Whether a file of XML speaks of GAP, or is at least nothing that ASE knows."""
    require_readable(path, "a file of XML")
    with open(path, "rb") as stream:
        if _OF_GAP.search(stream.read(_BYTES_OF_START)):
            return True
    try:
        format_of(path)
    except InputError:
        return True  # the reader of GAP says what is wrong
    return False


def new_file(path, overwrite: bool) -> Path:
    """Return the path of a file that may be written."""
    path = Path(path)
    if os.path.isfile(path) and not overwrite:
        raise InputError(
            f"{path} exists: name another file, or add --overwrite to replace it."
        )
    if not path.parent.is_dir():
        raise InputError(f"The folder {path.parent} does not exist: make it first.")
    if not os.access(path.parent, os.W_OK):
        raise InputError(
            f"The folder {path.parent} may not be written to: name a file elsewhere."
        )
    require_writable(path)
    return path


def require_suffix(path: Path, suffix: str) -> None:
    """Raise an error unless a file name ends as its content demands."""
    if path.suffix != suffix:
        raise InputError(
            f"The name of this kind of output ends in {suffix}, found {path.name}."
        )
