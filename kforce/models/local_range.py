"""Pairs of atoms that a sparse model has not seen."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.descriptors.two_body import TwoBody
from kforce.neighbours import find_neighbours
from kforce.sparse.term import SparseTerm
from kforce.structures import Batch


def describe_strange_pairs(
    terms: Sequence[SparseTerm], frames: Sequence[Atoms]
) -> str | None:
    """Return a sentence on the first pairs that are unlike all of the training set.

    These are pairs of elements that no two-body term is for, and distances that are
    shorter than those of the inducing environments of its term.

    Parameters
    ----------
    terms : sequence of SparseTerm
        Those of a fitted model.
    frames : sequence of ase.Atoms
        Structures of its elements.

    Returns
    -------
    str or None
        None where there are no such pairs, or the model has no two-body terms.
    """
    shortest, cutoff = _shortest(terms)
    if not shortest:
        return None
    for s, frame in enumerate(frames):
        neighbours = find_neighbours(Batch.from_frames([frame]), cutoff, s)
        first, second = (
            frame.numbers[neighbours.owners],
            frame.numbers[neighbours.atoms],
        )
        pairs = np.sort(np.stack([first, second], axis=1), axis=1)
        for pair in np.unique(pairs, axis=0):
            found = neighbours.dist[(pairs == pair).all(axis=1)].min()
            known = shortest.get(tuple(pair.tolist()), np.inf)
            if found < known:
                names = "–".join(chemical_symbols[z] for z in pair)
                had = f"from {known:.2f} Å on" if np.isfinite(known) else "none"
                return (
                    f"frame {s} holds {names} pairs at {found:.2f} Å, and the training "
                    f"set {had}"
                )
    return None


def _shortest(terms):
    """Return distances by pair of elements, and how far these are looked for."""
    shortest, cutoff = {}, 0.0
    for term in terms:
        pairs = term.descriptor
        if isinstance(pairs, TwoBody) and tuple(pairs.exponents) == (1,):
            distances = term.centers[:, 0]
            # One inducing distance stands for a cell of a grid, which it is within.
            cell = 1.5 * np.ptp(distances) / len(distances)
            key = tuple(sorted(pairs.species))
            shortest[key] = min(shortest.get(key, np.inf), distances.min() - cell)
            cutoff = max(cutoff, pairs.cutoff)
    return shortest, cutoff
