"""Gradient of a function of the covariance with respect to the scales of features.

With metric m = w² and ∂L/∂K = G/2, the chain rule through the blocks of
`kforce.gdml._hessian` needs, for each pair of structures and each image,

    ∂⟨G, K⟩/∂log w_k = 2 m_k [ c1 s_k s'_k H_g + d_k (s_k b_g·a + s'_k b'_g·a')
                               + ½ d_k² (−c2 (T + p·G_FE − p'·G_EF)
                                         − 2 c2' p G p' − c1 G_EE) ]

with s_k = ∂x_k/∂q_g, the rows b_g and b'_g of Wilson's B matrices, H_g = b_g G b'_gᵀ,
c2' = dc2/du, T = Σ_k m_k s_k s'_k H_g, a = c1 G_FE − c2 G p' and
a' = −c1 G_EF − c2 Gᵀ p: as much work as the assembly itself, and all of it in the same
SIMD lanes.
"""

import numpy as np
from numba import njit

from kforce.gdml._hessian import pull_differences


@njit(cache=True, nogil=True, fastmath=True)
def scale_gradient(
    start, stop, structures, packs, topology, images, c1, c2, dc2, phi, G,
    scales, amplitudes,
):  # fmt: skip
    """Add the gradient for the structures `start:stop` with all lanes.

    Arguments are those of `kforce.gdml._hessian.assemble`, with dc2 = 4 φ''' beside c2,
    and φ is needed. Of the symmetric G (n_observations, n_observations) the lower
    triangle is read. To `scales` (n_components, n_features) is added ∂⟨G, K⟩/∂log w, to
    `amplitudes` (n_components,) the ⟨G, K⟩ of each component.
    """
    n_images = images.component.size
    n_cart = structures.rows.shape[1] - 1
    n_lanes = packs.frame.shape[1]
    pull_i = np.empty((n_images, n_cart, n_lanes))
    pull_j = np.empty((n_images, n_cart, n_lanes))
    block = np.empty((n_cart + 1, n_cart + 1, n_lanes))
    for i in range(start, stop):
        for pack in range(packs.x.shape[0]):
            if packs.frame[pack].max() < i:
                continue
            _gather(i, structures.rows, packs.frame[pack], G, block)
            _unproject(
                structures.rigid[i], structures.n_rigid[i],
                packs.rigid[pack], packs.n_rigid[pack], block,
            )  # fmt: skip
            pull_differences(
                i, pack, structures, packs, topology, images, pull_i, pull_j
            )
            for s in range(n_images):
                t = images.component[s]
                amplitudes[t] += _add_image(
                    i, pack, s, structures, packs, topology, images, block,
                    pull_i[s], pull_j[s], c1[i - start, pack, s],
                    c2[i - start, pack, s], dc2[i - start, pack, s],
                    phi[i - start, pack, s], scales[t],
                )  # fmt: skip


@njit(cache=True, nogil=True)
def _gather(i, rows, frames, G, block):
    """Copy the blocks of all lanes; each off-diagonal one stands for two."""
    for lane in range(frames.size):
        j = frames[lane]
        factor = 0.0 if j < i else (1.0 if j == i else 2.0)
        for r in range(rows.shape[1]):
            column = rows[i, r]
            for r_j in range(rows.shape[1]):
                row = rows[max(j, 0), r_j]
                value = 0.0
                if factor > 0.0 and row >= 0 and column >= 0:
                    value = factor * G[max(row, column), min(row, column)]
                block[r, r_j, lane] = value


@njit(cache=True, nogil=True, fastmath=True)
def _unproject(rigid_i, n_i, rigid_j, n_j, block):
    """Form Q̃_i block Q̃_jᵀ, with nothing in the first n_i rows and n_j columns yet."""
    n_rows, _, n_lanes = block.shape
    n_cart = n_rows - 1
    for r in range(n_i, n_rows):
        for e in range(n_j):
            out = block[r, e]
            for r_j in range(n_j, n_cart):
                w = rigid_j[r_j, e]
                b = block[r, r_j]
                for lane in range(n_lanes):
                    out[lane] -= w[lane] * b[lane]
    for e in range(n_i):
        for r in range(n_i, n_cart):
            w = rigid_i[r, e]
            for r_j in range(n_rows):
                out = block[e, r_j]
                b = block[r, r_j]
                for lane in range(n_lanes):
                    out[lane] -= w * b[lane]


