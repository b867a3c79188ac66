"""The density of neighbours around one centre, in a basis."""

import numpy as np
from numba import njit

from kforce.descriptors._environments import cutoff_function, cutoff_function_derivative


@njit(cache=True, nogil=True, fastmath=True)
def products(left, right, n, out):
    """Write Σ_k left[a, k] right[m, k] over k < n to out[a, m].

    Blocks of two rows and four share what they load; where there are fewer the last
    ones are computed again.
    """
    n_left, last = left.shape[0], right.shape[0] - 1
    for a in range(0, n_left, 2):
        b = min(a + 1, n_left - 1)
        for m in range(0, last + 1, 4):
            m_1, m_2, m_3 = min(m + 1, last), min(m + 2, last), min(m + 3, last)
            a_0 = a_1 = a_2 = a_3 = b_0 = b_1 = b_2 = b_3 = 0.0
            for k in range(n):
                u, v = left[a, k], left[b, k]
                a_0 += u * right[m, k]
                b_0 += v * right[m, k]
                a_1 += u * right[m_1, k]
                b_1 += v * right[m_1, k]
                a_2 += u * right[m_2, k]
                b_2 += v * right[m_2, k]
                a_3 += u * right[m_3, k]
                b_3 += v * right[m_3, k]
            out[a, m], out[a, m_1], out[a, m_2], out[a, m_3] = a_0, a_1, a_2, a_3
            out[b, m], out[b, m_1], out[b, m_2], out[b, m_3] = b_0, b_1, b_2, b_3


@njit(cache=True, nogil=True, fastmath=True)
def to_basis(at_points, matrices, out):
    """Write Σ_a T_an of values at points (n_points, n_lm) to out (n_max, n_lm)."""
    one = matrices.shape[0] == 1
    for n in range(out.shape[0]):
        out[n].fill(0.0)
        for l in range(matrices.shape[0]):
            first, n_rows = (0, out.shape[1]) if one else (l * l, 2 * l + 1)
            target = out[n, first:]
            for a in range(at_points.shape[0]):
                t, values = matrices[l, a, n], at_points[a, first:]
                for i in range(n_rows):
                    target[i] += t * values[i]


@njit(cache=True, nogil=True, fastmath=True)
def to_points(in_basis, matrices, out):
    """Write Σ_n T_an of values (n_max, n_lm) to out (n_points, n_lm)."""
    one = matrices.shape[0] == 1
    for a in range(out.shape[0]):
        out[a].fill(0.0)
        for l in range(matrices.shape[0]):
            first, n_rows = (0, out.shape[1]) if one else (l * l, 2 * l + 1)
            target = out[a, first:]
            for n in range(in_basis.shape[0]):
                t, values = matrices[l, a, n], in_basis[n, first:]
                for i in range(n_rows):
                    target[i] += t * values[i]


@njit(cache=True, nogil=True, fastmath=True)
def add_mixed(block, mixing, s, out):
    """Add mixing[a, s] times block (n_max, n_lm), of channel s, to each density a.

    mixing (n_densities, n_channels), out (n_densities · n_max, n_lm).
    """
    n_max = block.shape[0]
    for a in range(out.shape[0]):
        weight, values, target = mixing[a // n_max, s], block[a % n_max], out[a]
        for i in range(values.size):
            target[i] += weight * values[i]


@njit(cache=True, nogil=True, fastmath=True)
def unmix(by_density, mixing, s, out):
    """Write to out (n_max, n_lm), of channel s, what `add_mixed` turns back."""
    n_max = out.shape[0]
    out.fill(0.0)
    for a in range(by_density.shape[0]):
        weight, values, target = mixing[a // n_max, s], by_density[a], out[a % n_max]
        for i in range(values.size):
            target[i] += weight * values[i]


@njit(cache=True, nogil=True)
def scratch(l_max, n_points, room):
    """Return room for radial functions, their work, P, even and odd of `room` lanes."""
    return (
        np.empty((l_max + 2, n_points, room)),
        np.empty((5, room)),
        np.empty(((l_max + 1) * (l_max + 2) // 2, room)),
        np.empty((l_max + 1, room)),
        np.empty((l_max + 1, room)),
    )


#: Neighbours of a channel fill whole vectors; those that are missing have no weight.
LANES = 8


@njit(cache=True, nogil=True)
def most_lanes(starts, first, last):
    """Return the room that the largest of the groups first to last of members needs."""
    most = LANES
    for g in range(first, last):
        most = max(most, starts[g + 1] - starts[g])
    return (most + LANES - 1) // LANES * LANES


@njit(cache=True, nogil=True)
def gather(members, start, stop, lanes):
    """Copy members (n_members, 6) start to stop to lanes (6, room), and fill these up.

    A member is the unit vector, distance, weight f and its derivative.
    """
    n = stop - start
    full = (n + LANES - 1) // LANES * LANES
    for i in range(6):
        for k in range(n):
            lanes[i, k] = members[start + k, i]
        for k in range(n, full):
            lanes[i, k] = 1.0 if i == 3 else 0.0
    return full


@njit(cache=True, nogil=True)
def weigh_members(vec, dist, cutoff, width, exponent, scale, rate):
    """Return the unit vector, distance, weight and its derivative of all members.

    vec (n_members, 3), dist (n_members,); the result is (n_members, 6). The weight is
    the cutoff function and, for an exponent > 0, the damping c/(c + (r/scale)^exponent)
    with the rate c, which is without its numerator for c = 0.
    """
    members = np.empty((dist.size, 6))
    for k in range(dist.size):
        r = dist[k]
        weight = cutoff_function(r, cutoff, width)
        dweight = cutoff_function_derivative(r, cutoff, width)
        if exponent > 0.0:
            power = (r / scale) ** exponent
            damping = (rate if rate > 0.0 else 1.0) / (rate + power)
            log_derivative = -exponent * power / (r * (rate + power))
            dweight = damping * (dweight + weight * log_derivative)
            weight = damping * weight
        for i in range(3):
            members[k, i] = vec[k, i] / r
        members[k, 3] = r
        members[k, 4] = weight
        members[k, 5] = dweight
    return members
