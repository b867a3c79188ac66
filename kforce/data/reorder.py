"""One atom order for all frames, by matching their bond graphs."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import cached_property

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from kforce.bonds import BONDED, BROKEN, stretches
from kforce.errors import InputError
from kforce.structures import as_frames

log = logging.getLogger("kforce.data")

# In Å²: a wrong bond or a wrong class weighs more than any misplaced distance.
_WRONG_BOND = 100.0
_WRONG_CLASS = 100.0
_SHELLS = 3
# Partial matchings kept at every step.
_BEAM = 64
_PER_ATOM = ("forces", "charges", "magmoms", "stresses", "energies")


def reorder_atoms(
    frames: Sequence[Atoms], reference: Atoms | None = None
) -> list[Atoms]:
    """Bring the atoms of all frames into the order of a reference frame.

    The bond graphs are matched; among the matchings that keep all bonds, one with the
    smallest difference between the distance matrices is taken. It is sought atom by
    atom along the bonds, keeping the best 64 partial matchings. A frame that already
    has the reference's elements and bonds in place is left as it is, and so is one in
    which a single atom has moved to another partner (a proton transfer).

    The reference is the first frame by default. Frames that changed are copies whose
    arrays and labels follow the atoms; the others are the given objects. Raises
    `InputError` if a frame holds other atoms than the reference, or lacks some of its
    bonds.

    >>> from ase.build import molecule
    >>> ethanol = molecule("CH3CH2OH")
    >>> mixed = ethanol[[5, 2, 8, 1, 0, 4, 7, 3, 6]]
    >>> str(mixed.symbols), str(reorder_atoms([mixed], ethanol)[0].symbols)
    ('HOHC2H4', 'C2OH6')
    """
    frames = as_frames(frames)
    reference = frames[0] if reference is None else as_frames([reference])[0]
    target = _Molecule(reference)
    result, changed = [], []
    for s, frame in enumerate(frames):
        _check_composition(s, frame, reference)
        molecule = _Molecule(frame)
        identity = np.arange(len(frame))
        if not (target.fits(molecule, identity) or target.is_transfer(molecule)):
            order = _match(target, molecule)
            if not target.fits(molecule, order):
                raise InputError(
                    f"Frame {s} cannot be re-ordered: it lacks bonds of the "
                    "reference in any atom order. Remove it, or choose a reference "
                    "with the same bonds."
                )
            frame = _permuted(frame, order)
            changed.append(s)
        result.append(frame)
    if changed:
        log.info(
            "re-ordered the atoms of %d of %d frames (the first ones: %s)",
            len(changed), len(frames), ", ".join(map(str, changed[:5])),
        )  # fmt: skip
    return result


def bond_graph(frame: Atoms) -> np.ndarray:
    """Return which pairs of atoms are bonded, (n_atoms, n_atoms).

    They are if they are no farther apart than 1.25 times the sum of the covalent radii.
    """
    return _Molecule(frame).bonds


def atom_classes(numbers: np.ndarray, bonds: np.ndarray) -> list[int]:
    """Return a hash of each atom: its element and bonded neighbours, three shells deep.

    Isomorphic graphs have the same hashes, in every process; the reverse nearly always
    holds.
    """
    neighbours = [np.flatnonzero(row) for row in bonds]
    classes = [int(number) for number in numbers]
    for _ in range(_SHELLS):
        classes = [
            hash((own_class, *sorted(classes[j] for j in bonded)))
            for own_class, bonded in zip(classes, neighbours, strict=True)
        ]
    return classes


class _Molecule:
    """A frame as distances and bonds."""

    def __init__(self, frame: Atoms):
        self.numbers = frame.numbers
        self.dist = frame.get_all_distances(mic=bool(frame.pbc.any()))
        np.fill_diagonal(self.dist, np.inf)
        self.stretch = stretches(frame.numbers, self.dist)
        np.fill_diagonal(self.dist, 0.0)
        self.bonds = self.stretch <= BONDED

    @cached_property
    def atom_classes(self) -> np.ndarray:
        return np.array(atom_classes(self.numbers, self.bonds))

    def fits(self, other: _Molecule, order: np.ndarray) -> bool:
        """Whether `other`, in that order, has these elements and all these bonds.

        Further bonds are no objection: a proton may be shared by two atoms.
        """
        if not np.array_equal(self.numbers, other.numbers[order]):
            return False
        stretch = other.stretch[np.ix_(order, order)]
        return not (self.bonds & (stretch > BROKEN)).any()

    def is_transfer(self, other: _Molecule) -> bool:
        """Whether one atom has moved from one partner to another, all else in place.

        Exchanged atoms would lose two bonds at least.
        """
        if not np.array_equal(self.numbers, other.numbers):
            return False
        lost = self.bonds & (other.stretch > BROKEN)
        made = other.bonds & (self.stretch > BROKEN)
        return np.count_nonzero(lost) == np.count_nonzero(made) == 2  # i, j and j, i


def _check_composition(s: int, frame: Atoms, reference: Atoms) -> None:
    if not np.array_equal(np.sort(frame.numbers), np.sort(reference.numbers)):
        raise InputError(
            f"Frame {s} cannot be re-ordered: it is {frame.get_chemical_formula()} and "
            f"the reference is {reference.get_chemical_formula()}. Remove it."
        )


def _match(target: _Molecule, other: _Molecule) -> np.ndarray:
    """Return the order of `other`'s atoms that follows `target`, by beam search."""
    sequence = _walk(target)
    n_atoms = len(sequence)
    partial = np.zeros((1, 0), dtype=int)  # (beam, atoms matched)
    cost = np.zeros(1)
    for step, atom in enumerate(sequence):
        done = sequence[:step]
        dist, bonds = other.dist[:, partial], other.bonds[:, partial]
        pairs = (dist - target.dist[atom, done]) ** 2
        pairs = pairs + _WRONG_BOND * (bonds != target.bonds[atom, done])
        single = _WRONG_CLASS * (other.atom_classes != target.atom_classes[atom])
        total = cost + pairs.sum(axis=-1) + single[:, None]  # (candidate, beam)
        total[other.numbers != target.numbers[atom]] = np.inf
        np.put_along_axis(total, partial.T, np.inf, axis=0)  # an atom is used once
        best = np.argsort(total, axis=None, kind="stable")[:_BEAM]
        best = best[np.isfinite(total.ravel()[best])]
        candidate, kept = np.unravel_index(best, total.shape)
        partial = np.column_stack([partial[kept], candidate])
        cost = total.ravel()[best]
    order = np.empty(n_atoms, dtype=int)
    order[sequence] = partial[0]
    return order


def _walk(molecule: _Molecule) -> np.ndarray:
    """Return the atoms so that each is bonded to an earlier one, if one can be.

    The walk starts with the rarest class and prefers rare ones: they leave the
    fewest choices open.
    """
    _, index, count = np.unique(
        molecule.atom_classes, return_inverse=True, return_counts=True
    )
    rarity = count[index]
    remaining, sequence = set(range(len(rarity))), []
    while remaining:
        touching = [i for i in remaining if molecule.bonds[i, sequence].any()]
        following = min(touching or remaining, key=lambda i: (rarity[i], i))
        sequence.append(following)
        remaining.remove(following)
    return np.array(sequence)


def _permuted(frame: Atoms, order: np.ndarray) -> Atoms:
    copy = frame[order]
    if frame.calc is not None:
        results = {
            name: np.asarray(value)[order] if name in _PER_ATOM else value
            for name, value in frame.calc.results.items()
            if value is not None
        }
        copy.calc = SinglePointCalculator(copy, **results)
    return copy
