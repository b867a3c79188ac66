"""Terms for a training set of which nothing but the frames is known."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.descriptors.soap.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.gap.term import Term
from kforce.neighbours.search import find_neighbours
from kforce.structures import Batch

_log = logging.getLogger("kforce.gap")


@dataclass(frozen=True)
class _Scale:
    """Lengths of a SOAP term, in units of the bond length, and their limits in Å.

    Gaussians are not sharper than `sharpest`: narrow ones do not overlap, also where
    bonds are short.
    """

    cutoff: float
    width: float
    transition: float
    shortest: float
    sharpest: float
    n_max: int


#: What is near is seen sharply, what is far blurred: together they are better than one
#: of either with as many inducing environments.
_NEAR = _Scale(1.7, 0.15, 0.5, shortest=2.8, sharpest=0.3, n_max=8)
_FAR = _Scale(2.55, 0.21, 0.85, shortest=4.5, sharpest=0.4, n_max=10)

#: Longest cutoff, in Å.
MAX_CUTOFF = 6.5

#: For more than one element, of which there are many more features: n_max, at most, and
#: in units of the bond length where far neighbours count half.
MAX_N_MAX, HALF_DISTANCE = 8, 1.4

#: Frames that the bond length of an element is taken from, at most, and how far bonds
#: may reach, in Å.
MAX_FRAMES, MAX_BOND_LENGTH = 50, 6.0


def default_terms(frames: Sequence[Atoms]) -> list[Term]:
    """Choose two-body and SOAP terms by the bond lengths of frames.

    There are two SOAP terms for each central element, by atomic number, a sharp one of
    what is near and then a blurred one, with lengths that scale with the bond length of
    that element; elements that are alone in all frames have none. The two-body terms,
    which are for all elements, reach as far as the longest of them. The log has a line
    for each element. Three-body terms cost much and add little to SOAP, which holds
    their angles. Raises `InputError` if no frame has two atoms within 6 Å.
    """
    bonds = bond_lengths(frames)
    longest = max(bonds.values())
    cutoff, width = _cutoff(_FAR, longest), round(_FAR.transition * longest, 2)
    _log.info("two-body terms: cutoff %.2f Å", cutoff)
    is_alone = len(bonds) == 1
    n_max, l_max = (_FAR.n_max, 8) if is_alone else (MAX_N_MAX, 6)
    soaps = []
    for z, bond in bonds.items():
        _log.info("%s: bond length %.2f Å", chemical_symbols[z], bond)
        for scale in (_NEAR, _FAR):
            # Molecules gain by it, crystals of one element do not.
            is_damped = scale is _FAR and not is_alone
            soap = SOAP(
                cutoff=_cutoff(scale, bond),
                n_max=min(n_max, scale.n_max),
                l_max=l_max,
                atom_sigma=round(max(scale.width * bond, scale.sharpest), 2),
                transition_width=round(scale.transition * bond, 2),
                centre=z,
                damping=(2, round(HALF_DISTANCE * bond, 2), 1.0) if is_damped else None,
            )
            _log.info(
                "    SOAP with cutoff %.2f Å, transition %.2f Å, Gaussians of %.2f Å",
                soap.cutoff,
                soap.transition_width,
                soap.atom_sigma,
            )
            soaps.append(Term(soap))
    return [Term(TwoBody(cutoff=cutoff, transition_width=width)), *soaps]


def _cutoff(scale, bond):
    return round(min(max(scale.cutoff * bond, scale.shortest), MAX_CUTOFF), 2)


def bond_lengths(frames: Sequence[Atoms]) -> dict[int, float]:
    """Return a typical distance to the nearest neighbour for each element, in Å.

    By atomic number, in ascending order, it is the median over the atoms of an element
    (of at most 50 frames) of the distance to the nearest atom that is not hydrogen, and
    to the nearest atom if none of them has such a neighbour within 6 Å. Elements
    without neighbours are missing; `InputError` if all are.

    >>> from ase.build import molecule
    >>> {z: round(r, 2) for z, r in bond_lengths([molecule("CH3OH")]).items()}
    {1: 1.09, 6: 1.42, 8: 1.42}
    """
    chosen, bonds = _representatives(frames), {}
    numbers = np.concatenate([np.zeros(0, int), *(frame.numbers for frame in chosen)])
    distances = np.concatenate([np.zeros((2, 0)), *map(_nearest, chosen)], axis=1)
    for z in np.unique(numbers):
        for row in distances:
            lengths = row[(numbers == z) & np.isfinite(row)]
            if len(lengths):
                bonds[int(z)] = float(np.median(lengths))
                break
    if not bonds:
        raise InputError(
            "Terms cannot be chosen: no two atoms of the training set are within "
            f"{MAX_BOND_LENGTH:g} Å. Give terms."
        )
    return bonds


def _representatives(frames):
    """Return some frames of each element, of those that can hold neighbours.

    A step through all frames might miss an element that few of them hold.
    """
    holders = {}
    for s, frame in enumerate(frames):
        if len(frame) > 1 or frame.pbc.any():
            for z in np.unique(frame.numbers):
                holders.setdefault(z, []).append(s)
    steps = [held[:: -(-len(held) // MAX_FRAMES)] for held in holders.values()]
    return [frames[s] for s in sorted({s for step in steps for s in step})]


def _nearest(frame):
    """Return how far the nearest atom but hydrogen, and any, is, (2, n_atoms)."""
    neighbours = find_neighbours(Batch.from_frames([frame]), MAX_BOND_LENGTH)
    owners, dist = neighbours.owners, neighbours.dist
    heavy = frame.numbers[neighbours.atoms] > 1
    nearest = np.full((2, len(frame)), np.inf)
    np.minimum.at(nearest[0], owners[heavy], dist[heavy])
    np.minimum.at(nearest[1], owners, dist)
    return nearest
