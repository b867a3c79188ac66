"""Whether neighbouring atoms are as far apart as bonds are long: the unit of length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.bonds import stretches
from kforce.errors import InputError
from kforce.units import Units, length_unit

#: Frames that tell the unit of length, and atoms of frames that are not too large.
_N_FRAMES, _MOST_ATOMS = 50, 200

#: Neighbours are not nearer than this, over the sum of their covalent radii, and bonded
#: ones not farther; noble gases and frames of molecules that fall apart are. A unit is
#: recognised by neighbours between the narrower bounds.
_SHORTEST, LONGEST = 0.7, 1.6
_SHORT, _LONG = 0.8, 1.4

#: Units that files come in.
_LENGTHS = ("Ang", "Bohr", "nm")


def typical_stretch(frames: Sequence[Atoms]) -> float:
    """Return the typical distance to the nearest atom over the sum of covalent radii.

    It is a median over atoms and the first frames: about 1 for molecules and solids,
    NaN where nothing can be said.
    """
    return _typical(_measured(frames))


def _typical(measured):
    """Do it for pairs of atomic numbers and distances."""
    ratios = [
        np.median(stretches(numbers, distances).min(axis=1))
        for numbers, distances in measured
    ]
    return float(np.median(ratios)) if ratios else np.nan


def _measured(frames):
    """Return atomic numbers and distances in Å of frames in which there are some.

    An atom is infinitely far from itself.
    """
    measured = []
    for frame in frames[:_N_FRAMES]:
        if 1 < len(frame) <= _MOST_ATOMS and np.isfinite(frame.positions).all():
            cell = frame.cell.array[frame.pbc]
            spans = len(cell) > 0 and np.linalg.matrix_rank(cell) == len(cell)
            distances = frame.get_all_distances(mic=bool(spans))
            np.fill_diagonal(distances, np.inf)
            measured.append((frame.numbers, distances))
    return measured


def check_conversion(frames: Sequence[Atoms], units: Units, path) -> None:
    """Raise an error if lengths that were converted to Å cannot have had that unit.

    That is so if neighbours are nearer than atoms come, or much farther than bonds are
    long while in another unit they would be as far.
    """
    _check(_measured(frames), units.length, path, f"{units.energy},{{}},{units.forces}")


def check_model_conversion(
    numbers: np.ndarray, inverse: np.ndarray, names: tuple[str, str], path
) -> None:
    """Do the same for a model, by the inverse distances (n, n_pairs) it was trained on.

    They are in 1/Å, in the order of the lower triangle; the names are those of the
    units of energy and length.
    """
    measured = []
    for row in inverse[:_N_FRAMES]:
        distances = np.full((len(numbers), len(numbers)), np.inf)
        with np.errstate(divide="ignore"):
            distances[np.tril_indices(len(numbers), -1)] = 1.0 / row
        measured.append((numbers, np.minimum(distances, distances.T)))
    _check(measured, names[1], path, f"{names[0]},{{}}")


def _check(measured, unit, path, names):
    """Raise the error; `names` are those of all units, with a place for the length."""
    ratio = _typical(measured)
    fitting = [
        name
        for name in _LENGTHS
        if _SHORT < ratio * length_unit(name) / length_unit(unit) < _LONG
    ]
    if not (ratio < _SHORTEST or (ratio > LONGEST and fitting)):
        return
    advice = "check the unit of length"
    if fitting:
        better = names.format(fitting[0])
        advice = (
            f"in {fitting[0]} they would be; name the units, as in {better!r} "
            f"(--units {better})"
        )
    raise InputError(
        f"Expected bond lengths in {path} after the conversion from {unit} to Å, found "
        f"neighbouring atoms {ratio:.2g} times as far apart as bonds are long "
        f"({_shortest(*measured[0])}): {advice}."
    )


def _shortest(numbers, distances):
    """Name the shortest distance."""
    pair = np.unravel_index(distances.argmin(), distances.shape)
    names = " and ".join(chemical_symbols[numbers[atom]] for atom in pair)
    return f"the shortest distance is {distances[pair]:.2f} Å, between {names}"
