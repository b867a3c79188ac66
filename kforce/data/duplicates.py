"""Frames that show the same geometry, found without comparing all with all."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.spatial.distance import pdist

# In Å; the same geometry in two files differs by the digits that were written.
_TOLERANCE = 1e-6

# Labels of one geometry differ by the digits that were written, and by the convergence
# of two calculations: energies in eV per atom, forces in eV/Å and as a share.
_SAME_ENERGY, _SAME_FORCES, _SAME_SHARE = 1e-4, 2e-3, 1e-3


def find_duplicates(frames: Sequence[Atoms]) -> list[tuple[int, int]]:
    """Return pairs of the first frame of its kind and a later one that repeats it.

    Two geometries are the same if all interatomic distances, compared by pair of
    elements, agree within 1e-6 Å, and so do the cells. They may be moved, rotated,
    mirrored or list their atoms in another order: for a model all of this is one point.
    Frames with positions that are not finite are passed over.
    """
    pairs = []
    for candidates, means in _candidates(frames):
        repeated = set()
        for k, i in enumerate(candidates):
            if i in repeated:
                continue
            # Equal distances have equal means; sorted by mean, they are near by.
            end = np.searchsorted(means, means[k] + _TOLERANCE, side="right")
            later = [j for j in candidates[k + 1 : end] if j not in repeated]
            reference = _signature(frames[i]) if later else None
            same = [j for j in later if _agree(reference, _signature(frames[j]))]
            repeated.update(same)
            first = min([i, *same])
            pairs += [(first, j) for j in (i, *same) if j != first]
    return sorted(pairs)


def contradiction(
    energies: tuple[float, float], forces: tuple[np.ndarray, np.ndarray]
) -> str | None:
    """Say by how much the labels of one geometry in two frames differ.

    Energies are in eV and forces (n_atoms, 3) in eV/Å, NaN where there is none. None is
    returned where they agree up to digits and convergence. Forces on atoms are compared
    by their sizes, for the molecule may be turned, in ascending order.

    Examples
    --------
    >>> contradiction((-1.0, -1.5), (np.zeros((2, 3)), np.zeros((2, 3))))
    'energies differ by 0.5 eV'
    """
    found = []
    difference = abs(energies[1] - energies[0])
    if difference > _SAME_ENERGY * len(forces[0]):
        found.append(f"energies differ by {difference:.3g} eV")
    first, second = (np.sort(np.linalg.norm(f, axis=1)) for f in forces)
    if len(first) == len(second):
        differences = np.abs(second - first)
        allowed = _SAME_FORCES + _SAME_SHARE * np.maximum(first, second)
        if (differences > allowed).any():
            found.append(f"forces differ by {np.nanmax(differences):.3g} eV/Å")
    return " and ".join(found) or None


def _candidates(frames):
    """Yield indices of frames of one composition, sorted by mean distance."""
    groups = defaultdict(list)
    for s, frame in enumerate(frames):
        if np.isfinite(frame.positions).all():
            groups[(*np.sort(frame.numbers), *frame.pbc)].append(s)
    for members in groups.values():
        means = np.array([_mean_distance(frames[s]) for s in members])
        order = np.argsort(means, kind="stable")
        yield [members[k] for k in order], means[order]


def _mean_distance(frame: Atoms) -> float:
    return float(pdist(frame.positions).mean()) if len(frame) > 1 else 0.0


def _signature(frame: Atoms) -> np.ndarray:
    """Return sorted distances by pair of elements, then the cell's metric."""
    i, j = np.triu_indices(len(frame), 1)
    elements = np.sort(np.stack([frame.numbers[i], frame.numbers[j]]), axis=0)
    dist = pdist(frame.positions)
    dist = dist[np.lexsort((dist, elements[1], elements[0]))]
    cell = frame.cell.array * frame.pbc[:, None]
    return np.concatenate([dist, (cell @ cell.T).ravel()])


def _agree(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(np.abs(a - b).max(initial=0.0) <= _TOLERANCE)
