"""Molecules in periodic boxes: put together across the boundaries, without the box.

Programs for crystals calculate a molecule in a box with vacuum around it, and often
wrap its atoms into that box. Two lengths tell a molecule from a crystal. With the
shortest connections that join all atoms, nearest images counting, the longest of them
is what it takes to hold the molecule together, its *bridge*: a bond, or the distance of
two fragments. Once it is put together along these connections, the *gap* is the
distance to the nearest periodic image of any of its atoms. A gap that is larger than
the bridge leaves no choice: there is only one way to put the molecule together.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.sparse import csr_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree

from kforce.errors import InputError
from kforce.neighbours.search import Neighbours, check_cell, find_neighbours
from kforce.structures import Batch

#: Least gap in Å. What touches is nearer, up to xenon in its crystal (4.3 Å); molecules
#: that are meant to be alone are given 8 to 15 Å.
VACUUM = 5.0

#: Least gap as a multiple of the bridge. Where both are alike, thermal motion decides
#: which images of two fragments are the nearer ones.
CLEARANCE = 1.25

#: Factor by which the search is extended while it does not join all atoms.
_FARTHER = 1.5


class NotAloneError(InputError):
    """Periodic images that are too near to take a structure as one molecule.

    `is_ambiguous` where there is vacuum, but not clearly more than between its parts.
    """

    def __init__(self, name: str, bridge: float, gap: float):
        self.is_ambiguous = gap >= VACUUM
        reason = f"less than the {VACUUM:g} Å of vacuum around a molecule"
        if self.is_ambiguous:
            reason = (
                f"and its own parts up to {bridge:.3g} Å, so that it is open which of "
                "them belong together"
            )
        super().__init__(f"periodic images in {name} are {gap:.3g} Å apart, {reason}")


def unwrap(atoms: Atoms, number: int | None = None) -> Atoms:
    """Return a molecule as a whole and without its box, on a copy.

    Atoms move by lattice vectors alone, so forces stay what they are, atom by atom.

    Parameters
    ----------
    atoms : ase.Atoms
        A structure; without periodic directions it is returned as it is.
    number : int, optional
        That of the frame, for messages.

    Raises
    ------
    NotAloneError
        If periodic images are nearer than `VACUUM`, as in a crystal or a polymer, or
        hardly farther away than parts of the structure are from one another.
    InputError
        If the cell does not span the periodic directions, or atoms are at one place.

    Examples
    --------
    >>> positions = [[0.0, 0.0, 0.2], [0.0, 0.0, 19.5]]
    >>> atoms = Atoms("H2", positions, cell=[20, 20, 20], pbc=True)
    >>> unwrap(atoms).positions[1].round(3).tolist()
    [0.0, 0.0, -0.5]
    """
    if not atoms.pbc.any():
        return atoms
    cell = atoms.cell.array[atoms.pbc]
    check_cell(atoms.cell.array, atoms.pbc, number or 0)
    shifts = _shifts_in_wide_box(atoms.positions, cell)
    if shifts is None:
        shifts = _shifts(atoms, number)[:, atoms.pbc]
    whole = atoms.copy()
    whole.positions += shifts @ cell
    whole.cell[:] = 0.0
    whole.pbc = False
    return whole


def unwrap_all(frames: Sequence[Atoms]) -> tuple[list[Atoms], NotAloneError | None]:
    """Return frames as molecules without boxes if all of them are, else as given.

    The second value says which frame is none, and why; None where all are.
    """
    if not any(frame.pbc.any() for frame in frames):
        return frames, None
    Batch.from_frames(frames)  # refuses positions that are not finite
    try:
        return [unwrap(frame, s) for s, frame in enumerate(frames)], None
    except NotAloneError as reason:
        return frames, reason


def _shifts_in_wide_box(positions, cell):
    """Return the same as `_shifts` where that is plain, along the periodic directions.

    Where the atoms nearest to atom 0 span less than the box by far, no image can be
    nearer than what is left of it. None where they do not.
    """
    inverse = np.linalg.pinv(cell)
    shifts = -np.round((positions - positions[0]) @ inverse)
    span = np.linalg.norm(np.ptp(positions + shifts @ cell, axis=0))
    narrowest = 1.0 / np.linalg.norm(inverse, axis=0).max()
    is_wide = narrowest - span >= max(VACUUM, CLEARANCE * span)
    return shifts if is_wide else None


def _shifts(atoms, number):
    """Return the cells by which atoms move to put a molecule together, (n_atoms, 3)."""
    batch, reach = Batch.from_frames([atoms]), VACUUM
    name = "this structure" if number is None else f"frame {number}"
    while True:
        near = find_neighbours(batch, reach, number or 0)
        tree = _tree(near)
        bridge = near.dist[tree].max(initial=0.0)
        itself = near.atoms == near.owners
        if len(tree) == len(atoms) - 1:
            if CLEARANCE * bridge <= reach:
                break
            reach = CLEARANCE * bridge
        elif itself.any():  # images are nearer than the parts, which are beyond reach
            raise NotAloneError(name, reach, near.dist[itself].min())
        else:
            reach *= _FARTHER
    shifts = np.zeros((len(atoms), 3), dtype=int)
    for i, j, shift in zip(
        near.owners[tree], near.atoms[tree], near.shifts[tree], strict=True
    ):
        shifts[j] = shifts[i] + shift
    between = shifts[near.atoms] - shifts[near.owners]
    of_image = (near.shifts != between).any(axis=1)
    if of_image.any():
        gap = near.dist[of_image].min()
        if gap < max(VACUUM, CLEARANCE * bridge):
            raise NotAloneError(name, bridge, gap)
    return shifts


def _tree(near: Neighbours) -> np.ndarray:
    """Return the pairs of the shortest tree, each after the one that leads to it.

    It starts at atom 0 and joins all atoms if it has one pair less than there are.
    """
    n_atoms = len(near.central_atoms)
    pairs = near.owners * n_atoms + near.atoms
    by_distance = np.argsort(near.dist, kind="stable")
    pairs, first = np.unique(pairs[by_distance], return_index=True)
    nearest = by_distance[first]
    graph = csr_array(
        (near.dist[nearest], divmod(pairs, n_atoms)), shape=(n_atoms, n_atoms)
    )
    order, before = breadth_first_order(minimum_spanning_tree(graph), 0, directed=False)
    found = before[order[1:]] * n_atoms + order[1:]
    return nearest[np.searchsorted(pairs, found)]
