"""Frames from the `.npz` data sets of the field: sGDML, MD17 and rMD17."""

from __future__ import annotations

from itertools import chain
from pathlib import Path

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.errors import InputError
from kforce.storage.npz import as_text, read_arrays

#: What these files are in unless they say otherwise.
NPZ_UNITS = ("kcal/mol", "Ang")

# What sGDML and MD17 call a field, and what rMD17 calls it.
_FIELDS = {
    "numbers": ("z", "nuclear_charges"),
    "positions": ("R", "coords"),
    "energies": ("E", "energies"),
    "forces": ("F", "forces"),
}


def read_npz_frames(
    path: Path, energy_key: str | None = None, forces_key: str | None = None
) -> tuple[list[Atoms], tuple[str, str] | None]:
    """Read the frames of an `.npz` data set in the units of the file.

    The fields are ``z, R, E, F`` of sGDML and MD17 or ``nuclear_charges, coords,
    energies, forces`` of rMD17; `energy_key` and `forces_key` name others. Return the
    frames, with what the file holds of energies, forces and cell, and the units of
    energy and length that it names, None if it names neither. A damaged file is an
    `InputError`.
    """
    names = dict(_FIELDS)
    names |= {"energies": (energy_key,)} if energy_key else {}
    names |= {"forces": (forces_key,)} if forces_key else {}
    known = (*chain.from_iterable(names.values()), "lattice", "e_unit", "r_unit")
    arrays = read_arrays(path, known=known)
    found = {
        kind: next((arrays[name] for name in aliases if name in arrays), None)
        for kind, aliases in names.items()
    }
    given = (("energies", energy_key), ("forces", forces_key))
    for kind in ("numbers", "positions", *(kind for kind, key in given if key)):
        if found[kind] is None:
            raise InputError(
                f"Expected the {kind} in the field {' or '.join(names[kind])!r} of "
                f"{path}, found the fields {', '.join(arrays) or 'none'}."
            )
    _check_shapes(path, found)
    frames = _frames_of(found, _lattice(path, arrays))
    named = [as_text(arrays.get(name)) for name in ("e_unit", "r_unit")]
    if not any(named):
        return frames, None
    energy, length = (a or b for a, b in zip(named, NPZ_UNITS, strict=True))
    return frames, (energy, length)


def _check_shapes(path, found):
    for kind, array in found.items():
        if array is not None and array.dtype.kind not in "iuf":
            raise InputError(
                f"Expected numbers for the {kind} in {path}, found {array.dtype}."
            )
    if found["energies"] is not None:  # some MD17 files store (n_structures, 1)
        found["energies"] = found["energies"].reshape(-1)
    positions = found["positions"]
    n, n_atoms = len(positions) if positions.ndim else 0, found["numbers"].size
    expected = {
        "numbers": (n_atoms,),
        "positions": (n, n_atoms, 3),
        "energies": (n,),
        "forces": (n, n_atoms, 3),
    }
    for kind, array in found.items():
        if array is not None and (array.shape != expected[kind] or 0 in array.shape):
            raise InputError(
                f"Expected the {kind} in {path} to have the shape {expected[kind]} of "
                f"n_structures and n_atoms, found {array.shape}."
            )
    numbers = found["numbers"]
    in_range = numbers.min() >= 0 and numbers.max() <= 118  # False for NaN
    if not in_range or (np.mod(numbers, 1) != 0).any():
        raise InputError(f"Expected atomic numbers up to 118 in {path}, found others.")


def _lattice(path, arrays):
    """Return the cell vectors as rows; sGDML stores them as columns."""
    lattice = arrays.get("lattice")
    if lattice is None:
        return None
    if lattice.shape != (3, 3) or lattice.dtype.kind not in "iuf":
        raise InputError(
            f"Expected the lattice in {path} as 3 columns of 3 numbers, found "
            f"{lattice.dtype} of shape {lattice.shape}."
        )
    lattice = lattice.astype(float)
    if not np.isfinite(lattice).all() or np.linalg.matrix_rank(lattice) < 3:
        raise InputError(
            f"Expected 3 finite vectors that span a volume as the lattice in {path}, "
            "found others: leave the field out for a molecule in free space."
        )
    return lattice.T


def _frames_of(found, cell) -> list[Atoms]:
    numbers = found["numbers"].astype(int)
    frames = []
    for s, positions in enumerate(found["positions"]):
        frame = Atoms(numbers, positions, cell=cell, pbc=cell is not None)
        labels = {
            name: found[kind][s]
            for name, kind in (("energy", "energies"), ("forces", "forces"))
            if found[kind] is not None
        }
        set_labels(frame, labels)
        frames.append(frame)
    return frames


def set_labels(frame: Atoms, results: dict) -> None:
    """Attach results, by ASE's names, to a frame in place; None is left out."""
    results = {k: v for k, v in results.items() if v is not None}
    if "energy" in results:
        results["energy"] = float(results["energy"])
    if "forces" in results:
        results["forces"] = np.asarray(results["forces"], dtype=float)
    frame.calc = SinglePointCalculator(frame, **results) if results else None
