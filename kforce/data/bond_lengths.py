"""Whether neighbouring atoms are as far apart as bonds are long: the unit of length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms

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
    ratios = []
    for frame in _measurable(frames):
        ratio = stretches(frame.numbers, _distances(frame))
        ratios.append(np.median(ratio.min(axis=1)))
    return float(np.median(ratios)) if ratios else np.nan


def _measurable(frames):
    """Return those of the first frames whose distances are there and not too many."""
    return [
        frame
        for frame in frames[:_N_FRAMES]
        if 1 < len(frame) <= _MOST_ATOMS and np.isfinite(frame.positions).all()
    ]


def _distances(frame):
    """Return the distances in Å of each atom to others, infinite to itself."""
    periodic = frame.cell.array[frame.pbc]
    is_flat = np.linalg.matrix_rank(periodic) < len(periodic) if len(periodic) else True
    distances = frame.get_all_distances(mic=not is_flat)
    np.fill_diagonal(distances, np.inf)
    return distances


def check_conversion(frames: Sequence[Atoms], units: Units, path) -> None:
    """Raise an error if lengths that were converted to Å cannot have had that unit.

    That is so if neighbours are nearer than atoms come, or much farther than bonds are
    long while in another unit they would be as far.
    """
    ratio = typical_stretch(frames)
    factor = length_unit(units.length)
    fitting = [
        name for name in _LENGTHS if _SHORT < ratio * length_unit(name) / factor < _LONG
    ]
    if not (ratio < _SHORTEST or (ratio > LONGEST and fitting)):
        return
    advice = "check the unit of length"
    if fitting:
        better = f"{units.energy},{fitting[0]},{units.forces}"
        advice = (
            f"in {fitting[0]} they would be; name the units of energies, "
            f"lengths and forces, as in units={better!r} (--units {better})"
        )
    raise InputError(
        f"Expected bond lengths in {path} after the conversion from {units.length} to "
        f"Å, found neighbouring atoms {ratio:.2g} times as far apart as bonds are long"
        f"{_shortest(frames)}: {advice}."
    )


def _shortest(frames):
    """Name the shortest distance in the first frame that has one."""
    frame = _measurable(frames)[0]
    distances = _distances(frame)
    pair = np.unravel_index(distances.argmin(), distances.shape)
    names = " and ".join(frame.symbols[atom] for atom in pair)
    return f" (the shortest distance is {distances[pair]:.2f} Å, between {names})"
