"""Covariances of forces and virials with inducing environments, from members."""

from numba import njit


@njit(cache=True, nogil=True, fastmath=True)
def add_members(
    environments,
    central_atoms,
    atoms,
    vec,
    along_inducing,
    along_x,
    df_cut,
    f_cut,
    k,
    of_x,
    of_inducing,
    structures,
    forces,
    virials,
):
    """Add what the members of environments contribute to rows of forces and virials.

    environments, centres, atoms (n_members,): the environment, counted within k, and
    the atoms. vec (n_members, 3). along_inducing (n_members, 3, m): ∂x/∂r · x_m.
    along_x (n_members, 3): ∂x/∂r · x. df_cut (n_members, 3). f_cut (n_env,). k, of_x,
    of_inducing (n_env, m): see `SparseTerm.compare` and `gradients`; of_x may be empty.
    structures (n_atoms,): the structure of each atom. forces (n_atoms, 3, m) receives
    forces, virials (n_structures, 6, m) the components in Voigt order unless it is
    empty.
    """
    m = k.shape[1]
    radial = of_x.shape[0] > 0
    for p in range(atoms.size):
        e, i, j = environments[p], central_atoms[p], atoms[p]
        s = structures[i]
        for c in range(3):
            f_j, f_i = forces[j, c], forces[i, c]
            q = along_inducing[p, c]
            # `q` becomes the derivative of F k with respect to the member.
            for n in range(m):
                q[n] *= f_cut[e] * of_inducing[e, n]
            if radial:
                y = f_cut[e] * along_x[p, c]
                for n in range(m):
                    q[n] += y * of_x[e, n]
            if df_cut[p, c] != 0.0:
                y = df_cut[p, c]
                for n in range(m):
                    q[n] += y * k[e, n]
            if i != j:
                for n in range(m):
                    f_j[n] -= q[n]
                    f_i[n] += q[n]
        if virials.shape[0] > 0:
            for a in range(3):
                for b in range(a, 3):
                    row = virials[s, a if a == b else 6 - a - b]
                    q_a, q_b = along_inducing[p, a], along_inducing[p, b]
                    w_a, w_b = 0.5 * vec[p, a], 0.5 * vec[p, b]
                    for n in range(m):
                        row[n] -= w_a * q_b[n] + w_b * q_a[n]
