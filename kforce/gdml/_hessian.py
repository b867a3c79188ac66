"""Assembly of Hessian-kernel blocks between structures.

Every descriptor here is a set of functions x_k = f_k(q_g) of internal coordinates
q_g(R) (distances, angles, torsions) that touch a few atoms each, so that its Jacobian
is ∂x_k/∂r_a = (∂x_k/∂q_g) b_ga with the rows b of Wilson's B matrix, which functions of
one coordinate share. The kernel is a sum over images: one for each of its components
and each permutation. With d = x_i − P x_j and the metric m of the component,
u = Σ_k m_k d_k², the covariance of the forces of two structures is

    K_ij = Σ_images [ c1 Σ_g h_g b_g b'_gᵀ − c2 p p'ᵀ ]

with h_g = Σ_{k in g} m_k (∂x_k/∂q_g) (∂x_k/∂q_g)', p = J_iᵀ m d and p' = J_jᵀ Pᵀ m d.

One structure i is combined with a pack of others at a time, one in each SIMD lane; the
lanes are the last, contiguous axis of every array, so the innermost loops are plain
vector arithmetic and all sparsity is index look-ups outside of them. (Their length is
read off an array on purpose: a short constant one is unrolled before it can be
vectorised.)

Rigid motions: with Q̃ᵀ = [−W | 1] (see `kforce.gdml.observations`) the projected block
is Q̃_iᵀ K_ij Q̃_j; it takes the first n_rigid rows and columns away.
"""

from collections import namedtuple

import numpy as np
from numba import njit

#: Which atoms and features belong to the coordinates: atoms (n_coord, n_body), n_body
#: (n_coord,), and first (n_coord + 1,): coordinate g has the features
#: first[g]:first[g + 1].
Topology = namedtuple("Topology", "atoms n_body first")

#: What is compared with what. features (n_images, n_features) and coordinates
#: (n_images, n_coord) are those of the permuted structure, and component (n_images,)
#: says which row of metric (n_components, n_features) weighs them. A component t counts
#: only the coordinates active[begin[t]:begin[t + 1]]. touches (n_images, n_cart) says
#: which Cartesian components p has, and columns[start[s]:start[s + 1]] are those of p'
#: (both because a component may look at a few atoms only).
Images = namedtuple(
    "Images", "features coordinates component metric begin active touches start columns"
)

#: Structures one by one: x, dx_dq (n, n_features), b_matrix (n, n_coord, n_body, 3),
#: rigid = W (n, 3 n_atoms, 6), n_rigid (n,), rows (n, 3 n_atoms + 1) in the matrix.
Structures = namedtuple("Structures", "x dx_dq b_matrix rigid n_rigid rows")

#: The same with n_lanes structures side by side on the last axis: frame (n_packs,
#: n_lanes) holds their numbers (−1: empty), n_rigid (n_packs,), the others as in
#: `Structures` with the pack first and the lane last.
Packs = namedtuple("Packs", "frame x dx_dq b_matrix rigid n_rigid")


@njit(cache=True, nogil=True, fastmath=True)
def squared_distances(start, stop, structures, packs, topology, images, u):
    """Write u = Σ_k m_k (x_i − P x_j)_k² for the structures i of `start:stop`.

    u has shape (stop − start, n_packs, n_images, n_lanes).
    """
    first = topology.first
    for i in range(start, stop):
        for pack in range(packs.x.shape[0]):
            for s in range(images.component.size):
                t = images.component[s]
                out = u[i - start, pack, s]
                out[:] = 0.0
                for e in range(images.begin[t], images.begin[t + 1]):
                    g = images.active[e]
                    for k in range(first[g], first[g + 1]):
                        metric = images.metric[t, k]
                        xi = structures.x[i, k]
                        xj = packs.x[pack, images.features[s, k]]
                        for lane in range(out.size):
                            d = xi - xj[lane]
                            out[lane] += metric * d * d


