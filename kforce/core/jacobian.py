"""The two maps that tie a descriptor to space: Jᵀ g and J u, without a dense J.

A descriptor's Jacobian is ∂x_k/∂r_a = slope_k · wilson_ga for the features
k = first[g] … first[g + 1] of coordinate g, whose atoms are atoms[g, :n_body[g]].
"""

from numba import njit


@njit(cache=True, nogil=True)
def pull(slope, wilson, atoms, n_body, first, g, out):
    """Add Jᵀ g to `out`: descriptor gradients (n, n_features) to (n, n_atoms, 3)."""
    for s in range(g.shape[0]):
        for q in range(atoms.shape[0]):
            e = 0.0
            for k in range(first[q], first[q + 1]):
                e += slope[s, k] * g[s, k]
            for m in range(n_body[q]):
                a = atoms[q, m]
                for c in range(3):
                    out[s, a, c] += e * wilson[s, q, m, c]


@njit(cache=True, nogil=True)
def push(slope, wilson, atoms, n_body, first, u, out):
    """Write J u to `out`: displacements (n, n_atoms, 3) to tangents (n, n_features)."""
    for s in range(u.shape[0]):
        for q in range(atoms.shape[0]):
            e = 0.0
            for m in range(n_body[q]):
                a = atoms[q, m]
                for c in range(3):
                    e += u[s, a, c] * wilson[s, q, m, c]
            for k in range(first[q], first[q + 1]):
                out[s, k] = slope[s, k] * e
