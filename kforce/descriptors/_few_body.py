"""Coordinates of pairs and triplets of atoms, and their derivatives."""

import math

import numpy as np
from numba import njit

from kforce.descriptors._environments import cutoff_function, cutoff_function_derivative


@njit(cache=True, nogil=True)
def pairs(dist, cutoff, width, exponents, tail, reach, x, f_cut, dx_dr, df_dr):
    """Write r^e and F = f(r) [erf(κ r)/r]^m of pairs.

    dist (n,); exponents (d,) of int: e; tail, reach: m and κ. x (n, d), f_cut (n,);
    dx_dr (n, 1, d) and df_dr (n, 1): derivatives with respect to r.
    """
    for p in range(dist.size):
        r = dist[p]
        for q in range(exponents.size):
            power = r ** float(exponents[q])
            x[p, q] = power
            dx_dr[p, 0, q] = exponents[q] * power / r
        f = cutoff_function(r, cutoff, width)
        df = cutoff_function_derivative(r, cutoff, width)
        if tail != 0:
            error = math.erf(reach * r)
            bell = 2.0 * reach / math.sqrt(math.pi) * math.exp(-((reach * r) ** 2))
            factor = (error / r) ** float(tail)
            df = factor * (df + f * tail * (bell / error - 1.0 / r))
            f *= factor
        f_cut[p] = f
        df_dr[p, 0] = df


@njit(cache=True, nogil=True)
def _wanted(first, second, j, k):
    return (first[j] and second[k]) or (second[j] and first[k])


@njit(cache=True, nogil=True)
def triplet_starts(offsets, first, second):
    """Return where the triplets of each centre start, (n_central + 1,).

    offsets (n_central + 1,): the neighbours of each centre; first, second (n_pairs,) of
    bool: may a neighbour be the one of the triplet, or the other? A triplet is two
    neighbours in any order.
    """
    starts = np.zeros(offsets.size, dtype=np.intp)
    for c in range(offsets.size - 1):
        n = 0
        for j in range(offsets[c], offsets[c + 1]):
            for k in range(j + 1, offsets[c + 1]):
                n += _wanted(first, second, j, k)
        starts[c + 1] = starts[c] + n
    return starts


@njit(cache=True, nogil=True)
def triplets(
    offsets, first, second, starts, vec, dist, cutoff, width,
    members, x, f_cut, dx_dr, df_dr,
):  # fmt: skip
    """Write r_ij + r_ik, (r_ij − r_ik)², r_jk and F = f(r_ij) f(r_ik) of triplets.

    offsets, first, second, starts: as in `triplet_starts`. vec (n_pairs, 3), dist
    (n_pairs,). members (n, 2): the pairs ij and ik. x (n, 3), f_cut (n,); dx_dr
    (n, 3, 3), of the three distances, and df_dr (n, 3).
    """
    f, df = np.empty(dist.size), np.empty(dist.size)
    for p in range(dist.size):
        f[p] = cutoff_function(dist[p], cutoff, width)
        df[p] = cutoff_function_derivative(dist[p], cutoff, width)
    dx_dr[:] = 0.0
    for c in range(offsets.size - 1):
        t = starts[c]
        for j in range(offsets[c], offsets[c + 1]):
            for k in range(j + 1, offsets[c + 1]):
                if not _wanted(first, second, j, k):
                    continue
                difference = dist[j] - dist[k]
                square = 0.0
                for a in range(3):
                    square += (vec[j, a] - vec[k, a]) ** 2
                members[t, 0], members[t, 1] = j, k
                x[t, 0] = dist[j] + dist[k]
                x[t, 1] = difference**2
                x[t, 2] = math.sqrt(square)
                dx_dr[t, 0, 0], dx_dr[t, 1, 0] = 1.0, 1.0
                dx_dr[t, 0, 1] = 2.0 * difference
                dx_dr[t, 1, 1] = -2.0 * difference
                dx_dr[t, 2, 2] = 1.0
                f_cut[t] = f[j] * f[k]
                df_dr[t, 0] = df[j] * f[k]
                df_dr[t, 1] = f[j] * df[k]
                df_dr[t, 2] = 0.0
                t += 1


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
    central_atoms, atoms, vec, dx_dr, df_dr, by_x, by_f_cut, gradient, strain
):
    """Add derivatives of Σ_e g_e·x_e + h_e F_e with respect to positions and strains.

    central_atoms (n,), atoms (n, n_members), vec (n, n_members, 3), dx_dr (n,
    n_distances, n_features), df_dr (n, n_distances), by_x (n, n_features),
    by_f_cut (n,); gradient (n_atoms, 3), strain (n_atoms, 3, 3): see
    `Environments.pull`.
    """
    n_distances = dx_dr.shape[1]
    along, units = np.empty(n_distances), np.empty((n_distances, 3))
    for e in range(central_atoms.size):
        _directions(vec[e], units)
        for p in range(n_distances):
            along[p] = df_dr[e, p] * by_f_cut[e]
            for q in range(dx_dr.shape[2]):
                along[p] += dx_dr[e, p, q] * by_x[e, q]
        i = central_atoms[e]
        for m in range(atoms.shape[1]):
            j = atoms[e, m]
            for c in range(3):
                g = _at_member(m, along, units, c)
                gradient[j, c] += g
                gradient[i, c] -= g
                for a in range(3):
                    strain[j, a, c] += vec[e, m, a] * g


@njit(cache=True, nogil=True)
def few_body_jacobian(vec, dx_dr, df_dr, dx, df_cut):
    """Write ∂x/∂r and ∂F/∂r of the members.

    vec, dx_dr, df_dr: as in `few_body_pull`; dx (n, n_members, 3, n_features),
    df_cut (n, n_members, 3).
    """
    n_distances = dx_dr.shape[1]
    units = np.empty((n_distances, 3))
    for e in range(vec.shape[0]):
        _directions(vec[e], units)
        for m in range(vec.shape[1]):
            for c in range(3):
                df_cut[e, m, c] = _at_member(m, df_dr[e], units, c)
                for q in range(dx_dr.shape[2]):
                    dx[e, m, c, q] = _at_member(m, dx_dr[e, :, q], units, c)
