"""Data sets that commands read: files, and where each frame comes from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from ase import Atoms

from kforce.data import check_frames, reorder_atoms
from kforce.data.findings import plural
from kforce.data.readers import read_numbered
from kforce.data.slices import FileSlice
from kforce.errors import InputError

#: Findings that do not count for local models.
_OF_ONE_MOLECULE = "composition", "atom-order", "like-atom-order"


@dataclass(frozen=True)
class DataSet:
    """Frames, with the file of each and its number there, from 0 on."""

    frames: list[Atoms]
    files: list[str]
    numbers: list[int]

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self.frames)

    def take(self, indices: Iterable[int]) -> DataSet:
        """Return some of the frames."""
        indices = [int(s) for s in indices]
        return DataSet(
            *([values[s] for s in indices] for values in vars(self).values())
        )

    @property
    def names(self) -> list:
        """What messages call the frames: '12', and '12 of a.xyz' with several files."""
        if len(set(self.files)) < 2:
            return self.numbers
        pairs = zip(self.numbers, self.files, strict=True)
        return [f"{number} of {file}" for number, file in pairs]

    def by_file(self) -> dict[str, list[int]]:
        """Return the numbers of the frames of each file."""
        found = {}
        for file, number in zip(self.files, self.numbers, strict=True):
            found.setdefault(file, []).append(number)
        return found

    @contextmanager
    def named(self) -> Iterator[None]:
        """Let errors call frames by their names instead of their places in the list."""
        names = self.names

        def name(match):
            s = int(match[2])
            return f"{match[1]} {names[s] if s < len(names) else s}"

        try:
            yield
        except InputError as error:
            pattern = r"\b([Ff]rame|structure) (\d+)\b(?! of )"
            raise InputError(re.sub(pattern, name, str(error))) from error


def add_reading(parser) -> None:
    """Add the options that say how a data set is read."""
    group = parser.add_argument_group(
        "reading",
        "FILE@:50, FILE@::10 and FILE@3 stand for some of the frames of a file, which "
        "count from 0.",
    )
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
        metavar="E,L[,F]",
        help="units of energies, lengths and forces of the file, as in 'kcal/mol,Ang', "
        "'Hartree,Ang,Hartree/Bohr' or 'au' (default: eV and Å; for .npz files what "
        "they say, or kcal/mol and Å)",
    )
    group.add_argument(
        "--format",
        metavar="FORMAT",
        help="name that ASE has for the format of the file, such as extxyz or vasp-xml "
        "(default: by name and content)",
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


def read_data(paths: Sequence[str], args, output) -> DataSet:
    """Read the files of a data set as the options of `add_reading` say."""
    data = DataSet([], [], [])
    for path in paths:
        numbers, frames = read_numbered(
            path, args.energy_key, args.forces_key, args.units, args.format
        )
        count = plural(len(frames), "frame")
        output.note(f"read {count} of {formulas(frames)} from {path}")
        data.frames.extend(frames)
        data.files.extend([str(FileSlice.parse(path).path)] * len(frames))
        data.numbers.extend(numbers)
    if not args.reorder:
        return data
    with data.named():
        return DataSet(reorder_atoms(data.frames), data.files, data.numbers)


def formulas(frames) -> str:
    """Name the molecules of a data set."""
    names = sorted({frame.get_chemical_formula() for frame in frames})
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def check(train: DataSet, test: DataSet | None, output, kind: str = "gdml") -> None:
    """Report what is wrong with the data for a kind of model; errors end the command.

    Local models, "gap", are for frames of any composition.
    """
    names = train.names, test.names if test else []
    report = check_frames(train.frames, test.frames if test else None, names)
    report.raise_errors()
    for finding in report.findings:
        if kind == "gap" and finding.code in _OF_ONE_MOLECULE:
            continue
        if finding.level == "warning":
            output.warning(finding.message)
        else:
            output.note(f"{finding.level}: {finding.message}")
