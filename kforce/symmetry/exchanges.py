"""Like atoms that change places as bonds break and form.

Exchanging any two nuclei of an element leaves the energy of a molecule unchanged. Where
bonds last, most exchanges lead to arrangements that are never visited, and only cost
time; where an atom leaves its partner for another one, as a proton that hops between
two waters, it can come back in the place of a like atom there.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, pairwise

import numpy as np
from scipy.sparse.csgraph import connected_components

from kforce.bonds import broken_bonds, stretches
from kforce.symmetry.groups import closure, generators, row_keys


def exchanged_atoms(numbers: np.ndarray, distances: np.ndarray) -> list[list[int]]:
    """Return sets of like atoms that the data give reason to exchange.

    An atom that leaves a partner is exchanged with the like atoms that are bonded to
    this one at some time. It is the one that leaves if none of its bonds holds in all
    structures, or one at most and it is the lighter of both: a proton that two atoms
    share. `numbers` (n_atoms,) are atomic numbers and `distances` (n_structures,
    n_atoms, n_atoms) in Å.

    Examples
    --------
    >>> import numpy as np
    >>> x = np.array([[0.0, 2.5, 0.9, -0.9, 3.4], [0.0, 2.5, 1.6, -0.9, 3.4]])
    >>> distances = np.abs(x[:, :, None] - x[:, None])
    >>> exchanged_atoms(np.array([8, 8, 1, 1, 1]), distances)
    [[2, 3, 4]]
    """
    is_bond, breaks = broken_bonds(stretches(numbers, distances))
    n_lasting = (is_bond & ~breaks).sum(axis=1)[:, None]
    is_lighter = numbers[:, None] < numbers
    leaves = breaks & ((n_lasting == 0) | (n_lasting == 1) & is_lighter)
    share_partner = leaves.astype(int) @ is_bond.astype(int) > 0
    is_like = numbers[:, None] == numbers
    _, label = connected_components(share_partner & is_like)
    sets = [np.flatnonzero(label == k).tolist() for k in range(label.max() + 1)]
    return [atoms for atoms in sets if len(atoms) > 1]


def are_exchanged(group: np.ndarray, atoms: Sequence[int]) -> bool:
    """Return whether a group (n_perms, n_atoms) holds all exchanges of some atoms.

    Examples
    --------
    >>> import numpy as np
    >>> group = np.array([[0, 1, 2], [1, 0, 2]])
    >>> are_exchanged(group, [0, 1]), are_exchanged(group, [0, 2])
    (True, False)
    """
    members = set(row_keys(group))
    return all(row_keys([p])[0] in members for p in _exchanges(atoms, group.shape[1]))


def extended_groups(
    group: np.ndarray, sets: Sequence[Sequence[int]], max_permutations: int
) -> list[np.ndarray]:
    """Return the groups that a group and all exchanges within sets of atoms generate.

    One for each choice of `sets` that gives another group (n_perms, n_atoms) of at most
    `max_permutations`, the largest one first.

    Examples
    --------
    >>> import numpy as np
    >>> [len(g) for g in extended_groups(np.arange(5)[None], [[0, 1], [2, 3, 4]], 10)]
    [6, 2]
    """
    n_atoms = group.shape[1]
    found = {}
    for size in range(1, len(sets) + 1):
        for chosen in combinations(sets, size):
            factors = generators(group)
            factors += [p for atoms in chosen for p in _exchanges(atoms, n_atoms)]
            larger = closure(factors, n_atoms, max_permutations)
            if larger is not None and len(larger) > len(group):
                found[larger.tobytes()] = larger
    return sorted(found.values(), key=len, reverse=True)


def _exchanges(atoms, n_atoms):
    """Exchanges of two atoms that generate all permutations of some."""
    for pair in pairwise(atoms):
        p = np.arange(n_atoms)
        p[list(pair)] = p[list(pair[::-1])]
        yield p
