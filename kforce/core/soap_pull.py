"""Derivatives of a function of SOAP vectors with respect to neighbours.

The chain rule is applied from the vector back: to the coefficients c, to the sums over
neighbours at radial points, and from there to every neighbour. No derivative of the
vector itself is ever formed.
"""

import numpy as np
from numba import njit

from kforce.core.soap_angular import azimuthal, legendre, legendre_table
from kforce.core.soap_expansion import scratch, to_points, unmix
from kforce.core.soap_members import gather, most_lanes
from kforce.core.soap_power import before_normalising, power_spectrum_adjoint
from kforce.core.soap_radial import radial_functions, weighted_with_slopes


@njit(cache=True, nogil=True)
def soap_pull(
    first,
    last,
    starts,
    members,
    alpha,
    points,
    begins,
    matrices,
    mixing,
    pairs,
    factor,
    normalise,
    x,
    c,
    length,
    by_x,
    along,
):
    """Write to the rows of along (n_pairs, 3) what members of first to last receive.

    by_x (n_env, n_features): derivatives with respect to x. See `soap_values`.
    """
    l_max = factor.shape[1] - 1
    n_points, n_max = matrices.shape[1:]
    n_channels, mixes = mixing.shape[1], mixing.shape[0] < mixing.shape[1]
    n_features = pairs.shape[0] * (l_max + 1)
    room = most_lanes(starts, first * n_channels, last * n_channels)
    h, work, p, even, odd = scratch(l_max, n_points, room)
    lanes, both = np.empty((6, room)), np.empty((l_max + 1, n_points, 2 * room))
    by_p, by_c = np.empty(n_features), np.empty(c.shape[1:])
    by_points = np.empty((n_points, (l_max + 1) ** 2))
    own = np.empty((n_max, (l_max + 1) ** 2))
    sums, around = np.empty((2, l_max + 1, room)), np.empty((4, room))
    table = legendre_table(l_max)
    for e in range(first, last):
        before_normalising(x[e], length[e], by_x[e], normalise, by_p)
        power_spectrum_adjoint(c[e], pairs, factor, by_p, by_c)
        for s in range(n_channels):
            begin, end = starts[e * n_channels + s], starts[e * n_channels + s + 1]
            n = gather(members, begin, end, lanes)
            if n == 0:
                continue
            radial_functions(lanes[3, :n], alpha, points, begins, h, work)
            legendre(lanes[2, :n], table, l_max, p)
            azimuthal(lanes[0, :n], lanes[1, :n], l_max, even, odd)
            if mixes:
                unmix(by_c, mixing, s, own)
            block = own if mixes else by_c[s * n_max : (s + 1) * n_max]
            to_points(block, matrices, by_points)
            weighted_with_slopes(h, lanes, alpha, points, n, both)
            _to_polynomials(both, p, even, odd, table, by_points, n, sums, around)
            _to_positions(even, odd, lanes, sums, around, n)
            for k in range(end - begin):
                for i in range(3):
                    along[begin + k, i] = around[i, k]


@njit(cache=True, nogil=True, fastmath=True)
def _to_polynomials(radial, p, even, odd, table, by_points, n, sums, around):
    """Sum over radial points and l, for n neighbours.

    radial: see `weighted_with_slopes`. sums[0, m] and sums[1, m] receive the
    derivatives with respect to even[m] and odd[m], around[2] that with respect to z and
    around[3] that with respect to r.
    """
    n_points = by_points.shape[0]
    u, v = np.empty(2 * n), np.empty(2 * n)
    around.fill(0.0)
    sums.fill(0.0)
    for q in range(even.shape[0]):
        middle = q * q + q
        for m in range(q + 1):
            # Values in the first half, slopes in the second.
            u.fill(0.0)
            v.fill(0.0)
            for a in range(0, n_points, 2):
                b = min(a + 1, n_points - 1)
                g_a, w_a = by_points[a, middle + m], by_points[a, middle - m]
                g_b = by_points[b, middle + m] if b > a else 0.0
                w_b = by_points[b, middle - m] if b > a else 0.0
                for k in range(2 * n):
                    u[k] += g_a * radial[q, a, k] + g_b * radial[q, b, k]
                    v[k] += w_a * radial[q, a, k] + w_b * radial[q, b, k]
            row = q * (q + 1) // 2 + m
            slope, higher = table[row, 2], row + (1 if m < q else 0)
            for k in range(n):
                around[2, k] += (slope * p[higher, k]) * (
                    even[m, k] * u[k] + odd[m, k] * v[k]
                )
            for k in range(n):
                around[3, k] += p[row, k] * (
                    even[m, k] * u[n + k] + odd[m, k] * v[n + k]
                )
            for k in range(n):
                sums[0, m, k] += p[row, k] * u[k]
                sums[1, m, k] += p[row, k] * v[k]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _to_positions(even, odd, lanes, sums, around, n):
    """Replace around[:3], of which the first two are 0, by derivatives in positions."""
    for m in range(1, even.shape[0]):
        for k in range(n):
            a, b = m * even[m - 1, k], m * odd[m - 1, k]
            around[0, k] += a * sums[0, m, k] + b * sums[1, m, k]
            around[1, k] += a * sums[1, m, k] - b * sums[0, m, k]
    for k in range(n):
        x, y, z, r = lanes[0, k], lanes[1, k], lanes[2, k], lanes[3, k]
        dot = x * around[0, k] + y * around[1, k] + z * around[2, k]
        radial = around[3, k] - dot / r
        around[0, k] = around[0, k] / r + radial * x
        around[1, k] = around[1, k] / r + radial * y
        around[2, k] = around[2, k] / r + radial * z
