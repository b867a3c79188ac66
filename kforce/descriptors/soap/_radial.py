"""Radial functions of SOAP: what a Gaussian is at the radial points.

h_la(r) = exp(−α (r² + ρ_a²)) i_l(2 α r ρ_a), i_l a modified spherical Bessel function.
All loops run over neighbours innermost, on rows of one point ρ_a.
"""

import math

import numpy as np
from numba import njit

from kforce.kernels._profiles import exp_negative

#: Errors of the recursions, relative, are below exp(−37) = 1e−16.
_DIGITS = 37.0

#: Recursions downward start here: they may grow by more than 10³⁰⁸.
_TINY = 1e-280


@njit(cache=True, nogil=True)
def bessel_switch(l_max):
    """Return the argument from which the recursion upward is accurate up to l_max + 1.

    It amplifies errors by exp(l²/z), the recursion downward takes √(z) more steps.
    """
    return max(8.0, (l_max + 1.0) ** 2 / 3.0)


@njit(cache=True, nogil=True)
def bessel_starts(alpha, points, cutoff, l_max):
    """Return the l from which the recursion downward starts, for every point.

    Every step from l to l − 1 shrinks the error by (i_l / i_{l−1})², which is nearly
    exp(−2 asinh((l + ½)/z)). Starts are l_max + 1 and multiples of 4 more.
    """
    starts = np.empty(points.size, dtype=np.intp)
    for a in range(points.size):
        z = min(2.0 * alpha * points[a] * cutoff, bessel_switch(l_max))
        first, shrunk = l_max + 1, 0.0
        while shrunk < _DIGITS and z > 0.0:
            for _ in range(4):
                first += 1
                shrunk += 2.0 * math.asinh((first + 0.5) / z)
        starts[a] = first
    return starts


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def radial_functions(r, alpha, points, starts, h, work):
    """Fill h (l_max + 2, n_points, ≥ n) with h_la at distances r (n,).

    starts (n_points,): see `bessel_starts`; work (5, ≥ n) is scratch.
    """
    n = r.size
    l_max = h.shape[0] - 2
    switch = bessel_switch(l_max)
    e, gauss, z, i_0, low = work[0], work[1], work[2], work[3], work[4]
    for a in range(points.size):
        slope = 2.0 * alpha * points[a]
        z_min, z_max = slope * r[0], 0.0
        for k in range(n):
            z[k] = slope * r[k]
            z_min = min(z_min, z[k])
            z_max = max(z_max, z[k])
            gauss[k] = alpha * (r[k] - points[a]) ** 2
            e[k] = z[k]
        # In a loop, as every call in the source is compiled anew.
        for t in range(2):
            exp_negative(work[t, :n], low[:n])
        _zeroth(z, e, gauss, i_0, n)
        if z_min <= switch:
            _downward(z, i_0, switch, starts[a], h, a, low, gauss, n)
        if z_max > switch:
            _upward(z, e, i_0, switch, h, a, low, gauss, n)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _zeroth(z, e, gauss, i_0, n):
    """Write gauss e^−z i_0(z), where e is e^−z: (1 − e²)/2z, or its series times e."""
    for k in range(n):
        y = z[k] * z[k]
        p = 1.0 / 355687428096000.0
        p = p * y + 1.0 / 1307674368000.0
        p = p * y + 1.0 / 6227020800.0
        p = p * y + 1.0 / 39916800.0
        p = p * y + 1.0 / 362880.0
        p = p * y + 1.0 / 5040.0
        p = p * y + 1.0 / 120.0
        p = p * y + 1.0 / 6.0
        p = p * y + 1.0
        whole = (1.0 - e[k] * e[k]) / (2.0 * max(z[k], 1.0))
        i_0[k] = gauss[k] * (e[k] * p if z[k] < 1.0 else whole)


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _downward(z, i_0, switch, start, h, a, low, high, n):
    """Fill h by g_{l−1} = z² g_{l+1} + (2l + 1) g_l, i_l = zˡ g_l, scaled to i_0.

    Without divisions, and with positive terms only: no digits are lost, at any z.
    """
    for k in range(n):
        high[k] = 0.0
        low[k] = _TINY
    # high and low are g_{l+1} and g_l.
    for l in range(start, h.shape[0], -4):
        b = 2.0 * l + 1.0
        for k in range(n):
            x = min(z[k], switch)
            y = x * x
            upper = y * high[k] + b * low[k]
            lower = y * low[k] + (b - 2.0) * upper
            upper = y * upper + (b - 4.0) * lower
            low[k] = y * lower + (b - 6.0) * upper
            high[k] = upper
    top = h.shape[0] - 1
    for k in range(n):
        x = min(z[k], switch)
        h[top, a, k] = low[k]
        h[top - 1, a, k] = x * x * high[k] + (2.0 * top + 1.0) * low[k]
    for l in range(top - 1, 0, -1):
        b = 2.0 * l + 1.0
        for k in range(n):
            x = min(z[k], switch)
            h[l - 1, a, k] = x * x * h[l + 1, a, k] + b * h[l, a, k]
    for k in range(n):
        low[k] = i_0[k] / h[0, a, k]
    for l in range(h.shape[0]):
        for k in range(n):
            h[l, a, k] *= low[k]
            low[k] *= z[k]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def _upward(z, e, i_0, switch, h, a, low, high, n):
    """Fill h where z is large by i_{l+1} = i_{l−1} − (2l + 1) i_l / z."""
    for k in range(n):
        x = max(z[k], switch)
        square = e[k] * e[k]
        low[k] = i_0[k]
        # i_1 = (cosh z − i_0)/z, and i_0 = sinh z / z.
        high[k] = i_0[k] * ((1.0 + square) / (1.0 - square) - 1.0 / x)
        if z[k] > switch:
            h[0, a, k] = low[k]
            h[1, a, k] = high[k]
    for l in range(1, h.shape[0] - 1):
        b = 2.0 * l + 1.0
        for k in range(n):
            following = low[k] - b * high[k] / max(z[k], switch)
            low[k] = high[k]
            high[k] = following
            h[l + 1, a, k] = following if z[k] > switch else h[l + 1, a, k]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def weighted_with_slopes(h, lanes, alpha, points, n, out):
    """Fill the rows of out (l_max + 1, n_points, ≥ 2n) with f h_la and its derivative.

    h as `radial_functions` makes it of n lanes (6, ≥ n), see `gather`.
    """
    r, f, df = lanes[3], lanes[4], lanes[5]
    for l in range(out.shape[0]):
        for a in range(points.size):
            slope = 2.0 * alpha * points[a]
            row, here, higher = out[l, a], h[l, a], h[l + 1, a]
            for k in range(n):
                row[k] = f[k] * here[k]
            for k in range(n):
                log_slope = l / r[k] - 2.0 * alpha * r[k]
                inside = log_slope * here[k] + slope * higher[k]
                row[n + k] = df[k] * here[k] + f[k] * inside
