"""From a list of `ase.Atoms` to flat arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.errors import InputError

#: Coordinates are smaller than this, in Å: products of larger ones may overflow.
FARTHEST = 1e10

_HEAVIEST = 118


@dataclass(frozen=True)
class Batch:
    """Structures as flat arrays.

    Structure s owns the atoms ``offsets[s]:offsets[s + 1]`` of `numbers`
    (n_atoms_total,) and `positions` (n_atoms_total, 3) in Å. `cells` (n_structures, 3,
    3) are cell vectors as rows, in Å, `pbc` (n_structures, 3) the periodic directions.
    """

    numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> Batch:
        """Flatten a list of `ase.Atoms`.

        Raises `InputError` if the list is empty, holds something else, a frame without
        atoms, unknown elements, or positions that are not finite.

        >>> from ase.build import molecule
        >>> Batch.from_frames([molecule("H2O"), molecule("CH4")]).offsets
        array([0, 3, 8])
        """
        frames = as_frames(frames)
        positions = np.concatenate([f.positions for f in frames], dtype=float)
        near = (np.abs(positions) < FARTHEST).all(axis=1)
        offsets = np.cumsum([0] + [len(f) for f in frames])
        if not near.all():
            atom = np.flatnonzero(~near)[0]
            s = np.searchsorted(offsets, atom, side="right") - 1
            if np.isfinite(positions[atom]).all():
                raise InputError(
                    f"Positions must be within {FARTHEST:g} Å, found an atom at "
                    f"{np.abs(positions[atom]).max():g} Å in frame {s}: correct or "
                    "remove that frame."
                )
            raise InputError(
                f"Positions must be finite numbers; frame {s} holds NaN or infinity. "
                "Remove that frame."
            )
        return cls(
            numbers=np.concatenate([f.numbers for f in frames]),
            positions=positions,
            offsets=offsets,
            cells=np.array([f.cell.array for f in frames], dtype=float),
            pbc=np.array([f.pbc for f in frames]),
        )

    @property
    def n_structures(self) -> int:
        """Number of structures."""
        return len(self.offsets) - 1

    def take(self, structures: np.ndarray) -> Batch:
        """Return some of the structures."""
        sizes = np.diff(self.offsets)[structures]
        starts = self.offsets[structures]
        atoms = [np.arange(a, a + n) for a, n in zip(starts, sizes, strict=True)]
        atoms = np.concatenate(atoms)
        return Batch(
            self.numbers[atoms],
            self.positions[atoms],
            np.concatenate([[0], np.cumsum(sizes)]),
            self.cells[structures],
            self.pbc[structures],
        )


def as_frames(frames) -> list[Atoms]:
    """Return `frames` as a non-empty list of `ase.Atoms` that all hold atoms.

    Raises `InputError` if it is not one.
    """
    if isinstance(frames, Atoms):
        raise InputError(
            "Expected a list of ase.Atoms, found a single Atoms: write [atoms]."
        )
    if isinstance(frames, str | os.PathLike):
        raise InputError(
            f"Expected a list of ase.Atoms, found {str(frames)!r}: read the file, "
            "kforce.read_frames(path)."
        )
    try:
        frames = list(frames)
    except TypeError:
        raise InputError(
            f"Expected a list of ase.Atoms, found {type(frames).__name__}."
        ) from None
    if not frames:
        raise InputError("Expected at least one structure, found an empty list.")
    for s, frame in enumerate(frames):
        if not isinstance(frame, Atoms):
            raise InputError(
                f"Expected a list of ase.Atoms, found {type(frame).__name__} at "
                f"position {s}."
            )
        if len(frame) == 0:
            raise InputError(f"Frame {s} holds no atoms: remove it.")
    numbers = np.concatenate([frame.numbers for frame in frames])
    if numbers.min() < 0 or numbers.max() > _HEAVIEST:
        strange = (numbers < 0) | (numbers > _HEAVIEST)
        ends = np.cumsum([len(frame) for frame in frames])
        s = np.searchsorted(ends, np.argmax(strange), side="right")
        raise InputError(
            f"Atomic numbers must be at most {_HEAVIEST} and not negative, found "
            f"{numbers[strange][0]} in frame {s}: correct it."
        )
    return frames


def first_unknown(
    frames: Sequence[Atoms], species: Sequence[int]
) -> tuple[int, str] | None:
    """Return the first frame with an element not in `species`, and that element.

    The frame is a number; None where there is none.
    """
    for s, frame in enumerate(frames):
        new = np.setdiff1d(frame.numbers, species)
        if len(new):
            return s, chemical_symbols[new[0]]
    return None


def is_isolated(frame: Atoms) -> bool:
    """Whether a frame is one atom without periodic images."""
    return len(frame) == 1 and not frame.pbc.any()
