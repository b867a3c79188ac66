"""Profiles φ(u) of the radial kernels and their derivatives with respect to u.

They are evaluated on short blocks: square root, exponential and polynomials are
separate loops, each of which is vector arithmetic on data in the first-level cache.
"""

import math

import numpy as np
from numba import njit

MATERN32, MATERN52, MATERN72, RBF, RATIONAL_QUADRATIC = range(5)

_BLOCK = 512

#: All liberties but re-association, which would undo the rounding trick below.
_EXACT = {"contract", "nnan", "ninf", "nsz", "arcp"}

#: Adding and subtracting it rounds a double to a whole number, which then stands in its
#: lowest bits.
_ROUND = 6755399441055744.0

#: log 2 as two doubles, of which the first times any exponent is exact.
_LOG2_HIGH, _LOG2_LOW = 0.6931471803691238, 1.9082149292705877e-10


@njit(cache=True, nogil=True, fastmath=_EXACT)
def exp_negative(a, power):
    """Replace a ≥ 0 by exp(−a) to 2e-16, in arithmetic that vectorises.

    exp(−a) = 2ᵏ eʳ with k whole and |r| ≤ log(2)/2: eʳ is a polynomial, and 2ᵏ is made
    by writing k into the exponent of a double. `power` is scratch of the length of a.
    """
    bits = power.view(np.int64)
    for i in range(a.size):
        x = max(-a[i], -708.0)
        shifted = x * 1.4426950408889634 + _ROUND
        power[i] = shifted
        k = shifted - _ROUND
        r = (x - k * _LOG2_HIGH) - k * _LOG2_LOW
        p = 1.0 / 6227020800.0
        p = p * r + 1.0 / 479001600.0
        p = p * r + 1.0 / 39916800.0
        p = p * r + 1.0 / 3628800.0
        p = p * r + 1.0 / 362880.0
        p = p * r + 1.0 / 40320.0
        p = p * r + 1.0 / 5040.0
        p = p * r + 1.0 / 720.0
        p = p * r + 1.0 / 120.0
        p = p * r + 1.0 / 24.0
        p = p * r + 1.0 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        a[i] = p * r + 1.0
    for i in range(a.size):
        bits[i] = (bits[i] << 52) + (1023 << 52)
    for i in range(a.size):
        a[i] *= power[i]


@njit(cache=True, nogil=True, fastmath=_EXACT)
def profile(kind, b, alpha, u, out):
    """Write φ and its first derivatives at u (n,) to out (n_orders, n).

    `kind` is one of the constants of this module, b the inverse square of the length
    scale times 3, 5, 7, 1/2 or 1/(2 alpha), and alpha the exponent of the rational
    quadratic kernel.
    """
    a_whole, e_whole, power = np.empty(_BLOCK), np.empty(_BLOCK), np.empty(_BLOCK)
    for start in range(0, u.size, _BLOCK):
        block = u[start : start + _BLOCK]
        a, e = a_whole[: block.size], e_whole[: block.size]
        if kind == RATIONAL_QUADRATIC:
            for i in range(a.size):
                a[i] = 1.0 + b * block[i]
                e[i] = a[i] ** -alpha
        else:
            for i in range(a.size):
                a[i] = b * block[i]
            if kind != RBF:
                for i in range(a.size):
                    a[i] = math.sqrt(a[i])
            e[:] = a
            exp_negative(e, power[: a.size])
        for order in range(out.shape[0]):
            values = out[order, start : start + _BLOCK]
            if kind == MATERN32:
                _matern32(order, b, a, e, values)
            elif kind == MATERN52:
                _matern52(order, b, a, e, values)
            elif kind == MATERN72:
                _matern72(order, b, a, e, values)
            elif kind == RBF:
                _rbf(order, b, e, values)
            else:
                _rational_quadratic(order, b, alpha, a, e, values)


@njit(cache=True, nogil=True)
def _inverse(a):
    """1/a, and 0 at a = 0: what diverges there is always multiplied by a distance."""
    return 1.0 / a if a > 0.0 else 0.0


@njit(cache=True, nogil=True, fastmath=_EXACT)
def _matern32(order, b, a, e, out):
    """φ = (1 + a) e^−a, a = √(b u)."""
    for i in range(a.size):
        if order == 0:
            out[i] = (1.0 + a[i]) * e[i]
        elif order == 1:
            out[i] = -b / 2.0 * e[i]
        elif order == 2:
            out[i] = b * b / 4.0 * e[i] * _inverse(a[i])
        else:
            out[i] = -(b**3) / 8.0 * (1.0 + a[i]) * e[i] * _inverse(a[i]) ** 3


@njit(cache=True, nogil=True, fastmath=_EXACT)
def _matern52(order, b, a, e, out):
    """φ = (1 + a + a²/3) e^−a, a = √(b u)."""
    for i in range(a.size):
        if order == 0:
            out[i] = (1.0 + a[i] * (1.0 + a[i] / 3.0)) * e[i]
        elif order == 1:
            out[i] = -b / 6.0 * (1.0 + a[i]) * e[i]
        elif order == 2:
            out[i] = b * b / 12.0 * e[i]
        else:
            out[i] = -(b**3) / 24.0 * e[i] * _inverse(a[i])


@njit(cache=True, nogil=True, fastmath=_EXACT)
def _matern72(order, b, a, e, out):
    """φ = (1 + a + 2a²/5 + a³/15) e^−a, a = √(b u)."""
    for i in range(a.size):
        if order == 0:
            out[i] = (1.0 + a[i] * (1.0 + a[i] * (0.4 + a[i] / 15.0))) * e[i]
        elif order == 1:
            out[i] = -b / 30.0 * (3.0 + a[i] * (3.0 + a[i])) * e[i]
        elif order == 2:
            out[i] = b * b / 60.0 * (1.0 + a[i]) * e[i]
        else:
            out[i] = -(b**3) / 120.0 * e[i]


@njit(cache=True, nogil=True, fastmath=_EXACT)
def _rbf(order, b, e, out):
    """φ = e^−bu."""
    factor = (-b) ** order
    for i in range(e.size):
        out[i] = factor * e[i]


@njit(cache=True, nogil=True, fastmath=_EXACT)
def _rational_quadratic(order, b, alpha, a, e, out):
    """φ = a^−α, a = 1 + b u; each order brings −b (α + n) and another 1/a."""
    factor = 1.0
    for n in range(order):
        factor *= -b * (alpha + n)
    for i in range(e.size):
        out[i] = factor * e[i] / a[i] ** order
