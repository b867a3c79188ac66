"""Power spectra of expansion coefficients: SOAP vectors of environments."""

import math

import numpy as np
from numba import njit

from kforce.descriptors.soap._density import (
    add_mixed,
    gather,
    most_lanes,
    products,
    scratch,
    to_basis,
)
from kforce.descriptors.soap._harmonics import (
    azimuthal,
    harmonics,
    legendre,
    legendre_table,
)
from kforce.descriptors.soap._radial import radial_functions


@njit(cache=True, nogil=True)
def factors(l_max, legacy):
    """Return the factors (2, l_max + 1) of A = B and of A ≠ B."""
    out = np.empty((2, l_max + 1))
    for l in range(l_max + 1):
        out[0, l] = 1.0 if legacy else 1.0 / math.sqrt(2.0 * l + 1.0)
        out[1, l] = math.sqrt(2.0) * out[0, l]
    return out


@njit(cache=True, nogil=True)
def power_spectrum(c, pairs, factor, out):
    """Write the power spectrum of c (n_channels, n_lm) to out (n_pairs · n_l,)."""
    n_channels, n_l = c.shape[0], factor.shape[1]
    rows = np.empty((n_channels, 2 * n_l - 1))
    dots = np.empty((n_channels, n_channels))
    for l in range(n_l):
        n_m = 2 * l + 1
        for a in range(n_channels):
            for m in range(n_m):
                rows[a, m] = c[a, l * l + m]
        products(rows, rows, n_m, dots)
        for i in range(pairs.shape[0]):
            a, b = pairs[i]
            out[i * n_l + l] = factor[0 if a == b else 1, l] * dots[a, b]


@njit(cache=True, nogil=True)
def power_spectrum_adjoint(c, pairs, factor, g, out):
    """Write Σ g ∂p/∂c (n_channels, n_lm), g (n_pairs · n_l,)."""
    n_channels, n_l = c.shape[0], factor.shape[1]
    rows = np.empty((2 * n_l - 1, n_channels))
    weights, block = np.zeros((n_channels, n_channels)), np.empty((n_channels, 2 * n_l))
    for l in range(n_l):
        n_m = 2 * l + 1
        for a in range(n_channels):
            for m in range(n_m):
                rows[m, a] = c[a, l * l + m]
        for i in range(pairs.shape[0]):
            a, b = pairs[i]
            w = g[i * n_l + l] * (2.0 * factor[0, l] if a == b else factor[1, l])
            weights[a, b] = w
            weights[b, a] = w
        products(weights, rows[:n_m], n_channels, block)
        for a in range(n_channels):
            for m in range(n_m):
                out[a, l * l + m] = block[a, m]


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


@njit(cache=True, nogil=True)
def soap_values(
    first, last, starts, members, central,
    alpha, points, begins, matrices, mixing, pairs, factor, normalise,
    x, c, length,
):  # fmt: skip
    """Fill the rows first to last of x, c and length.

    Parameters
    ----------
    first, last : int
        Environments.
    starts, members : ndarray
        See `kforce.descriptors.soap._density.gather`.
    central : ndarray of shape (n_env, n_densities · n_max)
        What the centre itself adds to the coefficients of l = 0.
    alpha, points, begins, matrices : float and ndarray
        Inverse of twice the squared width of the Gaussians, and the radial basis.
    mixing : ndarray of shape (n_densities, n_channels)
        Weights of channels in densities; not used where there are as many of both.
    pairs, factor, normalise : ndarray and bool
        The power spectrum.
    x : ndarray of shape (n_env, n_features)
        All but the last feature are written.
    c : ndarray of shape (n_env, n_densities · n_max, (l_max + 1)²)
        Expansion coefficients.
    length : ndarray of shape (n_env,)
        What the power spectrum was divided by.
    """
    l_max = factor.shape[1] - 1
    n_points, n_max = matrices.shape[1:]
    n_channels, mixes = mixing.shape[1], mixing.shape[0] < mixing.shape[1]
    n_features = pairs.shape[0] * (l_max + 1)
    room = most_lanes(starts, first * n_channels, last * n_channels)
    h, work, p, even, odd = scratch(l_max, n_points, room)
    lanes, y = np.empty((6, room)), np.empty(((l_max + 1) ** 2, room))
    at_points = np.empty((n_points, (l_max + 1) ** 2))
    own = np.empty((n_max, (l_max + 1) ** 2))
    table = legendre_table(l_max)
    for e in range(first, last):
        if mixes:
            c[e].fill(0.0)
        for s in range(n_channels):
            block = own if mixes else c[e, s * n_max : (s + 1) * n_max]
            g = e * n_channels + s
            n = gather(members, starts[g], starts[g + 1], lanes)
            if n == 0:
                block.fill(0.0)
                continue
            radial_functions(lanes[3, :n], alpha, points, begins, h, work)
            legendre(lanes[2, :n], table, l_max, p)
            azimuthal(lanes[0, :n], lanes[1, :n], l_max, even, odd)
            harmonics(p, even, odd, lanes[4, :n], l_max, y)
            for l in range(l_max + 1):
                first_row, end_row = l * l, (l + 1) * (l + 1)
                rows = y[first_row:end_row]
                products(h[l], rows, n, at_points[:, first_row:end_row])
            to_basis(at_points, matrices, block)
            if mixes:
                add_mixed(block, mixing, s, c[e])
        for a in range(c.shape[1]):
            c[e, a, 0] += central[e, a]
        row = x[e, :n_features]
        power_spectrum(c[e], pairs, factor, row)
        length[e] = normalise_row(row) if normalise else 1.0
