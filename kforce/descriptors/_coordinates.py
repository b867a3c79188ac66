"""Internal coordinates: distances, angles, torsions, and the maps to space."""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def pair_distances(positions, atoms, dist, b_matrix):
    """Write |r_a − r_b| and its derivatives with respect to both atoms.

    positions (n, n_atoms, 3), atoms (n_pairs, 2), dist (n, n_pairs),
    b_matrix (n, n_pairs, 2, 3). Where two atoms coincide the distance is 0
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
            b_matrix[s, p, 0, 0] = x * inverse
            b_matrix[s, p, 0, 1] = y * inverse
            b_matrix[s, p, 0, 2] = z * inverse
            for c in range(3):
                b_matrix[s, p, 1, c] = -b_matrix[s, p, 0, c]


@njit(cache=True, nogil=True)
def _unit(positions, a, b, u):
    """Write the unit vector from a to b and return the distance."""
    square = 0.0
    for c in range(3):
        u[c] = positions[b, c] - positions[a, c]
        square += u[c] * u[c]
    r = math.sqrt(square)
    for c in range(3):
        u[c] = u[c] / r if r > 0.0 else math.nan
    return r


@njit(cache=True, nogil=True)
def _dot(u, v):
    return u[0] * v[0] + u[1] * v[1] + u[2] * v[2]


@njit(cache=True, nogil=True)
def angles(positions, atoms, first, value, b_matrix):
    """Write cos θ of the angles a-b-c and its derivatives.

    positions (n, n_atoms, 3), atoms (n_angles, 4) of which three are used; value
    (n, n_coord) and b_matrix (n, n_coord, 4, 3) from column `first` on.
    """
    u, v = np.empty(3), np.empty(3)
    for s in range(positions.shape[0]):
        for q in range(atoms.shape[0]):
            a, b, c = atoms[q, 0], atoms[q, 1], atoms[q, 2]
            r_u = _unit(positions[s], b, a, u)
            r_v = _unit(positions[s], b, c, v)
            cosine = _dot(u, v)
            value[s, first + q] = cosine
            row = b_matrix[s, first + q]
            for k in range(3):
                row[0, k] = (v[k] - cosine * u[k]) / r_u
                row[2, k] = (u[k] - cosine * v[k]) / r_v
                row[1, k] = -row[0, k] - row[2, k]


@njit(cache=True, nogil=True)
def torsions(positions, atoms, first, value, b_matrix):
    """Write sin θ₁ sin θ₂ cos φ of the torsions a-b-c-d and its derivatives.

    With unit vectors u, v, w along the three bonds it is (u×v)·(v×w), which is
    (u·v)(v·w) − u·w: where an angle is straight and φ undefined it goes to zero.
    """
    u, v, w = np.empty(3), np.empty(3), np.empty(3)
    g_u, g_v, g_w = np.empty(3), np.empty(3), np.empty(3)
    for s in range(positions.shape[0]):
        for q in range(atoms.shape[0]):
            a, b, c, d = atoms[q]
            r_u = _unit(positions[s], a, b, u)
            r_v = _unit(positions[s], b, c, v)
            r_w = _unit(positions[s], c, d, w)
            uv, vw, uw = _dot(u, v), _dot(v, w), _dot(u, w)
            value[s, first + q] = uv * vw - uw
            for k in range(3):
                g_u[k] = vw * v[k] - w[k]
                g_v[k] = vw * u[k] + uv * w[k]
                g_w[k] = uv * v[k] - u[k]
            along = _dot(g_u, u), _dot(g_v, v), _dot(g_w, w)
            row = b_matrix[s, first + q]
            for k in range(3):
                x = (g_u[k] - along[0] * u[k]) / r_u
                y = (g_v[k] - along[1] * v[k]) / r_v
                z = (g_w[k] - along[2] * w[k]) / r_w
                row[0, k] = -x
                row[1, k] = x - y
                row[2, k] = y - z
                row[3, k] = z


@njit(cache=True, nogil=True)
def switch(r, near, far):
    """Return what falls from 1 at `near` to 0 at `far`, and its derivative.

    Three derivatives are continuous: 1 − 35 t⁴ + 84 t⁵ − 70 t⁶ + 20 t⁷.
    """
    if r <= near:
        return 1.0, 0.0
    if r >= far:
        return 0.0, 0.0
    t = (r - near) / (far - near)
    value = 1.0 - t**4 * (35.0 + t * (-84.0 + t * (70.0 - 20.0 * t)))
    return value, -140.0 * (t * (1.0 - t)) ** 3 / (far - near)


@njit(cache=True, nogil=True)
def weigh(positions, atoms, n_body, switches, first, value, b_matrix):
    """Multiply coordinates and their derivatives by switches of the bonds in them.

    positions (n, n_atoms, 3), atoms (n_coord, 4), switches (n_coord, 3, 2) the
    distances between which the bonds along them fall from 1 to 0, infinite where they
    always hold; value (n, …) and b_matrix (n, …, 4, 3) from column `first` on.
    """
    u = np.empty(3)
    for s in range(positions.shape[0]):
        for q in range(atoms.shape[0]):
            row = b_matrix[s, first + q]
            for m in range(n_body[q] - 1):
                near, far = switches[q, m]
                if near == np.inf:
                    continue
                r = _unit(positions[s], atoms[q, m], atoms[q, m + 1], u)
                weight, slope = switch(r, near, far)
                slope *= value[s, first + q]
                value[s, first + q] *= weight
                row *= weight
                for k in range(3):
                    row[m, k] -= slope * u[k]
                    row[m + 1, k] += slope * u[k]


@njit(cache=True, nogil=True)
def pull(dx_dq, b_matrix, atoms, n_body, first, g, out):
    """Add Jᵀ g to `out`: descriptor gradients (n, n_features) to (n, n_atoms, 3)."""
    for s in range(g.shape[0]):
        for q in range(atoms.shape[0]):
            e = 0.0
            for k in range(first[q], first[q + 1]):
                e += dx_dq[s, k] * g[s, k]
            for m in range(n_body[q]):
                a = atoms[q, m]
                for c in range(3):
                    out[s, a, c] += e * b_matrix[s, q, m, c]


@njit(cache=True, nogil=True)
def push(dx_dq, b_matrix, atoms, n_body, first, u, out):
    """Write J u to `out`: displacements (n, n_atoms, 3) to tangents (n, n_features)."""
    for s in range(u.shape[0]):
        for q in range(atoms.shape[0]):
            e = 0.0
            for m in range(n_body[q]):
                a = atoms[q, m]
                for c in range(3):
                    e += u[s, a, c] * b_matrix[s, q, m, c]
            for k in range(first[q], first[q + 1]):
                out[s, k] = dx_dq[s, k] * e