@njit(cache=True, nogil=True, fastmath=True)
def assemble(
    start, stop, structures, packs, topology, images, c1, c2, phi, origin, target
):
    """Write the projected blocks of the structures `start:stop` with all lanes.

    The structures are columns of the matrix, the lanes its rows. c1 = −2 φ' and
    c2 = 4 φ'' are (stop − start, n_packs, n_images, n_lanes); φ is too, or of size 0
    where there are no energy rows. `target` (n_columns, n_rows) is the transpose of a
    tile, and target[0, 0] has the place `origin` (column, row) in the matrix. Lanes
    that come before structure i are skipped: the matrix is symmetric and only its lower
    triangle is kept.
    """
    n_images = images.component.size
    n_cart = structures.rows.shape[1] - 1
    n_lanes = packs.frame.shape[1]
    with_energy = phi.size > 0
    pull_i = np.empty((n_images, n_cart, n_lanes))
    pull_j = np.empty((n_images, n_cart, n_lanes))
    block = np.empty((n_cart + 1, n_cart + 1, n_lanes))
    for i in range(start, stop):
        for pack in range(packs.x.shape[0]):
            if packs.frame[pack].max() < i:
                continue
            w1 = c1[i - start, pack]
            w2 = c2[i - start, pack]
            block[:] = 0.0
            pull_differences(
                i, pack, structures, packs, topology, images, pull_i, pull_j
            )
            _add_diagonal_part(i, pack, structures, packs, topology, images, w1, block)
            _subtract_rank_one(w2, images, pull_i, pull_j, block)
            if with_energy:
                _add_energies(w1, phi[i - start, pack], pull_i, pull_j, block)
            _project(
                structures.rigid[i], structures.n_rigid[i],
                packs.rigid[pack], packs.n_rigid[pack], block,
            )  # fmt: skip
            _scatter(i, structures, packs.frame[pack], block, origin, target)


@njit(cache=True, nogil=True, fastmath=True)
def pull_differences(i, pack, structures, packs, topology, images, pull_i, pull_j):
    """Write p = J_iᵀ m d and p' = J_jᵀ Pᵀ m d of every image."""
    atoms, first = topology.atoms, topology.first
    e_i = np.empty(packs.frame.shape[1])
    e_j = np.empty(packs.frame.shape[1])
    pull_i[:] = 0.0
    pull_j[:] = 0.0
    for s in range(images.component.size):
        t = images.component[s]
        for e in range(images.begin[t], images.begin[t + 1]):
            g = images.active[e]
            g_j = images.coordinates[s, g]
            e_i[:] = 0.0
            e_j[:] = 0.0
            for k in range(first[g], first[g + 1]):
                metric = images.metric[t, k]
                xi = structures.x[i, k]
                si = metric * structures.dx_dq[i, k]
                xj = packs.x[pack, images.features[s, k]]
                sj = packs.dx_dq[pack, images.features[s, k]]
                for lane in range(e_i.size):
                    d = xi - xj[lane]
                    e_i[lane] += si * d
                    e_j[lane] += metric * sj[lane] * d
            for m in range(topology.n_body[g]):
                for c in range(3):
                    wi = structures.b_matrix[i, g, m, c]
                    wj = packs.b_matrix[pack, g_j, m, c]
                    out_i = pull_i[s, 3 * atoms[g, m] + c]
                    out_j = pull_j[s, 3 * atoms[g_j, m] + c]
                    for lane in range(e_i.size):
                        out_i[lane] += wi * e_i[lane]
                        out_j[lane] += wj[lane] * e_j[lane]


