"""Some of the frames of a file, named as in ``file.xyz@:50``."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ase import Atoms

from kforce.data.findings import plural
from kforce.errors import InputError


@dataclass(frozen=True)
class FileSlice:
    """The frames of a file that an index chooses, all of them if it is None.

    An index is written as in Python and in ASE, after the last @ of a name.
    """

    path: Path
    index: slice | None = None

    @classmethod
    def parse(cls, name: str | os.PathLike) -> FileSlice:
        """Split a name; that of a file that exists is taken as it is.

        Raises `InputError` if a file is followed by something else than an index.

        >>> FileSlice.parse("water.xyz@::10").index
        slice(None, None, 10)
        >>> FileSlice.parse("water.xyz@3").index
        slice(3, 4, None)
        """
        whole = Path(name)
        file, at, text = os.fspath(whole).rpartition("@")
        if not (file and at) or os.path.lexists(whole):
            return cls(whole)
        try:
            return cls(Path(file), _index(text))
        except ValueError:
            if not os.path.lexists(file):
                return cls(whole)  # of which will be said that it is not there
        raise InputError(
            f"Expected frames such as {file}@:50, {file}@::10 or {file}@3, found "
            f"{whole}: write START:STOP:STEP or a number after the @."
        )

    def choose(self, frames: Iterable[Atoms]) -> tuple[list[int], list[Atoms]]:
        """Return the numbers in the file of the chosen frames, and these frames.

        No more frames are asked for than up to the last one that may be chosen. Raises
        `InputError` if there are frames, but none that the index chooses.
        """
        frames = iter(frames)
        index = self.index or slice(None)
        from_front = all(part is None or part >= 0 for part in _parts(index))
        seen = list(enumerate(islice(frames, index.stop if from_front else None)))
        chosen = seen[index]
        if not chosen and (total := len(seen) + sum(1 for _ in frames)):
            raise InputError(
                f"Expected frames of {self.path}, but {self} chooses none of its "
                f"{plural(total, 'frame')}, which count from 0 to {total - 1}: choose "
                "others."
            )
        return [number for number, _ in chosen], [frame for _, frame in chosen]

    def __str__(self) -> str:
        """Return the name as it would be written."""
        if self.index is None:
            return str(self.path)
        parts = ["" if part is None else str(part) for part in _parts(self.index)]
        return f"{self.path}@{':'.join(parts if parts[2] else parts[:2])}"


def _parts(index):
    return index.start, index.stop, index.step


def _index(text):
    """Parse an index; ValueError if it is none."""
    if ":" not in text:
        start = int(text)
        return slice(start, start + 1 or None)
    parts = [int(part) if part.strip() else None for part in text.split(":")]
    if len(parts) > 3 or (len(parts) == 3 and parts[2] == 0):
        raise ValueError(text)
    return slice(*parts)
