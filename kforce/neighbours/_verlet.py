"""Distances of pairs that are known from before, once their atoms have moved."""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def farthest_moved(positions, before):
    """Return the longest way of any atom from `before`, (n_atoms, 3) both."""
    longest = 0.0
    for i in range(positions.shape[0]):
        square = 0.0
        for c in range(3):
            square += (positions[i, c] - before[i, c]) ** 2
        longest = max(longest, square)
    return math.sqrt(longest)


@njit(cache=True, nogil=True)
def pairs_within(positions, cell, offsets, atoms, shifts, cutoff):
    """Keep the pairs that are closer than the cutoff.

    positions (n_atoms, 3), cell (3, 3), offsets (n_atoms + 1,), atoms (n_pairs,),
    shifts (n_pairs, 3): see `kforce.neighbours.Neighbours`. Returns the same arrays of
    those that are kept, with vec (n_kept, 3) and dist (n_kept,).
    """
    n_pairs = atoms.size
    kept_offsets = np.zeros_like(offsets)
    kept_atoms, kept_shifts = np.empty_like(atoms), np.empty_like(shifts)
    vec, dist = np.empty((n_pairs, 3)), np.empty(n_pairs)
    n = 0
    for i in range(offsets.size - 1):
        for p in range(offsets[i], offsets[i + 1]):
            square = 0.0
            for c in range(3):
                D = positions[atoms[p], c] - positions[i, c]
                for a in range(3):
                    D += shifts[p, a] * cell[a, c]
                vec[n, c] = D
                square += D**2
            r = math.sqrt(square)
            if r < cutoff:
                dist[n] = r
                kept_atoms[n] = atoms[p]
                kept_shifts[n] = shifts[p]
                n += 1
        kept_offsets[i + 1] = n
    return kept_offsets, kept_atoms[:n], kept_shifts[:n], vec[:n], dist[:n]