@njit(cache=True, nogil=True, fastmath=True)
def _add_diagonal_part(i, pack, structures, packs, topology, images, c1, block):
    """Add Σ_images c1 J_iᵀ m P J_j, coordinate by coordinate."""
    atoms, first = topology.atoms, topology.first
    h = np.empty(packs.frame.shape[1])
    hj = np.empty_like(h)
    for s in range(images.component.size):
        t = images.component[s]
        w = c1[s]
        for e in range(images.begin[t], images.begin[t + 1]):
            g = images.active[e]
            g_j = images.coordinates[s, g]
            n_body = topology.n_body[g]
            h[:] = 0.0
            for k in range(first[g], first[g + 1]):
                si = images.metric[t, k] * structures.dx_dq[i, k]
                sj = packs.dx_dq[pack, images.features[s, k]]
                for lane in range(h.size):
                    h[lane] += si * sj[lane]
            for lane in range(h.size):
                h[lane] *= w[lane]
            for m_j in range(n_body):
                for c_j in range(3):
                    wj = packs.b_matrix[pack, g_j, m_j, c_j]
                    for lane in range(h.size):
                        hj[lane] = h[lane] * wj[lane]
                    column = 3 * atoms[g_j, m_j] + c_j
                    for m in range(n_body):
                        for c in range(3):
                            wi = structures.b_matrix[i, g, m, c]
                            out = block[3 * atoms[g, m] + c, column]
                            for lane in range(h.size):
                                out[lane] += wi * hj[lane]


@njit(cache=True, nogil=True, fastmath=True)
def _subtract_rank_one(c2, images, pull_i, pull_j, block):
    """Subtract Σ_images c2 p p'ᵀ."""
    n_images, n_cart, n_lanes = pull_i.shape
    weight = np.empty(n_lanes)
    for r in range(n_cart):
        for s in range(n_images):
            if not images.touches[s, r]:
                continue
            w = c2[s]
            p_i = pull_i[s, r]
            for lane in range(n_lanes):
                weight[lane] = w[lane] * p_i[lane]
            for e in range(images.start[s], images.start[s + 1]):
                r_j = images.columns[e]
                out = block[r, r_j]
                p_j = pull_j[s, r_j]
                for lane in range(n_lanes):
                    out[lane] -= weight[lane] * p_j[lane]


@njit(cache=True, nogil=True, fastmath=True)
def _add_energies(c1, phi, pull_i, pull_j, block):
    """Add cov(E, E) = Σ φ, cov(F_i, E_j) = Σ c1 p, cov(E_i, F_j) = −Σ c1 p'."""
    n_images, n_cart, n_lanes = pull_i.shape
    for s in range(n_images):
        for lane in range(n_lanes):
            block[n_cart, n_cart, lane] += phi[s, lane]
        for r in range(n_cart):
            for lane in range(n_lanes):
                block[r, n_cart, lane] += c1[s, lane] * pull_i[s, r, lane]
                block[n_cart, r, lane] -= c1[s, lane] * pull_j[s, r, lane]


@njit(cache=True, nogil=True, fastmath=True)
def _project(rigid_i, n_i, rigid_j, n_j, block):
    """Form Q̃_iᵀ block Q̃_j, in place behind the first n_i rows and n_j columns."""
    n_rows, _, n_lanes = block.shape
    n_cart = n_rows - 1
    for r in range(n_rows):
        for r_j in range(n_j, n_cart):
            out = block[r, r_j]
            for e in range(n_j):
                w = rigid_j[r_j, e]
                b = block[r, e]
                for lane in range(n_lanes):
                    out[lane] -= w[lane] * b[lane]
    for r in range(n_i, n_cart):
        for r_j in range(n_j, n_rows):
            out = block[r, r_j]
            for e in range(n_i):
                w = rigid_i[r, e]
                b = block[e, r_j]
                for lane in range(n_lanes):
                    out[lane] -= w * b[lane]


@njit(cache=True, nogil=True)
def _scatter(i, structures, frames, block, origin, target):
    """Copy the observed entries of every lane to their places in the matrix."""
    rows = structures.rows
    for lane in range(frames.size):
        j = frames[lane]
        if j < i:
            continue
        for r in range(rows.shape[1]):
            column = rows[i, r]
            if column < 0:
                continue
            out = target[column - origin[0]]
            for r_j in range(rows.shape[1]):
                row = rows[j, r_j]
                if row >= 0:
                    out[row - origin[1]] = block[r, r_j, lane]
