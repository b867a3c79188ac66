"""SOAP vectors of environments."""

import numpy as np
from numba import njit

from kforce.core.soap_angular import azimuthal, harmonics, legendre, legendre_table
from kforce.core.soap_expansion import add_mixed, products, scratch, to_basis
from kforce.core.soap_members import gather, most_lanes
from kforce.core.soap_power import normalise_row, power_spectrum
from kforce.core.soap_radial import radial_functions


@njit(cache=True, nogil=True)
def soap_values(
    first,
    last,
    starts,
    members,
    central,
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
):
    """Fill the rows first to last of x, c and length.

    Parameters
    ----------
    first, last : int
        Environments.
    starts, members : ndarray
        See `kforce.core.soap_members.gather`.
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
            for q in range(l_max + 1):
                first_row, end_row = q * q, (q + 1) * (q + 1)
                rows = y[first_row:end_row]
                products(h[q], rows, n, at_points[:, first_row:end_row])
            to_basis(at_points, matrices, block)
            if mixes:
                add_mixed(block, mixing, s, c[e])
        for a in range(c.shape[1]):
            c[e, a, 0] += central[e, a]
        row = x[e, :n_features]
        power_spectrum(c[e], pairs, factor, row)
        length[e] = normalise_row(row) if normalise else 1.0
