"""Covariances of forces and virials with inducing environments, from motions."""

from numba import njit


@njit(cache=True, nogil=True, fastmath=True)
def sum_members(environments, central_atoms, atoms, vec, dx, df_cut, tangents, fading):
    """Add up what motions of centres, and strains, do to environments.

    environments, central_atoms, atoms (n_members,): the environment, counted within
    tangents, and the atoms. vec (n_members, 3). dx (n_members, 3, n_features) and
    df_cut (n_members, 3) are derivatives with respect to the member. tangents (n_env, 3
    or 9, n_features) and fading (n_env, 3 or 9) receive those with respect to the
    centre and, if there are nine, to the components of the strain in Voigt order.
    """
    n_features, with_strain = dx.shape[2], tangents.shape[1] > 3
    for p in range(atoms.size):
        e = environments[p]
        if atoms[p] != central_atoms[p]:
            for c in range(3):
                target, own = tangents[e, c], dx[p, c]
                fading[e, c] -= df_cut[p, c]
                for d in range(n_features):
                    target[d] -= own[d]
        if with_strain:
            for a in range(3):
                for b in range(a, 3):
                    row = 3 + (a if a == b else 6 - a - b)
                    target, of_a, of_b = tangents[e, row], dx[p, a], dx[p, b]
                    w_a, w_b = 0.5 * vec[p, a], 0.5 * vec[p, b]
                    fading[e, row] += w_a * df_cut[p, b] + w_b * df_cut[p, a]
                    for d in range(n_features):
                        target[d] += w_a * of_b[d] + w_b * of_a[d]


@njit(cache=True, nogil=True, fastmath=True)
def subtract_motions(
    environments, rows, along_inducing, along_x, fading, f_cut, k, of_x, of_inducing,
    out,
):  # fmt: skip
    """Subtract derivatives of F k along motions of environments from rows of out.

    environments, rows (n_motions,): the environment that a motion changes, counted
    within k, and the row of out (n_rows, m), none if negative. along_inducing
    (n_motions, m): the change of x, times x_m. along_x (n_motions,): times x; empty as
    is of_x where that does not count. fading (n_motions,): the change of F. f_cut
    (n_env,). k, of_x, of_inducing (n_env, m): see `SparseTerm.compare` and `gradients`.
    """
    m = k.shape[1]
    radial = of_x.shape[0] > 0
    for t in range(rows.size):
        if rows[t] < 0:
            continue
        e = environments[t]
        target, along, factor = out[rows[t]], along_inducing[t], of_inducing[e]
        f = f_cut[e]
        for n in range(m):
            target[n] -= f * along[n] * factor[n]
        if radial:
            y, factor = f * along_x[t], of_x[e]
            for n in range(m):
                target[n] -= y * factor[n]
        if fading[t] != 0.0:
            y, values = fading[t], k[e]
            for n in range(m):
                target[n] -= y * values[n]
