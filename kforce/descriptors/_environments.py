"""Derivatives of environments, from their members to the atoms of a batch."""

from numba import njit


@njit(cache=True, nogil=True)
def pull_members(central_atoms, atoms, vec, along, gradient, strain):
    """Add the derivatives of members to those of atoms and of strains.

    central_atoms, atoms (n_members,); vec, along (n_members, 3): ∂/∂r of the members.
    gradient (n_atoms, 3), strain (n_atoms, 3, 3): see `Environments.pull`.
    """
    for k in range(atoms.size):
        i, j = central_atoms[k], atoms[k]
        for c in range(3):
            g = along[k, c]
            gradient[j, c] += g
            gradient[i, c] -= g
            for a in range(3):
                strain[j, a, c] += vec[k, a] * g
