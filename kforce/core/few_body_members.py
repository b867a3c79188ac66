"""From derivatives along the distances of a few atoms to those along positions.

An environment of one member has one distance, one of two has three: those from the
centre to both members, and the one between them.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def _directions(vec, units):
    """Write unit vectors along all distances, ∂/∂r of the first member they touch.

    vec (n_members, 3): from the centre to the members; units (n_distances, 3).
    """
    last = vec.shape[0] - 1
    for p in range(units.shape[0]):
        square = 0.0
        for c in range(3):
            units[p, c] = vec[p, c] if p <= last else vec[0, c] - vec[1, c]
            square += units[p, c] ** 2
        r = math.sqrt(square)
        for c in range(3):
            units[p, c] /= r


@njit(cache=True, nogil=True)
def _at_member(m, along, units, c):
    """Return component c of the derivative with respect to member m.

    along (n_distances,): derivatives with respect to the distances.
    """
    g = along[m] * units[m, c]
    if units.shape[0] == 3:
        between = along[2] * units[2, c]
        g += between if m == 0 else -between
    return g


@njit(cache=True, nogil=True)
def few_body_pull(
    centres, atoms, vec, slopes, fade_slopes, by_x, by_fade, gradient, strain
):
    """Add derivatives of Σ_e g_e·x_e + h_e F_e with respect to positions and strains.

    centres (n,), atoms (n, n_members), vec (n, n_members, 3), slopes (n, n_distances,
    n_features), fade_slopes (n, n_distances), by_x (n, n_features), by_fade (n,);
    gradient (n_atoms, 3), strain (n_atoms, 3, 3): see `Environments.pull`.
    """
    n_distances = slopes.shape[1]
    along, units = np.empty(n_distances), np.empty((n_distances, 3))
    for e in range(centres.size):
        _directions(vec[e], units)
        for p in range(n_distances):
            along[p] = fade_slopes[e, p] * by_fade[e]
            for q in range(slopes.shape[2]):
                along[p] += slopes[e, p, q] * by_x[e, q]
        i = centres[e]
        for m in range(atoms.shape[1]):
            j = atoms[e, m]
            for c in range(3):
                g = _at_member(m, along, units, c)
                gradient[j, c] += g
                gradient[i, c] -= g
                for a in range(3):
                    strain[j, a, c] += vec[e, m, a] * g


@njit(cache=True, nogil=True)
def few_body_jacobian(vec, slopes, fade_slopes, dx, dfade):
    """Write ∂x/∂r and ∂F/∂r of the members.

    vec, slopes, fade_slopes: as in `few_body_pull`; dx (n, n_members, 3, n_features),
    dfade (n, n_members, 3).
    """
    n_distances = slopes.shape[1]
    units = np.empty((n_distances, 3))
    for e in range(vec.shape[0]):
        _directions(vec[e], units)
        for m in range(vec.shape[1]):
            for c in range(3):
                dfade[e, m, c] = _at_member(m, fade_slopes[e], units, c)
                for q in range(slopes.shape[2]):
                    dx[e, m, c, q] = _at_member(m, slopes[e, :, q], units, c)