@njit(cache=True, nogil=True, fastmath=True)
def _add_image(
    i, pack, s, structures, packs, topology, images, block, p_i, p_j,
    c1, c2, dc2, phi, out,
):  # fmt: skip
    """Add one image's part of the gradient to `out`, and return its ⟨G, K⟩."""
    atoms, first, n_body = topology.atoms, topology.first, topology.n_body
    t = images.component[s]
    n_cart, n_lanes = p_i.shape
    a_i = np.zeros((n_cart, n_lanes))
    a_j = np.zeros((n_cart, n_lanes))
    quadratic = np.zeros(n_lanes)
    mixed = np.zeros(n_lanes)
    for r in range(n_cart):
        if not images.touches[s, r]:
            continue
        left, from_left = a_i[r], p_i[r]
        for e in range(images.start[s], images.start[s + 1]):
            r_j = images.columns[e]
            g = block[r, r_j]
            right, from_right = a_j[r_j], p_j[r_j]
            for lane in range(n_lanes):
                left[lane] += g[lane] * from_right[lane]
            for lane in range(n_lanes):
                right[lane] += g[lane] * from_left[lane]
        g = block[r, n_cart]
        for lane in range(n_lanes):
            quadratic[lane] += from_left[lane] * left[lane]
            mixed[lane] += from_left[lane] * g[lane]
            left[lane] = c1[lane] * g[lane] - c2[lane] * left[lane]
    for e in range(images.start[s], images.start[s + 1]):
        r_j = images.columns[e]
        right, from_right = a_j[r_j], p_j[r_j]
        g = block[n_cart, r_j]
        for lane in range(n_lanes):
            mixed[lane] -= from_right[lane] * g[lane]
            right[lane] = -c1[lane] * g[lane] - c2[lane] * right[lane]
    span = images.begin[t + 1] - images.begin[t]
    h = np.zeros((span, n_lanes))
    total = np.zeros(n_lanes)
    for e in range(span):
        g = images.active[images.begin[t] + e]
        g_j = images.coordinates[s, g]
        h_g = h[e]
        for m in range(n_body[g]):
            for c in range(3):
                w_i = structures.b_matrix[i, g, m, c]
                row = block[3 * atoms[g, m] + c]
                for m_j in range(n_body[g]):
                    for c_j in range(3):
                        entry = row[3 * atoms[g_j, m_j] + c_j]
                        w_j = packs.b_matrix[pack, g_j, m_j, c_j]
                        for lane in range(n_lanes):
                            h_g[lane] += w_i * entry[lane] * w_j[lane]
        for k in range(first[g], first[g + 1]):
            s_i = images.metric[t, k] * structures.dx_dq[i, k]
            s_j = packs.dx_dq[pack, images.features[s, k]]
            for lane in range(n_lanes):
                total[lane] += s_i * s_j[lane] * h_g[lane]
    value = 0.0
    square = np.empty(n_lanes)
    g = block[n_cart, n_cart]
    for lane in range(n_lanes):
        square[lane] = (
            -0.5 * (c2[lane] * (total[lane] + mixed[lane]) + c1[lane] * g[lane])
            - dc2[lane] * quadratic[lane]
        )
        value += (
            c1[lane] * (total[lane] + mixed[lane])
            - c2[lane] * quadratic[lane]
            + phi[lane] * g[lane]
        )
    along_i = np.empty(n_lanes)
    along_j = np.empty(n_lanes)
    for e in range(span):
        g = images.active[images.begin[t] + e]
        g_j = images.coordinates[s, g]
        along_i[:] = 0.0
        along_j[:] = 0.0
        for m in range(n_body[g]):
            for c in range(3):
                w_i = structures.b_matrix[i, g, m, c]
                w_j = packs.b_matrix[pack, g_j, m, c]
                from_i = a_i[3 * atoms[g, m] + c]
                from_j = a_j[3 * atoms[g_j, m] + c]
                for lane in range(n_lanes):
                    along_i[lane] += w_i * from_i[lane]
                    along_j[lane] += w_j[lane] * from_j[lane]
        h_g = h[e]
        for k in range(first[g], first[g + 1]):
            x_i = structures.x[i, k]
            s_i = structures.dx_dq[i, k]
            x_j = packs.x[pack, images.features[s, k]]
            s_j = packs.dx_dq[pack, images.features[s, k]]
            change = 0.0
            for lane in range(n_lanes):
                d = x_i - x_j[lane]
                both = s_i * along_i[lane] + s_j[lane] * along_j[lane]
                change += (
                    c1[lane] * s_i * s_j[lane] * h_g[lane]
                    + square[lane] * d * d
                    + d * both
                )
            out[k] += 2.0 * images.metric[t, k] * change
    return value
