"""Loops between the matrix products of an expansion's prediction."""

from numba import njit


@njit(cache=True, nogil=True)
def gather(x, scales, origin, images, left):
    """Write rows [y, 1, |y|²] for all images y = scales P_s x − origin of all queries.

    x (n, n_features), images (n_images, n_active), left (n n_images, n_active + 2).
    """
    n_images, n_active = images.shape
    for q in range(x.shape[0]):
        for s in range(n_images):
            row = left[q * n_images + s]
            square = 0.0
            for k in range(n_active):
                y = scales[k] * x[q, images[s, k]] - origin[k]
                row[k] = y
                square += y * y
            row[n_active] = 1.0
            row[n_active + 1] = square


@njit(cache=True, nogil=True, fastmath=True)
def clip(u):
    """Raise what rounding made negative to 0."""
    flat = u.ravel()
    for i in range(flat.size):
        flat[i] = max(flat[i], 0.0)


@njit(cache=True, nogil=True, fastmath=True)
def weigh(dphi, ddphi, dv, f):
    """Add Σ φ' dv / 2 to f row by row, and replace dv = −4 d·v by −4 φ'' d·v."""
    for i in range(dv.shape[0]):
        total = 0.0
        for m in range(dv.shape[1]):
            total += dphi[i, m] * dv[i, m]
            dv[i, m] *= ddphi[i, m]
        f[i] += 0.5 * total


@njit(cache=True, nogil=True)
def scatter(images, scales, left, along_d, along_v, gradient):
    """Add Σ_s P_sᵀ scales [Σ_m b d + Σ_m c1 v] to the gradients (n, n_features).

    along_d (n n_images, n_active + 1) holds Σ_m b x_m and Σ_m b, along_v Σ_m c1 v_m.
    """
    n_images, n_active = images.shape
    for q in range(gradient.shape[0]):
        for s in range(n_images):
            row = q * n_images + s
            total = along_d[row, n_active]
            for k in range(n_active):
                d = left[row, k] * total - along_d[row, k]
                gradient[q, images[s, k]] += scales[k] * (d + along_v[row, k])
