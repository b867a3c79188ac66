"""Cubic B-splines on uniform grids of one and three dimensions."""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True, inline="always")
def _basis(t, weights, slopes):
    """Write the four cubic B-splines at 0 ≤ t < 1 between knots, and their slopes."""
    s = 1.0 - t
    weights[0] = s * s * s / 6.0
    weights[1] = (4.0 - 6.0 * t * t + 3.0 * t * t * t) / 6.0
    weights[2] = (4.0 - 6.0 * s * s + 3.0 * s * s * s) / 6.0
    weights[3] = t * t * t / 6.0
    slopes[0] = -0.5 * s * s
    slopes[1] = -2.0 * t + 1.5 * t * t
    slopes[2] = 2.0 * s - 1.5 * s * s
    slopes[3] = 0.5 * t * t


@njit(cache=True, nogil=True)
def evaluate(coefficients, low, step, x, value, gradient):
    """Evaluate a spline.

    coefficients (n_0 + 2, n_1 + 2, n_2 + 2) for n points along each dimension; spaces
    of less than three dimensions have 4 along the others, all of them x = 0. low, step
    (3,): first point and distance of points; x (n, 3); value (n,), gradient (n, 3).
    Returns the index of the first point outside of the grid, or −1.
    """
    weights, slopes = np.empty((3, 4)), np.empty((3, 4))
    first = np.empty(3, np.intp)
    for e in range(x.shape[0]):
        for d in range(3):
            position = (x[e, d] - low[d]) / step[d]
            last = coefficients.shape[d] - 4
            cell = math.floor(position)
            # The end of the grid belongs to its last cell.
            if cell == last + 1 and position <= cell + 1e-9:
                cell = last
            if not 0 <= cell <= last:
                return e
            first[d] = cell
            _basis(position - cell, weights[d], slopes[d])
        total, g0, g1, g2 = 0.0, 0.0, 0.0, 0.0
        for a in range(4):
            for b in range(4):
                row, slope = 0.0, 0.0
                for c in range(4):
                    k = coefficients[first[0] + a, first[1] + b, first[2] + c]
                    row += weights[2, c] * k
                    slope += slopes[2, c] * k
                w = weights[0, a] * weights[1, b]
                total += w * row
                g0 += slopes[0, a] * weights[1, b] * row
                g1 += weights[0, a] * slopes[1, b] * row
                g2 += w * slope
        value[e] = total
        gradient[e, 0] = g0 / step[0]
        gradient[e, 1] = g1 / step[1]
        gradient[e, 2] = g2 / step[2]
    return -1
