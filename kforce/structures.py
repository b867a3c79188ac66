"""From a list of `ase.Atoms` to flat arrays, and the labels that the frames carry.

A structure is an `ase.Atoms`; a data set is a list of them. `Batch` is the same
list as flat arrays with offsets, which is what descriptors work on; `Labels` are
the energies and forces found on the frames, with NaN where there is none.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.data import chemical_symbols

from kforce.errors import InputError


@dataclass(frozen=True)
class Batch:
    """Structures as flat arrays.

    Attributes
    ----------
    numbers : ndarray of shape (n_atoms_total,)
        Atomic numbers.
    positions : ndarray of shape (n_atoms_total, 3)
        Positions in Å.
    offsets : ndarray of shape (n_structures + 1,)
        Structure s owns the atoms ``offsets[s]:offsets[s + 1]``.
    cells : ndarray of shape (n_structures, 3, 3)
        Cell vectors as rows, in Å.
    pbc : ndarray of shape (n_structures, 3)
        Periodic directions.
    """

    numbers: np.ndarray
    positions: np.ndarray
    offsets: np.ndarray
    cells: np.ndarray
    pbc: np.ndarray

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> Batch:
        """Flatten a list of `ase.Atoms`.

        Raises
        ------
        InputError
            If the list is empty, holds something else than `ase.Atoms`, a frame
            without atoms, or positions that are not finite.

        Examples
        --------
        >>> from ase.build import molecule
        >>> Batch.from_frames([molecule("H2O"), molecule("CH4")]).offsets
        array([0, 3, 8])
        """
        frames = as_frames(frames)
        positions = np.concatenate([f.positions for f in frames])
        finite = np.isfinite(positions).all(axis=1)
        offsets = np.cumsum([0] + [len(f) for f in frames])
        if not finite.all():
            s = np.searchsorted(offsets, np.flatnonzero(~finite)[0], side="right") - 1
            raise InputError(
                f"Positions must be finite numbers; frame {s} holds NaN or infinity. "
                "Remove that frame."
            )
        return cls(
            numbers=np.concatenate([f.numbers for f in frames]),
            positions=positions,
            offsets=offsets,
            cells=np.array([f.cell.array for f in frames]),
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

    Raises
    ------
    InputError
        If it is not one.
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
    return frames


def first_unknown(
    frames: Sequence[Atoms], species: Sequence[int]
) -> tuple[int, str] | None:
    """Return the number of the first frame with an element not in `species`, and it.

    None where there is none.
    """
    for s, frame in enumerate(frames):
        new = np.setdiff1d(frame.numbers, species)
        if len(new):
            return s, chemical_symbols[new[0]]
    return None


def is_isolated(frame: Atoms) -> bool:
    """Whether a frame is one atom without periodic images."""
    return len(frame) == 1 and not frame.pbc.any()


@dataclass(frozen=True)
class Labels:
    """Reference energies and forces of a list of frames; NaN where there is none.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        Energies in eV.
    forces : list of ndarray of shape (n_atoms, 3)
        Forces in eV/Å.
    noise_energy : ndarray of shape (n_structures,) or None
        Standard deviations of the energies in eV per atom (× √n_atoms).
    noise_forces : list of ndarray of shape (n_atoms,) or None
        Standard deviations of the force components in eV/Å.
    """

    energy: np.ndarray
    forces: list[np.ndarray]
    noise_energy: np.ndarray | None = None
    noise_forces: list[np.ndarray] | None = None

    @classmethod
    def from_frames(cls, frames: Sequence[Atoms]) -> Labels:
        """Read the labels that the frames' calculators hold.

        Standard deviations of their noise are read from ``info["noise_energy"]``,
        ``info["noise_forces"]`` and, atom by atom, ``arrays["noise_forces"]``.

        Raises
        ------
        InputError
            If a label is infinite or has a wrong shape, or a noise is not a positive
            number. NaN means "no label", or "no noise of its own".

        Examples
        --------
        >>> from kforce.datasets import load_methanol_ccsdt
        >>> Labels.from_frames(load_methanol_ccsdt()[:2]).energy
        array([-3140.66..., -3140.32...])
        """
        frames = as_frames(frames)
        energy = np.full(len(frames), np.nan)
        forces = []
        for s, frame in enumerate(frames):
            e = read_label(frame, s, "energy", frame.get_potential_energy)
            if e.size != 1:
                raise InputError(
                    f"The energy of frame {s} must be one number, found {e.size}."
                )
            energy[s] = e.item()
            f = read_label(frame, s, "forces", frame.get_forces)
            if f.ndim == 0:
                f = np.full((len(frame), 3), float(f))
            if f.shape != (len(frame), 3):
                raise InputError(
                    f"Forces of frame {s} must have shape ({len(frame)}, 3), found "
                    f"{f.shape}."
                )
            if np.isinf(energy[s]) or np.isinf(f).any():
                raise InputError(
                    f"Labels must be finite; frame {s} holds infinity. Remove that "
                    "frame, or set the value to NaN to leave it out of the fit."
                )
            forces.append(f)
        return cls(energy, forces, *_noises(frames))

    def take(self, chosen: Sequence[int]) -> Labels:
        """Return the labels of some frames."""
        energy, noise = self.energy, self.noise_energy
        lists = [
            None if values is None else [values[s] for s in chosen]
            for values in (self.forces, self.noise_forces)
        ]
        noise = None if noise is None else noise[chosen]
        return Labels(energy[chosen], lists[0], noise, lists[1])

    def above(self, energy: np.ndarray, forces: Sequence[np.ndarray]) -> Labels:
        """Return what the labels are above energies and forces of another model."""
        pairs = zip(self.forces, forces, strict=True)
        left = [own - other for own, other in pairs]
        return replace(self, energy=self.energy - energy, forces=left)

    @property
    def has_forces(self) -> np.ndarray:
        """Which frames have the force on at least one atom, (n_structures,)."""
        return np.array([np.isfinite(f).all(axis=1).any() for f in self.forces])


def _noises(frames):
    """Read the noises of energies and of forces; None where no frame has any."""
    energy = [_noise(f.info, "noise_energy", (), s) for s, f in enumerate(frames)]
    energy = np.array(energy)
    forces = []
    for s, frame in enumerate(frames):
        whole = _noise(frame.info, "noise_forces", (), s)
        own = _noise(frame.arrays, "noise_forces", (len(frame),), s)
        forces.append(np.where(np.isnan(own), whole, own))
    return (
        energy if np.isfinite(energy).any() else None,
        forces if any(np.isfinite(f).any() for f in forces) else None,
    )


def _noise(values, name, shape, s):
    if name not in values:
        return np.full(shape, np.nan)
    try:
        found = np.asarray(values[name], dtype=float)
    except (TypeError, ValueError):
        found = np.array(-1.0)
    if found.shape != shape or (found <= 0).any() or np.isinf(found).any():
        raise InputError(
            f"{name} of frame {s} must be positive standard deviations of shape "
            f"{shape}, found {values[name]!r}."
        )
    return found


def read_label(frame, s, name, method):
    """Return a label as an array, as computed, without constraints; NaN if none.

    Parameters
    ----------
    frame : ase.Atoms
        With a calculator, or without.
    s : int
        Number of the frame, for messages.
    name : str
        Of the label.
    method : callable
        The frame's method that returns it.

    Raises
    ------
    InputError
        If the frame was changed after the label was computed, or it is no number.
    """
    if frame.calc is None:
        return np.array(np.nan)
    try:
        value = method(apply_constraint=False)
    except (PropertyNotImplementedError, NotImplementedError):
        if getattr(frame.calc, "results", {}).get(name) is None:
            return np.array(np.nan)
        raise InputError(
            f"Frame {s} was changed after its {name} was computed (moved, wrapped, or "
            "given another cell), so the label no longer belongs to it: label it again "
            "or attach the label to the changed frame."
        ) from None
    except (AssertionError, TypeError, ValueError) as error:
        raise InputError(
            f"The {name} of frame {s} is not what ASE expects ({error}): correct it."
        ) from None
    try:
        return np.array(np.nan if value is None else value, dtype=float)
    except (TypeError, ValueError):
        raise InputError(
            f"The {name} of frame {s} must be numbers, found {str(value)[:40]!r}."
        ) from None
