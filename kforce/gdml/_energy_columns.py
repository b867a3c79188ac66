"""Loops behind covariances of one energy with other structures.

Images of the components stand side by side: image i of n_images compares features
``image[starts[i]:starts[i + 1]]`` of the query with the features ``active`` of the
others at the same places, multiplied by ``scales``.
"""

from numba import njit


@njit(cache=True, nogil=True, fastmath=True)
def squared_distances(x, points, active, image, scales, starts, u):
    """Write u (n_images, n) between x (n_features,) and points (n_features, n)."""
    for i in range(u.shape[0]):
        u[i] = 0.0
        for k in range(starts[i], starts[i + 1]):
            value, square, row = x[image[k]], scales[k] ** 2, points[active[k]]
            for m in range(row.size):
                d = value - row[m]
                u[i, m] += square * d * d


@njit(cache=True, nogil=True, fastmath=True)
def add_slopes(x, points, active, image, scales, starts, dphi, out):
    """Add ∂k(x, x_m)/∂x_m to out (n_features, n); dphi (n_images, n) are weighted."""
    for i in range(dphi.shape[0]):
        for k in range(starts[i], starts[i + 1]):
            value, factor = x[image[k]], -2.0 * scales[k] ** 2
            row, target = points[active[k]], out[active[k]]
            for m in range(row.size):
                target[m] += factor * dphi[i, m] * (value - row[m])
