"""Terms for a training set of which nothing but the frames is known."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.descriptors.soap import SOAP
from kforce.descriptors.two_body import TwoBody
from kforce.errors import InputError
from kforce.models.term import Term
from kforce.neighbours import find_neighbours
from kforce.structures import Batch

_log = logging.getLogger("kforce.gap")

#: Cutoff, width of the Gaussians and of the transition to zero, in units of the bond
#: length: third neighbours of a diamond lattice are seen.
_CUTOFF, _WIDTH, _TRANSITION = 2.2, 0.17, 0.6

#: Gaussians are not sharper than this, in Å: narrow ones make atoms strangers to one
#: another, also where bonds are short.
_SHARPEST = 0.4

#: n_max and l_max for one element, and for more, of which there are many more features.
_ONE, _MORE = (10, 8), (8, 6)

#: Limits of the cutoff of SOAP, in Å.
_SHORTEST, _LONGEST = 3.5, 6.5

#: Frames that the bond length of an element is taken from, at most, and how far bonds
#: may reach, in Å.
_FRAMES, _FARTHEST = 50, 6.0


def default_terms(frames: Sequence[Atoms]) -> list[Term]:
    """Choose two-body and SOAP terms by the bond lengths of frames.

    There is one SOAP term for each central element, with lengths that scale with the
    bond length of that element; those of two-body terms, which are for all elements,
    scale with the largest one. The log has a line for each element. Three-body terms
    cost much and add little to SOAP, which holds their angles.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        Training set.

    Returns
    -------
    list of Term
        The two-body and the SOAP terms, the latter by atomic number. Elements that are
        alone in all frames have no SOAP term.

    Raises
    ------
    InputError
        If no frame has two atoms within 6 Å.

    Examples
    --------
    >>> from kforce.datasets import load_methanol_ccsdt
    >>> terms = default_terms(load_methanol_ccsdt()[:5])
    >>> [type(term.descriptor).__name__ for term in terms]
    ['TwoBody', 'SOAP', 'SOAP', 'SOAP']
    """
    bonds = bond_lengths(frames)
    longest = max(bonds.values())
    sizes = _ONE if len(bonds) == 1 else _MORE
    cutoff, width = _cutoff(longest), round(_TRANSITION * longest, 2)
    _log.info("two-body terms: cutoff %.2f Å", cutoff)
    return [
        Term(TwoBody(cutoff=cutoff, transition_width=width)),
        *(Term(_soap(z, bond, sizes)) for z, bond in bonds.items()),
    ]


def _cutoff(bond):
    return round(min(max(_CUTOFF * bond, _SHORTEST), _LONGEST), 2)


def _soap(z, bond, sizes):
    soap = SOAP(
        cutoff=_cutoff(bond),
        n_max=sizes[0],
        l_max=sizes[1],
        atom_sigma=round(max(_WIDTH * bond, _SHARPEST), 2),
        transition_width=round(_TRANSITION * bond, 2),
        centre=z,
    )
    _log.info(
        "%s: bond length %.2f Å; SOAP with cutoff %.2f Å, transition %.2f Å, Gaussians "
        "of %.2f Å",
        chemical_symbols[z],
        bond,
        soap.cutoff,
        soap.transition_width,
        soap.atom_sigma,
    )
    return soap


def bond_lengths(frames: Sequence[Atoms]) -> dict[int, float]:
    """Return a typical distance to the nearest neighbour for each element.

    It is the median over the atoms of an element of the distance to the nearest atom
    that is not hydrogen, and to the nearest atom if none of them has such a neighbour
    within 6 Å.

    Parameters
    ----------
    frames : sequence of ase.Atoms
        Training set, of which at most 50 frames an element count.

    Returns
    -------
    dict of int to float
        Lengths in Å by atomic number, in ascending order; without elements that have
        no neighbours.

    Raises
    ------
    InputError
        If no frame has two atoms within 6 Å.

    Examples
    --------
    >>> from ase.build import molecule
    >>> {z: round(r, 2) for z, r in bond_lengths([molecule("CH3OH")]).items()}
    {1: 1.09, 6: 1.42, 8: 1.42}
    """
    chosen = _representatives(frames)
    if not chosen:
        raise _no_bonds()
    numbers = np.concatenate([frame.numbers for frame in chosen])
    distances = np.concatenate([_nearest(frame) for frame in chosen], axis=1)
    bonds = {}
    for z in np.unique(numbers):
        for row in distances:
            known = row[(numbers == z) & np.isfinite(row)]
            if len(known):
                bonds[int(z)] = float(np.median(known))
                break
    if not bonds:
        raise _no_bonds()
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
    steps = [held[:: -(-len(held) // _FRAMES)] for held in holders.values()]
    return [frames[s] for s in sorted({s for step in steps for s in step})]


def _nearest(frame):
    """Return how far the nearest atom but hydrogen, and any, is, (2, n_atoms)."""
    neighbours = find_neighbours(Batch.from_frames([frame]), _FARTHEST)
    owners, dist = neighbours.owners, neighbours.dist
    heavy = frame.numbers[neighbours.atoms] > 1
    nearest = np.full((2, len(frame)), np.inf)
    np.minimum.at(nearest[0], owners[heavy], dist[heavy])
    np.minimum.at(nearest[1], owners, dist)
    return nearest


def _no_bonds():
    return InputError(
        "Terms cannot be chosen: no two atoms of the training set are within "
        f"{_FARTHEST:g} Å. Give terms."
    )
