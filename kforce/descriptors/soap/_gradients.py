"""Derivatives of SOAP vectors, and of functions of them, along neighbours."""

import numpy as np
from numba import njit

from kforce.descriptors.soap._density import (
    gather,
    most_lanes,
    scratch,
    to_points,
    unmix,
)
from kforce.descriptors.soap._harmonics import (
    azimuthal,
    harmonics_with_gradients,
    legendre,
    legendre_table,
)
from kforce.descriptors.soap._power_spectrum import (
    before_normalising,
    power_spectrum_adjoint,
)
from kforce.descriptors.soap._radial import radial_functions, weighted_with_slopes


@njit(cache=True, nogil=True)
def soap_pull(
    first, last, starts, members,
    alpha, points, begins, matrices, mixing, pairs, factor, normalise,
    x, c, length, by_x, along,
):  # fmt: skip
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
    for l in range(even.shape[0]):
        middle = l * l + l
        for m in range(l + 1):
            # Values in the first half, slopes in the second.
            u.fill(0.0)
            v.fill(0.0)
            for a in range(0, n_points, 2):
                b = min(a + 1, n_points - 1)
                g_a, w_a = by_points[a, middle + m], by_points[a, middle - m]
                g_b = by_points[b, middle + m] if b > a else 0.0
                w_b = by_points[b, middle - m] if b > a else 0.0
                for k in range(2 * n):
                    u[k] += g_a * radial[l, a, k] + g_b * radial[l, b, k]
                    v[k] += w_a * radial[l, a, k] + w_b * radial[l, b, k]
            row = l * (l + 1) // 2 + m
            slope, higher = table[row, 2], row + (1 if m < l else 0)
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


@njit(cache=True, nogil=True)
def soap_jacobian(
    first, last, starts, members,
    alpha, points, begins, matrices, mixing, pairs, factor, normalise,
    x, c, length, dx,
):  # fmt: skip
    """Fill dx (n_members, 3, n_features) for the members of environments first to last.

    The first member is row 0. See `soap_values`.
    """
    n_l = factor.shape[1]
    l_max = n_l - 1
    n_points, n_max = matrices.shape[1:]
    n_all = c.shape[1]
    n_channels = mixing.shape[1]
    n_features = pairs.shape[0] * n_l
    room = most_lanes(starts, first * n_channels, last * n_channels)
    h, work, p, even, odd = scratch(l_max, n_points, room)
    lanes, both = np.empty((6, room)), np.empty((n_l, n_points, 2 * room))
    y = np.empty((n_l * n_l, 4 * room))
    # The three directions side by side: R' and R, and then û Σ c Y and Σ c ∇Y.
    radial = np.empty((n_max, n_l, 2, 3 * room))
    angular = np.empty((n_all, n_l, 2, 3 * room))
    block, dot = np.empty((n_l, 3 * room)), np.empty(3 * room)
    # Rows are put together where they stay in the cache, and then written once.
    rows = np.empty((3 * room, n_features))
    table, weights = legendre_table(l_max), np.empty(mixing.shape[0])
    row = 0
    for g in range(first * n_channels, last * n_channels):
        n = gather(members, starts[g], starts[g + 1], lanes)
        if n == 0:
            continue
        e, s = g // n_channels, g % n_channels
        n_here = starts[g + 1] - starts[g]
        radial_functions(lanes[3, :n], alpha, points, begins, h, work)
        weighted_with_slopes(h, lanes, alpha, points, n, both)
        _radial_parts(both, matrices, n, radial)
        legendre(lanes[2, :n], table, l_max, p)
        azimuthal(lanes[0, :n], lanes[1, :n], l_max, even, odd)
        harmonics_with_gradients(p, even, odd, table, lanes, n, y)
        _angular_parts(y, c[e], lanes, n, angular)
        for a in range(weights.size):
            weights[a] = mixing[a, s]
        dot.fill(0.0)
        for i in range(pairs.shape[0]):
            a, b = pairs[i]
            _one_pair(radial, angular, a, b, weights, factor, 3 * n, block)
            _add_products(x[e, i * n_l :], block, 3 * n, dot)
            for j in range(3):
                for k in range(j * n, j * n + n_here):
                    for l in range(n_l):
                        rows[k, i * n_l + l] = block[l, k]
        for k in range(n_here):
            for j in range(3):
                target, values = dx[row + k, j], rows[j * n + k]
                target[n_features] = 0.0
                scale, along = 1.0, 0.0
                if normalise:
                    scale = 1.0 / length[e] if length[e] > 0.0 else 0.0
                    along = dot[j * n + k]
                _project(x[e], along, scale, values, target)
        row += n_here


