"""Energies of isolated atoms: given, read from single-atom frames, or fitted."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from numbers import Integral, Real

import numpy as np
from ase import Atoms
from ase.data import atomic_numbers, chemical_symbols

from kforce.errors import InputError

_log = logging.getLogger("kforce.gap")


def find_reference_energies(
    given: Mapping | None, frames: Sequence[Atoms], energy: np.ndarray
) -> tuple[dict[int, float], bool]:
    """Return an energy for each element of the training set.

    `given` are those by symbol or atomic number in eV. None takes single-atom frames if
    there is one of each element, and else fits `energy` (n_structures,), in eV, NaN
    where there is none, as a sum over atoms by least squares. Return energies by atomic
    number, in order of first appearance, and whether they are a fit, which a model may
    change. Raises `InputError` if an element is missing in `given`, or its energy is
    not a number.
    """
    species = species_of(frames)
    if given is not None:
        return _checked(given, species), False
    alone = {z: [] for z in species}
    for frame, e in zip(frames, energy, strict=True):
        if len(frame) == 1 and np.isfinite(e):
            alone[int(frame.numbers[0])].append(e)
    if all(alone.values()):
        return {z: float(np.mean(energies)) for z, energies in alone.items()}, False
    if any(alone.values()):
        _log.warning(
            "there are isolated atoms of %s, but none of %s: energies of atoms are "
            "fitted",
            ", ".join(chemical_symbols[z] for z in species if alone[z]),
            ", ".join(chemical_symbols[z] for z in species if not alone[z]),
        )
    known = np.isfinite(energy)
    if not known.any():
        return dict.fromkeys(species, 0.0), True
    counts = [[(frame.numbers == z).sum() for z in species] for frame in frames]
    counts, energy = np.array(counts, dtype=float)[known], energy[known]
    # Least norm of the differences from the mean: what the data leave open is shared.
    sizes = counts.sum(axis=1)
    mean = float(np.mean(energy / sizes))
    weight = 1.0 / np.sqrt(sizes)
    residual = (energy - mean * sizes) * weight
    fitted = np.linalg.lstsq(counts * weight[:, None], residual, rcond=1e-10)[0]
    return {z: mean + float(e) for z, e in zip(species, fitted, strict=True)}, True


def species_of(frames: Sequence[Atoms]) -> tuple[int, ...]:
    """Return the atomic numbers of a data set, in order of first appearance."""
    numbers = np.concatenate([frame.numbers for frame in frames])
    species, first = np.unique(numbers, return_index=True)
    return tuple(int(z) for z in species[np.argsort(first)])


def _checked(given, species):
    if not isinstance(given, Mapping):
        raise InputError(
            "reference_energies must be None or a dict of symbols or atomic numbers to "
            f"energies in eV, found {given!r}."
        )
    energies = {}
    for key, value in given.items():
        z = atomic_numbers.get(key) if isinstance(key, str) else key
        if not isinstance(z, Integral) or not 0 < z < len(chemical_symbols):
            raise InputError(
                f"reference_energies must be given by symbols or atomic numbers, found "
                f"{key!r}."
            )
        if not isinstance(value, Real) or not np.isfinite(value):
            raise InputError(
                f"The reference energy of {chemical_symbols[z]} must be a number in "
                f"eV, found {value!r}."
            )
        energies[int(z)] = float(value)
    missing = [chemical_symbols[z] for z in species if z not in energies]
    if missing:
        raise InputError(
            f"reference_energies lack {', '.join(missing)}: give an energy for each "
            "element, or None to take them from the data."
        )
    return energies
