"""Which atoms are bonded, and the angles and torsions that bonds make."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from ase.data import covalent_radii
from scipy.sparse.csgraph import shortest_path

#: Stretches up to which atoms are bonded, and beyond which a bond that was there is
#: lost: hot molecules stretch their bonds.
BONDED, BROKEN = 1.25, 1.6


def stretches(numbers: np.ndarray, distances: np.ndarray) -> np.ndarray:
    """Return distances (..., n_atoms, n_atoms) over the sums of the covalent radii."""
    radii = covalent_radii[numbers]
    return distances / (radii[:, None] + radii)


def distances_between(positions: np.ndarray) -> np.ndarray:
    """Return distances (..., n_atoms, n_atoms) of positions (..., n_atoms, 3)."""
    return np.linalg.norm(
        positions[..., :, None, :] - positions[..., None, :, :], axis=-1
    )


def broken_bonds(stretch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the pairs that are bonded in some structure, and which of them break.

    `stretch` (n_structures, n_atoms, n_atoms) is that of `stretches`; both masks are
    (n_atoms, n_atoms).
    """
    is_bond = stretch.min(axis=0) < BONDED
    np.fill_diagonal(is_bond, False)
    return is_bond, is_bond & (stretch.max(axis=0) > BROKEN)


def find_bonds(
    numbers: np.ndarray, distances: np.ndarray
) -> tuple[tuple[int, int], ...]:
    """Return the bonds a < b that hold in all structures, at their mean lengths.

    `distances` (n_structures, n_atoms, n_atoms) are in Å. Bonds that break in some
    structure are left out, see `find_breaking_bonds`.

    Examples
    --------
    >>> from ase.build import molecule
    >>> water = molecule("H2O")
    >>> find_bonds(water.numbers, water.get_all_distances()[None])
    ((0, 1), (0, 2))
    """
    stretch = stretches(numbers, distances)
    holds = (stretch.mean(axis=0) < BONDED) & (stretch.max(axis=0) <= BROKEN)
    return _pairs(holds)


def find_breaking_bonds(
    numbers: np.ndarray, distances: np.ndarray
) -> tuple[tuple[int, int], ...]:
    """Return the pairs a < b that are bonded in some structures and apart in others.

    Examples
    --------
    >>> distances = np.array([[[0.0, 0.74], [0.74, 0.0]], [[0.0, 2.0], [2.0, 0.0]]])
    >>> find_breaking_bonds(np.array([1, 1]), distances)
    ((0, 1),)
    """
    return _pairs(broken_bonds(stretches(numbers, distances))[1])


def _pairs(bonded):
    return tuple((int(a), int(b)) for a, b in np.argwhere(np.triu(bonded, 1)))


def sorted_bonds(bonds) -> tuple[tuple[int, int], ...]:
    """Return pairs a < b in order."""
    return tuple(sorted((min(pair), max(pair)) for pair in np.array(bonds).tolist()))


def closed_bonds(bonds, permutations) -> tuple[tuple[int, int], ...]:
    """Return the bonds all of whose images under a group are bonds, too.

    Examples
    --------
    >>> closed_bonds([(0, 2), (1, 2)], np.array([[0, 1, 2], [1, 0, 2]]))
    ((0, 2), (1, 2))
    >>> closed_bonds([(0, 2)], np.array([[0, 1, 2], [1, 0, 2]]))
    ()
    """
    known = sorted_bonds(bonds)
    if permutations is None:
        return known
    return tuple(
        bond
        for bond in known
        if set(sorted_bonds(permutations[:, list(bond)])) <= set(known)
    )


def bond_images(bonds, permutations) -> tuple[tuple[int, int], ...]:
    """Return bonds and all their images under a group, in order.

    Examples
    --------
    >>> bond_images([(0, 2)], np.array([[0, 1, 2], [1, 0, 2]]))
    ((0, 2), (1, 2))
    """
    if permutations is None or len(bonds) == 0:
        return sorted_bonds(bonds)
    images = permutations[:, np.array(bonds)].reshape(-1, 2)
    return tuple(sorted(set(sorted_bonds(images))))


def find_angles(bonds) -> list[tuple[int, int, int]]:
    """Return the angles a-b-c between bonds, with a < c."""
    neighbours = _neighbours(bonds)
    return [
        (a, b, c) for b in sorted(neighbours) for a, c in combinations(neighbours[b], 2)
    ]


def find_torsions(bonds) -> list[tuple[int, int, int, int]]:
    """Return the torsions a-b-c-d along three bonds, with b < c."""
    neighbours = _neighbours(bonds)
    return [
        (a, b, c, d)
        for b, c in sorted(bonds)
        for a in neighbours[b]
        for d in neighbours[c]
        if len({a, b, c, d}) == 4
    ]


def _neighbours(bonds):
    found = {}
    for a, b in bonds:
        found.setdefault(a, []).append(b)
        found.setdefault(b, []).append(a)
    return {atom: sorted(others) for atom, others in found.items()}


def bond_distances(bonds, n_atoms: int) -> np.ndarray:
    """Return how many bonds apart atoms are, (n_atoms, n_atoms); inf if never."""
    graph = np.zeros((n_atoms, n_atoms))
    for a, b in bonds:
        graph[a, b] = 1.0
    return shortest_path(graph, directed=False, unweighted=True)
