"""The expansion for a single query: low latency instead of matrix products.

The images of the query are compared with all centers; the centers are the long,
contiguous axis that the innermost loops run over, in blocks that stay in the
first-level cache while all images pass.
"""

from numba import njit

#: Centers of a block: 2 arrays × 48 features × 64 centers are 49 kB.
_BLOCK = 64


@njit(cache=True, nogil=True, fastmath=True)
def differences(x, feature_perms, centers, directions, u, dv):
    """Write u = |P_s x − x_m|² and dv = (P_s x − x_m) · v_m, both (n_perms, n_centers).

    `centers` and `directions` are (n_features, n_centers).
    """
    n_perms, n_features = feature_perms.shape
    u[:] = 0.0
    dv[:] = 0.0
    for start in range(0, u.shape[1], _BLOCK):
        stop = min(start + _BLOCK, u.shape[1])
        for s in range(n_perms):
            us = u[s, start:stop]
            dvs = dv[s, start:stop]
            for k in range(n_features):
                xk = x[feature_perms[s, k]]
                ck = centers[k, start:stop]
                vk = directions[k, start:stop]
                for m in range(us.size):
                    d = xk - ck[m]
                    us[m] += d * d
                    dvs[m] += d * vk[m]


@njit(cache=True, nogil=True, fastmath=True)
def gradient(x, feature_perms, centers, directions, c1, b, out):
    """Add Σ_s P_sᵀ Σ_m [c1 v_m + b (P_s x − x_m)] to `out` (n_features,)."""
    n_perms, n_features = feature_perms.shape
    for start in range(0, c1.shape[1], _BLOCK):
        stop = min(start + _BLOCK, c1.shape[1])
        for s in range(n_perms):
            c1s = c1[s, start:stop]
            bs = b[s, start:stop]
            for k in range(n_features):
                xk = x[feature_perms[s, k]]
                ck = centers[k, start:stop]
                vk = directions[k, start:stop]
                g = 0.0
                for m in range(c1s.size):
                    g += c1s[m] * vk[m] + bs[m] * (xk - ck[m])
                out[feature_perms[s, k]] += g