@njit(cache=True, nogil=True, fastmath=True)
def _radial_parts(both, matrices, n, radial):
    """Fill radial (n_max, n_l, 2, ≥ 3n): slopes and values of R_nl, three times each.

    both: see `kforce.descriptors.soap._radial.weighted_with_slopes`.
    """
    row = np.empty(2 * n)
    for l in range(radial.shape[1]):
        matrix = matrices[min(l, matrices.shape[0] - 1)]
        for i in range(radial.shape[0]):
            row.fill(0.0)
            for a in range(0, matrix.shape[0], 2):
                b = min(a + 1, matrix.shape[0] - 1)
                t_a, t_b = matrix[a, i], matrix[b, i] if b > a else 0.0
                one, two = both[l, a], both[l, b]
                for k in range(2 * n):
                    row[k] += t_a * one[k] + t_b * two[k]
            slopes, values = radial[i, l, 0], radial[i, l, 1]
            for j in range(0, 3 * n, n):
                for k in range(n):
                    slopes[j + k] = row[n + k]
                    values[j + k] = row[k]


@njit(cache=True, nogil=True, fastmath=True)
def _angular_parts(y, c, lanes, n, angular):
    """Fill angular (n_densities · n_max, n_l, 2, ≥ 3n) with û Σ_m c Y and Σ_m c ∇Y.

    y: see `kforce.descriptors.soap._harmonics.harmonics_with_gradients`.
    """
    row = np.empty(4 * n)
    for l in range(angular.shape[1]):
        for i in range(angular.shape[0]):
            g, one = c[i, l * l], y[l * l]
            for k in range(4 * n):
                row[k] = g * one[k]
            for m in range(l):
                at = l * l + 2 * m + 1
                u, v = c[i, at], c[i, at + 1]
                one, two = y[at], y[at + 1]
                for k in range(4 * n):
                    row[k] += u * one[k] + v * two[k]
            for j in range(3):
                target, unit = angular[i, l, 0, j * n :], lanes[j]
                for k in range(n):
                    target[k] = unit[k] * row[k]
            target = angular[i, l, 1]
            for k in range(3 * n):
                target[k] = row[n + k]


@njit(cache=True, nogil=True, fastmath=True)
def _one_pair(radial, angular, a, b, weights, factor, n, block):
    """Write the derivatives (n_l, ≥ n) of the features of one pair to block.

    weights (n_densities,): of the neighbours in each density.
    """
    n_max = radial.shape[0]
    kind = 0 if a == b else 1
    block.fill(0.0)
    for u, v in ((a, b), (b, a)):
        weight, own = weights[u // n_max], u % n_max
        if weight != 0.0:
            for l in range(block.shape[0]):
                f = weight * factor[kind, l]
                slopes, values = radial[own, l, 0], radial[own, l, 1]
                along, across = angular[v, l, 0], angular[v, l, 1]
                row = block[l]
                for k in range(n):
                    row[k] += f * (slopes[k] * along[k] + values[k] * across[k])


@njit(cache=True, nogil=True, fastmath=True)
def _add_products(x, block, n, dot):
    """Add Σ_l x_l block[l] to dot (≥ n)."""
    for l in range(block.shape[0]):
        for k in range(n):
            dot[k] += x[l] * block[l, k]


@njit(cache=True, nogil=True, fastmath=True)
def _project(x, dot, scale, values, target):
    """Write the derivative of what has length 1, given that of what was scaled to it.

    The last feature is neither.
    """
    for i in range(values.size):
        target[i] = scale * (values[i] - dot * x[i])
