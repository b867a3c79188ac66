"""Neighbours along a trajectory: looked for rarely, measured at every step."""

from __future__ import annotations

import numpy as np

from kforce.errors import InputError, check_positive
from kforce.neighbours._verlet import farthest_moved, pairs_within
from kforce.neighbours.search import Neighbours, check_apart, find_neighbours
from kforce.structures import Batch


class SkinList:
    """Neighbours of one structure that moves in small steps.

    Pairs are looked for within the cutoff and a skin, both in Å; `n_builds` is how
    often. Until an atom has moved by more than half of the skin no other pair can have
    come within the cutoff. A thicker skin is built less often and holds more pairs.

    >>> from ase.build import bulk
    >>> silicon = bulk("Si", cubic=True)
    >>> skin_list = SkinList(cutoff=2.5)
    >>> for _ in range(3):
    ...     silicon.rattle(0.01)
    ...     neighbours = skin_list.neighbours(Batch.from_frames([silicon]))
    >>> len(neighbours.dist), skin_list.n_builds
    (32, 1)
    """

    def __init__(self, cutoff: float, skin: float = 0.5):
        for name, value in (("cutoff", cutoff), ("skin", skin)):
            check_positive(name, value, "length in Å")
        self.cutoff = float(cutoff)
        self.skin = float(skin)
        self.n_builds = 0
        self._built = None

    def neighbours(self, batch: Batch) -> Neighbours:
        """Return the neighbours within the cutoff, as `find_neighbours` would.

        Pairs may come in another order. The batch holds one structure: `InputError` if
        not, or as in `find_neighbours`.
        """
        if batch.n_structures != 1:
            raise InputError(
                "A SkinList follows one structure, found a batch of "
                f"{batch.n_structures}: use find_neighbours."
            )
        if not self._holds(batch):
            # Forgotten first, so that a failed search leaves no pairs behind.
            self._built = None
            pairs = find_neighbours(batch, self.cutoff + self.skin)
            # Taken is a copy: the batch's own arrays may be written to.
            self._built = pairs, batch.take(np.array([0]))
            self.n_builds += 1
        pairs, _ = self._built
        cell = np.where(batch.pbc[0][:, None], batch.cells[0], 0.0)
        offsets, atoms, shifts, vec, dist = pairs_within(
            batch.positions, cell, pairs.offsets, pairs.atoms, pairs.shifts, self.cutoff
        )
        found = Neighbours(pairs.central_atoms, offsets, atoms, vec, dist, shifts)
        check_apart(found.owners, atoms, dist, 0)
        return found

    def _holds(self, batch):
        """Return whether the pairs that are known are all that there can be."""
        if self._built is None:
            return False
        before = self._built[1]
        return (
            np.array_equal(before.numbers, batch.numbers)
            and np.array_equal(before.cells, batch.cells)
            and np.array_equal(before.pbc, batch.pbc)
            and farthest_moved(batch.positions, before.positions) <= 0.5 * self.skin
        )
