"""The cutoff function, and derivatives from members to the atoms of a batch."""

import math

from numba import njit


@njit(cache=True, nogil=True)
def cutoff_function(r, cutoff, width):
    """Return f(r): 1 up to cutoff − width, half a cosine wave down to 0 at cutoff."""
    if r <= cutoff - width:
        return 1.0
    if r > cutoff:
        return 0.0
    return 0.5 * (1.0 + math.cos(math.pi * (r - cutoff + width) / width))


@njit(cache=True, nogil=True)
def cutoff_function_derivative(r, cutoff, width):
    """Return f'(r), which has no jumps."""
    if r <= cutoff - width or r > cutoff:
        return 0.0
    phase = math.pi * (r - cutoff + width) / width
    return -0.5 * math.pi / width * math.sin(phase)


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
