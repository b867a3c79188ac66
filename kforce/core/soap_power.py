"""Power spectra of expansion coefficients, and derivatives back to coefficients.

p_{AB,l} = (2l + 1)^−½ Σ_m c_{A,lm} c_{B,lm}, times √2 where A ≠ B; pairs (A, B) go one
after the other, l fastest.
"""

import math

import numpy as np
from numba import njit

from kforce.core.soap_expansion import products


@njit(cache=True, nogil=True)
def factors(l_max, legacy):
    """Return the factors (2, l_max + 1) of A = B and of A ≠ B."""
    out = np.empty((2, l_max + 1))
    for q in range(l_max + 1):
        out[0, q] = 1.0 if legacy else 1.0 / math.sqrt(2.0 * q + 1.0)
        out[1, q] = math.sqrt(2.0) * out[0, q]
    return out


@njit(cache=True, nogil=True)
def power_spectrum(c, pairs, factor, out):
    """Write the power spectrum of c (n_channels, n_lm) to out (n_pairs · n_l,)."""
    n_channels, n_l = c.shape[0], factor.shape[1]
    rows = np.empty((n_channels, 2 * n_l - 1))
    dots = np.empty((n_channels, n_channels))
    for q in range(n_l):
        n_m = 2 * q + 1
        for a in range(n_channels):
            for m in range(n_m):
                rows[a, m] = c[a, q * q + m]
        products(rows, rows, n_m, dots)
        for i in range(pairs.shape[0]):
            a, b = pairs[i]
            out[i * n_l + q] = factor[0 if a == b else 1, q] * dots[a, b]


@njit(cache=True, nogil=True)
def power_spectrum_adjoint(c, pairs, factor, g, out):
    """Write Σ g ∂p/∂c (n_channels, n_lm), g (n_pairs · n_l,)."""
    n_channels, n_l = c.shape[0], factor.shape[1]
    rows = np.empty((2 * n_l - 1, n_channels))
    weights, block = np.zeros((n_channels, n_channels)), np.empty((n_channels, 2 * n_l))
    for q in range(n_l):
        n_m = 2 * q + 1
        for a in range(n_channels):
            for m in range(n_m):
                rows[m, a] = c[a, q * q + m]
        for i in range(pairs.shape[0]):
            a, b = pairs[i]
            w = g[i * n_l + q] * (2.0 * factor[0, q] if a == b else factor[1, q])
            weights[a, b] = w
            weights[b, a] = w
        products(weights, rows[:n_m], n_channels, block)
        for a in range(n_channels):
            for m in range(n_m):
                out[a, q * q + m] = block[a, m]


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def normalise_row(p):
    """Divide p by its length, which is returned; 0 stays 0."""
    square = 0.0
    for i in range(p.size):
        square += p[i] * p[i]
    length = math.sqrt(square)
    if length > 0.0:
        for i in range(p.size):
            p[i] /= length
    return length


@njit(cache=True, nogil=True, fastmath=True, error_model="numpy")
def before_normalising(x, length, g, normalise, out):
    """Write the derivatives with respect to the power spectrum to out (n_features,).

    x, g (≥ n_features,): the features, and derivatives with respect to them.
    """
    dot, scale = 0.0, 1.0
    if normalise:
        scale = 1.0 / length if length > 0.0 else 0.0
        for i in range(out.size):
            dot += g[i] * x[i]
    for i in range(out.size):
        out[i] = scale * (g[i] - dot * x[i])
