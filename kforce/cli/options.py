"""Options that several commands share, and the files they name."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from zipfile import is_zipfile

from kforce.data import check_frames, read_frames, reorder_atoms
from kforce.data.findings import plural
from kforce.errors import InputError
from kforce.io import read_quip_xml, read_sgdml
from kforce.storage.files import load, refuse_structures
from kforce.storage.npz import read_arrays, require_writable


def positive_int(text: str) -> int:
    """Parse a whole number above zero."""
    return _positive(int(text), text)


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


def add_splitting(parser: argparse.ArgumentParser):
    """Add the options of test frames and of their choice; return the group."""
    group = parser.add_argument_group("splitting")
    group.add_argument(
        "--n-test",
        type=positive_int,
        metavar="N",
        help="test frames (default: a fifth of the frames, at most 1000)",
    )
    group.add_argument("--seed", type=int, default=0, help="default: 0")
    return group


def add_reading(parser: argparse.ArgumentParser) -> None:
    """Add the options that say how a data set is read."""
    group = parser.add_argument_group("reading")
    group.add_argument(
        "--energy-key",
        metavar="KEY",
        help="name of the energies in the file, where it is not the usual one",
    )
    group.add_argument(
        "--forces-key", metavar="KEY", help="name of the forces, likewise"
    )
    group.add_argument(
        "--units",
        metavar="E,L",
        help="units of the file, as in 'kcal/mol,Ang' or 'Hartree,Bohr' (default: eV "
        "and Å; for .npz files what they say, or kcal/mol and Å)",
    )
    group.add_argument(
        "--reorder",
        action="store_true",
        help="bring all frames into the atom order of the first, by their bonds",
    )


def refuse_reading(args, path, *more: str) -> None:
    """Raise an error if options are given that a model has no use for."""
    for name in ("energy_key", "forces_key", "reorder", *more):
        if getattr(args, name):
            option = "--" + name.replace("_", "-")
            raise InputError(
                f"{option} says how a data set is read, but {path} is a model: leave "
                f"{option} out."
            )


def read_data(path, args, output) -> list:
    """Read a data set as the options of `add_reading` say."""
    frames = read_frames(path, args.energy_key, args.forces_key, args.units)
    if args.reorder:
        frames = reorder_atoms(frames)
    count = plural(len(frames), "frame")
    output.note(f"read {count} of {formulas(frames)} from {path}")
    return frames


def formulas(frames) -> str:
    """Name the molecules of a data set."""
    names = sorted({frame.get_chemical_formula() for frame in frames})
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def check(train, test, output, kind: str = "gdml", numbers=None) -> None:
    """Report what is wrong with the data for a kind of model; errors end the command.

    Local models, "gap", are for frames of any composition. The numbers are those of
    `check_frames`.
    """
    report = check_frames(train, test or None, numbers)
    report.raise_errors()
    for finding in report.findings:
        if kind == "gap" and finding.code in ("composition", "atom-order"):
            continue
        if finding.level == "warning":
            output.warning(finding.message)
        else:
            output.note(f"{finding.level}: {finding.message}")


def load_model(path):
    """Load a model of kforce, or one of sGDML or, as XML, of GAP."""
    if Path(path).suffix.lower() != ".xml":
        refuse_structures(path)
    readers = {"gap": read_quip_xml, "sgdml": read_sgdml}
    return readers.get(model_format(path), load)(path)


def model_format(path) -> str | None:
    """Return whose model a file is, by its name and its fields; None if it is none.

    That is 'gap', 'sgdml' (in today's or in the 2018 layout) or 'kforce'.
    """
    suffix = Path(path).suffix.lower()
    if suffix == ".xml":
        return "gap"
    if suffix != ".npz" and not is_zipfile(path):
        return None
    fields = read_arrays(path, names=("R_desc", "Rt_desc", "format"))
    if fields.keys() & {"R_desc", "Rt_desc"}:
        return "sgdml"
    return "kforce" if fields else None


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
