"""Distances of atom pairs and their directions."""

import math

from numba import njit


@njit(cache=True, nogil=True)
def pair_distances(positions, atoms, dist, wilson):
    """Write |r_a − r_b| and its derivatives with respect to both atoms.

    positions (n, n_atoms, 3), atoms (n_pairs, 2), dist (n, n_pairs),
    wilson (n, n_pairs, 2, 3). Where two atoms coincide the distance is 0
    and the direction undefined.
    """
    for s in range(positions.shape[0]):
        for p in range(atoms.shape[0]):
            a, b = atoms[p]
            x = positions[s, a, 0] - positions[s, b, 0]
            y = positions[s, a, 1] - positions[s, b, 1]
            z = positions[s, a, 2] - positions[s, b, 2]
            r = math.sqrt(x * x + y * y + z * z)
            dist[s, p] = r
            inverse = 1.0 / r if r > 0.0 else math.nan
            wilson[s, p, 0, 0] = x * inverse
            wilson[s, p, 0, 1] = y * inverse
            wilson[s, p, 0, 2] = z * inverse
            for c in range(3):
                wilson[s, p, 1, c] = -wilson[s, p, 0, c]
