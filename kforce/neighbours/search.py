"""Neighbours of atoms within a cutoff, in any cell, as flat arrays by central atom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase.geometry import minkowski_reduce
from ase.neighborlist import primitive_neighbor_list
from vesin import NeighborList

from kforce.errors import InputError, check_positive
from kforce.structures import Batch

#: Atoms closer than this are at the same place, in Å.
_CLOSEST = 1e-6

#: Cells are refused if they are thinner than this, in Å.
_THINNEST = 1e-3

#: Cells whose vectors are so many times longer together than their volume asks for are
#: reduced before the search; in a reduced cell this is 2 at most.
_SHEARED = 2.0

#: vesin divides by zero, or takes very long, where atoms are sparse in a wide region:
#: from so many boxes of the size of the cutoff on, and so many an atom, ASE searches.
_BOXES, _BOXES_OF_ATOM = 100, 10


@dataclass(frozen=True)
class Neighbours:
    """Neighbours of atoms: all periodic images closer than a cutoff.

    Images of the central atom itself count, the atom does not. The neighbours of
    ``central_atoms[e]`` are ``offsets[e]:offsets[e + 1]`` of `atoms` (n_pairs,), the
    atoms or those that they are images of, counted within the batch; `vec` (n_pairs, 3)
    from the central atom to them, in Å, its length `dist`, and `shifts` (n_pairs, 3),
    the cells between the neighbour and its atom.
    """

    central_atoms: np.ndarray
    offsets: np.ndarray
    atoms: np.ndarray
    vec: np.ndarray
    dist: np.ndarray
    shifts: np.ndarray

    @classmethod
    def join(cls, structures: Sequence[Neighbours]) -> Neighbours:
        """Return the neighbours of a batch from those of each of its structures."""
        n_atoms = [len(part.central_atoms) for part in structures]
        first_atoms = np.cumsum([0, *n_atoms[:-1]])
        n_pairs = [len(part.atoms) for part in structures]
        first_pairs = np.cumsum([0, *n_pairs[:-1]])
        parts = zip(structures, first_atoms, first_pairs, strict=True)
        joined = [(p.offsets[1:] + pair, p.atoms + atom) for p, atom, pair in parts]
        offsets, atoms = map(np.concatenate, zip(*joined, strict=True))
        return cls(
            np.arange(sum(n_atoms)),
            np.concatenate([[0], offsets]),
            atoms,
            *(
                np.concatenate([getattr(part, name) for part in structures])
                for name in ("vec", "dist", "shifts")
            ),
        )

    @property
    def owners(self) -> np.ndarray:
        """Index of the central atom of each neighbour, (n_pairs,)."""
        return np.repeat(np.arange(len(self.central_atoms)), np.diff(self.offsets))

    def take(self, start: int, stop: int) -> Neighbours:
        """Return the neighbours of the central atoms start to stop."""
        first, last = self.offsets[start], self.offsets[stop]
        return Neighbours(
            self.central_atoms[start:stop],
            self.offsets[start : stop + 1] - first,
            self.atoms[first:last],
            self.vec[first:last],
            self.dist[first:last],
            self.shifts[first:last],
        )

    def keep(self, pairs: np.ndarray) -> Neighbours:
        """Return the list with some of its neighbours (n_pairs,) of bool only."""
        counts = np.concatenate([[0], np.cumsum(pairs)])
        return replace(
            self,
            offsets=counts[self.offsets],
            atoms=self.atoms[pairs],
            vec=self.vec[pairs],
            dist=self.dist[pairs],
            shifts=self.shifts[pairs],
        )

    def within(self, cutoff: float) -> Neighbours:
        """Return the neighbours that are closer than a smaller cutoff."""
        closer = self.dist < cutoff
        return self if closer.all() else self.keep(closer)

    def of(self, central_atoms: np.ndarray) -> Neighbours:
        """Return the neighbours of some central atoms, (n_central_atoms,) of bool."""
        if central_atoms.all():
            return self
        kept = self.keep(np.repeat(central_atoms, np.diff(self.offsets)))
        ends = np.concatenate([[True], central_atoms])
        return replace(
            kept,
            central_atoms=self.central_atoms[central_atoms],
            offsets=kept.offsets[ends],
        )


def find_neighbours(batch: Batch, cutoff: float, first: int = 0) -> Neighbours:
    """Find the neighbours of all atoms of a batch within a cutoff in Å.

    Each structure obeys its own periodic directions; `first` is the number of the first
    one, for messages. Raises `InputError` if the cutoff is not positive, or a structure
    is periodic in a direction in which its cell has no extent, or has two atoms at the
    same place.

    >>> from ase.build import bulk
    >>> neighbours = find_neighbours(Batch.from_frames([bulk("Si")]), 2.5)
    >>> len(neighbours.dist), float(neighbours.dist.max().round(3))
    (8, 2.351)
    """
    check_positive("A cutoff", cutoff, "length in Å")
    found = [
        _search(batch, s, float(cutoff), first + s) for s in range(batch.n_structures)
    ]
    counts, atoms, shifts, vec, dist = map(np.concatenate, zip(*found, strict=True))
    return Neighbours(
        np.arange(len(batch.numbers)),
        np.concatenate([[0], np.cumsum(counts)]),
        atoms,
        vec,
        dist,
        shifts,
    )


def check_apart(i: np.ndarray, j: np.ndarray, dist: np.ndarray, frame: int) -> None:
    """Raise `InputError` if the atoms of a pair are at the same place.

    The atoms i, j (n_pairs,) of a structure are `dist` apart, in Å.
    """
    touching = np.flatnonzero(dist < _CLOSEST)
    if len(touching):
        a, b = sorted((int(i[touching[0]]), int(j[touching[0]])))
        raise InputError(
            f"Atoms {a} and {b} of frame {frame} are at the same place: move or remove "
            "one of them."
        )


def _search(batch, s, cutoff, frame):
    """Return the number of neighbours of each atom of a structure, and these."""
    first, last = batch.offsets[s], batch.offsets[s + 1]
    positions, pbc = batch.positions[first:last], batch.pbc[s]
    # Vectors along directions that are not periodic mean nothing.
    cell = np.where(pbc[:, None], batch.cells[s], 0.0)
    check_cell(cell, pbc, frame)
    cell, made_of = _reduced(cell, pbc)
    if _n_boxes(positions, cell, pbc, cutoff) > _BOXES + _BOXES_OF_ATOM * len(
        positions
    ):
        found = primitive_neighbor_list("ijSDd", pbc, cell, positions, cutoff)
    else:
        search = NeighborList(cutoff=cutoff, full_list=True, n_threads=1)
        found = search.compute(positions, cell, pbc.tolist(), quantities="ijSDd")
    i, j, shifts, vec, dist = found
    closer = np.flatnonzero(dist < cutoff)
    order = closer[np.argsort(i[closer], kind="stable")]
    # Numbers of atoms are unsigned in vesin.
    i, j = i[order].astype(np.intp), j[order].astype(np.intp)
    check_apart(i, j, dist[order], frame)
    counts = np.bincount(i, minlength=last - first)
    shifts = shifts[order].astype(np.intp)
    return (
        counts,
        j + first,
        shifts if made_of is None else shifts @ made_of,
        np.ascontiguousarray(vec[order]),
        dist[order],
    )


def _n_boxes(positions, cell, pbc, cutoff):
    """Return how many boxes of the size of the cutoff the structure extends over."""
    lengths = np.where(pbc, np.linalg.norm(cell, axis=1), np.ptp(positions, axis=0))
    return np.prod(np.ceil(lengths / cutoff + 1e-9))


def _reduced(cell, pbc):
    """Return the cell, or a shorter one of the same lattice if it is strongly sheared.

    The search takes longer with every cell that the cutoff reaches into, and in a
    sheared cell these are many. The second value, (3, 3) of int or None, says how many
    of the given vectors each of the new ones is made of.
    """
    periodic = cell[pbc]
    gram = periodic @ periodic.T
    if np.prod(np.diag(gram)) <= _SHEARED**2 * np.linalg.det(gram):
        return cell, None
    reduced, made_of = minkowski_reduce(cell, pbc)
    return np.array(reduced), made_of


def check_cell(cell: np.ndarray, pbc: np.ndarray, frame: int) -> None:
    """Raise `InputError` unless the periodic directions of a structure span as many.

    The cell vectors (3, 3) are in Å.
    """
    periodic = cell[pbc]
    if not (np.isfinite(periodic).all() and _has_extent(cell, pbc)):
        raise InputError(
            f"Frame {frame} is periodic along {int(pbc.sum())} directions, but its "
            f"cell {cell.round(3).tolist()} does not span them: set its cell, or "
            "pbc=False for a molecule."
        )


def _has_extent(cell, pbc):
    """Whether the periodic directions are independent, and nowhere too thin."""
    n = int(pbc.sum())
    if np.linalg.matrix_rank(cell[pbc], tol=_THINNEST) == n:
        return True
    # Shearing makes vectors nearly parallel, but not the lattice thin.
    if np.linalg.matrix_rank(cell[pbc]) < n:
        return False
    reduced, _ = _reduced(cell, pbc)
    return np.linalg.matrix_rank(reduced[pbc], tol=_THINNEST) == n
