"""Findings about a data set, in plain sentences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from ase import Atoms

from kforce.errors import InputError
from kforce.labels import Labels
from kforce.neighbours.unwrapping import unwrap
from kforce.structures import as_frames


@dataclass(frozen=True)
class Finding:
    """One observation about a data set, in a sentence or two.

    Errors cannot be used, warnings will probably spoil a model, notes inform. The code
    is a short name that stays the same, such as 'duplicates'.
    """

    level: str
    code: str
    message: str

    def __str__(self) -> str:
        """Return the level and the message."""
        return f"{self.level}: {self.message}"


@dataclass(frozen=True)
class Report:
    """The findings of `check_frames`, the worst first."""

    findings: list[Finding] = field(default_factory=list)

    def of_level(self, level: str) -> list[Finding]:
        """Return the findings of one level."""
        return [finding for finding in self.findings if finding.level == level]

    def raise_errors(self) -> None:
        """Raise the findings of level 'error', if there are any, as an `InputError`."""
        errors = self.of_level("error")
        if errors:
            raise InputError(" ".join(finding.message for finding in errors))

    def __str__(self) -> str:
        """Return one line a finding."""
        return "\n".join(map(str, self.findings)) or "no findings"


class LabelledSet:
    """Frames with labels, NaN where there is none or none that can be used.

    Molecules in boxes are put together, and their boxes left out.
    Messages number them as `numbers` do, by default by their positions.
    """

    def __init__(
        self, name: str, frames: Sequence[Atoms], numbers: Sequence[int] | None = None
    ):
        self.name = name
        frames = as_frames(frames)
        self.frames = [_without_box(frame) for frame in frames]
        self.numbers = range(len(self.frames)) if numbers is None else numbers
        self.bad_labels = []
        self.energy = np.full(len(self.frames), np.nan)
        self.forces = []
        for s, frame in enumerate(frames):
            if not np.isfinite(frame.positions).all():  # a finding of its own
                self.forces.append(np.full((len(frame), 3), np.nan))
                continue
            try:
                labels = Labels.from_frames([frame])
            except InputError:
                self.bad_labels.append(s)
                self.forces.append(np.full((len(frame), 3), np.nan))
            else:
                self.energy[s] = labels.energy[0]
                self.forces.append(labels.forces[0])

    def is_isolated(self, s: int) -> bool:
        """Whether frame s is a molecule in free space with all of its forces."""
        frame, forces = self.frames[s], self.forces[s]
        finite = np.isfinite(frame.positions).all() and np.isfinite(forces).all()
        return bool(len(frame) > 1 and not frame.pbc.any() and finite)

    def where(self, indices: Iterable[int]) -> str:
        """Name the first few frames: '(train frames 1, 5 and 3 more)'."""
        indices = [self.numbers[s] for s in indices]
        noun = "frame" if len(indices) == 1 else "frames"
        first = ", ".join(map(str, indices[:5]))
        more = f" and {len(indices) - 5} more" if len(indices) > 5 else ""
        return f"({self.name} {noun} {first}{more})"


def _without_box(frame):
    if not np.isfinite(frame.positions).all():
        return frame
    try:
        return unwrap(frame)
    except InputError:  # a crystal, or nothing that a fit would take
        return frame


def plural(count: int, noun: str) -> str:
    """Return '1 frame', '2 frames' and so on."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
