"""Real spherical harmonics as polynomials of unit vectors, without angles.

Y_lm = P_lm(z) Re (x + iy)ᵐ for m ≥ 0 and P_lm(z) Im (x + iy)^|m| for m < 0, where P_lm
is the normalised associated Legendre function without its factor sin^m θ. All arrays
have the neighbours last; Y_lm is row l² + l + m, P_lm row l (l + 1)/2 + m.
"""

import math

import numpy as np
from numba import njit


@njit(cache=True, nogil=True)
def legendre_table(l_max):
    """Return factors (n_rows, 3) of the recursions of `legendre`, and of ∂P_lm/∂z.

    P_lm = t₀ z P_{l−1,m} − t₁ P_{l−2,m}, P_mm = t₀, and ∂P_lm/∂z = t₂ P_{l,m+1}.
    """
    table = np.zeros(((l_max + 1) * (l_max + 2) // 2, 3))
    diagonal = 1.0 / math.sqrt(4.0 * math.pi)
    for m in range(l_max + 1):
        if m > 0:
            diagonal *= math.sqrt((2.0 * m + 1.0) / (2.0 * m))
        # Real harmonics with m ≠ 0 are √2 times the real parts of complex ones.
        table[m * (m + 1) // 2 + m, 0] = diagonal * (math.sqrt(2.0) if m else 1.0)
        for l in range(m, l_max + 1):
            row = table[l * (l + 1) // 2 + m]
            row[2] = math.sqrt((l - m) * (l + m + 1) * (1.0 if m else 0.5))
            if l > m:
                row[0] = math.sqrt((4.0 * l * l - 1.0) / (l * l - m * m))
            if l > m + 1:
                before = (l - 1.0) ** 2
                row[1] = row[0] * math.sqrt((before - m * m) / (4.0 * before - 1.0))
    return table


@njit(cache=True, nogil=True, fastmath=True)
def legendre(z, table, l_max, p):
    """Fill the rows of p (n_rows, ≥ n) with P_lm at z (n,)."""
    n = z.size
    for l in range(l_max + 1):
        first = l * (l + 1) // 2
        for k in range(n):
            p[first + l, k] = table[first + l, 0]
        if l == 0:
            continue
        b = table[first + l - 1, 0]
        for k in range(n):
            p[first + l - 1, k] = b * z[k] * p[first - 1, k]
        for m in range(l - 1):
            b, c = table[first + m, 0], table[first + m, 1]
            one, two = first - l + m, first - 2 * l + 1 + m
            for k in range(n):
                p[first + m, k] = b * z[k] * p[one, k] - c * p[two, k]


@njit(cache=True, nogil=True, fastmath=True)
def azimuthal(x, y, l_max, even, odd):
    """Fill the rows m of even and odd (l_max + 1, ≥ n): real, imaginary (x + iy)ᵐ."""
    n = x.size
    for k in range(n):
        even[0, k] = 1.0
        odd[0, k] = 0.0
    for m in range(1, l_max + 1):
        for k in range(n):
            a, b = even[m - 1, k], odd[m - 1, k]
            even[m, k] = x[k] * a - y[k] * b
            odd[m, k] = x[k] * b + y[k] * a


@njit(cache=True, nogil=True, fastmath=True)
def harmonics(p, even, odd, weight, l_max, out):
    """Fill the rows of out ((l_max + 1)², ≥ n) with Y_lm times weight (n,)."""
    n = weight.size
    for l in range(l_max + 1):
        middle = l * l + l
        for m in range(l + 1):
            row = l * (l + 1) // 2 + m
            for k in range(n):
                radius = weight[k] * p[row, k]
                out[middle + m, k] = radius * even[m, k]
                if m > 0:
                    out[middle - m, k] = radius * odd[m, k]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def harmonics_with_gradients(p, even, odd, table, lanes, n, out):
    """Fill the rows of out (n_lm, ≥ 4n) with Y_lm and its gradient in x, y, z.

    The gradient is that of r ↦ Y_lm(r/|r|). lanes (6, ≥ n): see `gather`.
    """
    x, y, z, r = lanes[0], lanes[1], lanes[2], lanes[3]
    for l in range(even.shape[0]):
        for m in range(-l, l + 1):
            absolute, lower = abs(m), max(abs(m) - 1, 0)
            row = l * (l + 1) // 2 + absolute
            higher = row + (1 if absolute < l else 0)
            slope, target = table[row, 2], out[l * l + l + m]
            own = even[absolute] if m >= 0 else odd[absolute]
            # ∂ of (x + iy)^m along x and y: m (x + iy)^(m−1) times 1 and i.
            by_x = even[lower] if m >= 0 else odd[lower]
            by_y = odd[lower] if m >= 0 else even[lower]
            sign = -1.0 if m >= 0 else 1.0
            for k in range(n):
                target[k] = p[row, k] * own[k]
            for k in range(n):
                target[n + k] = absolute * p[row, k] * by_x[k]
            for k in range(n):
                target[2 * n + k] = sign * absolute * p[row, k] * by_y[k]
            for k in range(n):
                target[3 * n + k] = slope * p[higher, k] * own[k]
            for k in range(n):
                u, v, w = target[n + k], target[2 * n + k], target[3 * n + k]
                dot = x[k] * u + y[k] * v + z[k] * w
                target[n + k] = (u - dot * x[k]) / r[k]
                target[2 * n + k] = (v - dot * y[k]) / r[k]
                target[3 * n + k] = (w - dot * z[k]) / r[k]
