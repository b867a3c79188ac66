"""One numbering of like atoms for all structures of a molecule, by its lasting bonds.

The skeleton are the bonds that hold in all structures, once their atoms are numbered
consistently. A structure is numbered by an embedding of the skeleton: an order of its
atoms in which all of these bonds are short. What else the order may be, the exchange of
equivalent atoms and of atoms that no lasting bond holds, belongs to the group of a
model: then its predictions do not depend on which embedding was found.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from math import factorial, prod

import numpy as np
from ase import Atoms

from kforce.bonds import (
    BONDED,
    BROKEN,
    bond_distances,
    broken_bonds,
    distances_between,
    stretches,
)
from kforce.registry import register
from kforce.storage.codec import check_array
from kforce.symmetry.groups import closure

_log = logging.getLogger("kforce.choice")

#: Stretches up to which bonds are accepted, the shortest first.
_LIMITS = (BONDED, 1.4, BROKEN, 2.0, 3.0)

#: Structures that the skeleton is taken from, and atoms tried for an embedding.
_MAX_STRUCTURES, _MAX_TRIALS = 200, 20_000


@register
@dataclass(frozen=True)
class Numbering:
    """The atoms of a molecule by `numbers` (n_atoms,), and its `skeleton`.

    The skeleton (n_bonds, 2) are the pairs of atoms whose bonds last.
    """

    numbers: np.ndarray
    skeleton: np.ndarray

    def check_stored(self) -> None:
        """Raise an error unless the bonds are those of the atoms."""
        check_array("numbers", self.numbers, (None,), "i")
        check_array("skeleton", self.skeleton, (None, 2), "i")
        if not np.isin(self.skeleton, np.arange(len(self.numbers))).all():
            raise ValueError("the skeleton is of another molecule")

    def order(self, positions: np.ndarray) -> np.ndarray:
        """Return the order in which atoms at these positions have the numbering.

        Positions (n_atoms, 3) are in Å, and ``positions[order]`` are those of the
        numbered structure. The given order is kept where no other has shorter bonds.
        """
        stretch = _stretch(self.numbers, positions)
        identity = np.arange(len(stretch))
        a, b = self.skeleton.T
        longest = stretch[a, b].max(initial=0.0)
        shorter = [limit for limit in _LIMITS if limit < longest]
        return next(self.embeddings(stretch, shorter), identity)

    def embeddings(
        self, stretch: np.ndarray, limits: Sequence[float] = _LIMITS
    ) -> Iterator[np.ndarray]:
        """Yield orders in which all bonds of the skeleton are shorter than a limit.

        It is the first limit for which there are any. `stretch` (n_atoms, n_atoms) are
        relative to the sums of covalent radii.
        """
        places, anchors = _walk(len(self.numbers), self.skeleton)
        is_like = self.numbers[places][:, None] == self.numbers
        for limit in limits:
            if not self._has_bonds(stretch <= limit):
                continue
            found = _embed(places, anchors, is_like, stretch, limit)
            first = next(found, None)
            if first is not None:
                yield first
                yield from found
                return

    def _has_bonds(self, near):
        """Whether there are as many pairs of each two elements as in the skeleton."""
        needed, found = (
            Counter(map(tuple, np.sort(self.numbers[pairs]).tolist()))
            for pairs in (self.skeleton, np.argwhere(np.triu(near, 1)))
        )
        return not needed - found

    def apply(self, frames: Sequence[Atoms]) -> tuple[list[Atoms], list[np.ndarray]]:
        """Return the frames with their atoms numbered, and the order of each."""
        orders = [self.order(frame.positions) for frame in frames]
        numbered = [frame[o] for frame, o in zip(frames, orders, strict=True)]
        return numbered, orders


def _stretch(numbers, positions):
    return stretches(numbers, distances_between(positions))


def _walk(n_atoms, bonds):
    """Return places so that each is bonded to earlier ones, where one is, and which.

    Places without bonds come last.
    """
    partners = [set() for _ in range(n_atoms)]
    for a, b in np.asarray(bonds).tolist():
        partners[a].add(b)
        partners[b].add(a)
    sequence, remaining = [], set(range(n_atoms))
    while remaining:
        touching = [i for i in remaining if partners[i] & set(sequence)]
        following = max(touching or remaining, key=lambda i: (len(partners[i]), -i))
        sequence.append(following)
        remaining.remove(following)
    rank = {place: k for k, place in enumerate(sequence)}
    anchors = [[rank[j] for j in partners[i] if rank[j] < rank[i]] for i in sequence]
    return np.array(sequence), anchors


def _embed(places, anchors, is_like, stretch, limit):
    """Yield orders with all bonds to the anchors below the limit, depth first.

    Atoms with the shortest bonds are tried first.
    """
    n_atoms = len(places)
    taken, trials = [], 0
    near = stretch <= limit

    def candidates(step):
        free = is_like[step].copy()
        free[taken] = False
        for k in anchors[step]:
            free &= near[taken[k]]
        found = np.flatnonzero(free)
        if anchors[step]:
            length = sum(stretch[taken[k], found] for k in anchors[step])
            found = found[np.argsort(length, kind="stable")]
        return iter(found.tolist())

    stack = [candidates(0)]
    while stack and trials < _MAX_TRIALS:
        trials += 1
        del taken[len(stack) - 1 :]
        atom = next(stack[-1], None)
        if atom is None:
            stack.pop()
            continue
        taken.append(atom)
        if len(taken) < n_atoms:
            stack.append(candidates(len(taken)))
        else:
            order = np.empty(n_atoms, dtype=int)
            order[places] = taken
            yield order


def find_numbering(
    frames: Sequence[Atoms], max_permutations: int
) -> tuple[Numbering | None, np.ndarray]:
    """Return a numbering where frames of one molecule need one, and its group.

    The frames need one if bonds that break as the atoms are numbered last in another
    numbering. The group (n_perms, n_atoms) are the permutations between embeddings of
    the same structure; None stands for a numbering that is not needed, or not unique up
    to a group of `max_permutations` at most, smaller than that of all permutations of
    like atoms.
    """
    numbers = frames[0].numbers
    no_group = np.arange(len(numbers))[None]
    stretch = _stretch(numbers, np.array([frame.positions for frame in frames]))
    is_bond, breaks = broken_bonds(stretch)
    if not breaks.any():
        return None, no_group
    stretch = stretch[:: len(stretch) // _MAX_STRUCTURES + 1]
    skeleton = _common_skeleton(numbers, stretch)
    if len(skeleton) <= np.count_nonzero(np.triu(is_bond & ~breaks)):
        return None, no_group
    numbering = Numbering(numbers, skeleton)
    group = _group_of(numbering, stretch, max_permutations)
    if group is None:
        _log.warning(
            "like atoms are in no consistent order, and the bonds that last leave more "
            "than %d permutations open: the frames are taken as they are; bring them "
            "into one order (kforce.data.reorder_atoms, --reorder)",
            max_permutations,
        )
    if group is None or len(group) == _n_exchanges(numbers):
        return None, no_group
    return numbering, group


def _n_exchanges(numbers):
    """Return how many permutations of like atoms there are."""
    _, counts = np.unique(numbers, return_counts=True)
    return prod(map(factorial, counts))


def _common_skeleton(numbers, stretch):
    """Return the bonds of a typical structure that hold in all, (n_bonds, 2).

    Each structure is numbered by an embedding of the bonds that are left. A bond is
    left out if it breaks, or if it alone holds an atom that comes within reach of
    another partner, and may move there.
    """
    graphs = np.triu(stretch < BONDED, 1)
    kinds = [_kind(numbers, graph) for graph in graphs]
    (typical, _), *_ = Counter(kinds).most_common(1)
    bonds = np.argwhere(graphs[kinds.index(typical)])
    while len(bonds):
        shortest, longest = _reach(Numbering(numbers, bonds), stretch)
        free = _mobile(numbers, bonds, shortest)
        a, b = bonds.T
        kept = (longest[a, b] <= BROKEN) & ~np.isin(bonds, free).any(axis=1)
        if kept.all():
            break
        bonds = bonds[kept]
    return bonds


def _reach(numbering, stretch):
    """Return the least and the largest stretches of numbered structures."""
    identity = np.arange(len(numbering.numbers))
    shortest, longest = np.full(stretch.shape[1:], np.inf), np.zeros(stretch.shape[1:])
    for one in stretch:
        order = next(numbering.embeddings(one), identity)
        numbered = one[np.ix_(order, order)]
        shortest = np.minimum(shortest, numbered)
        longest = np.maximum(longest, numbered)
    return shortest, longest


def _mobile(numbers, bonds, shortest):
    """Return atoms with one bond that come near others, the lighter one of a pair.

    Where one of the pair is free already, the other has no need to move. Partners of
    one atom are near each other anyway.
    """
    degree = np.bincount(bonds.ravel(), minlength=len(numbers))
    is_near = np.triu(shortest <= BROKEN, 1)
    is_near &= bond_distances(bonds, len(numbers)) > 2.0
    found = []
    for pair in np.argwhere(is_near):
        ends = pair[degree[pair] <= 1]
        if len(ends) and degree[ends].min() == 1:
            found.append(ends[np.argmin(numbers[ends])])
    return found


def _kind(numbers, graph):
    """Elements and those of their partners, in any order: alike for like graphs."""
    pairs = zip(numbers, graph | graph.T, strict=True)
    return tuple(sorted((z, *sorted(numbers[row])) for z, row in pairs))


def _group_of(numbering, stretch, max_permutations):
    """Return what all permutations between embeddings generate, None if too much."""
    n_atoms = len(numbering.numbers)
    group = np.arange(n_atoms)[None]
    members = {group[0].tobytes()}
    factors = []
    ideal = np.full((n_atoms, n_atoms), 2.0 * BROKEN)
    a, b = numbering.skeleton.T
    ideal[a, b] = ideal[b, a] = 1.0
    for one in (ideal, *stretch):
        found = numbering.embeddings(one)
        first = next(found, None)
        if first is None:
            continue
        inverse = np.argsort(first)
        for other in islice(found, max_permutations):
            permutation = inverse[other]
            if permutation.tobytes() in members:
                continue
            factors.append(permutation)
            group = closure(factors, n_atoms, max_permutations)
            if group is None:
                return None
            members = {p.tobytes() for p in group}
    return group
