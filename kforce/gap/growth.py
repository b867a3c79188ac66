"""Standard deviations where the training set ends, by the extrapolation grade.

Amplitudes, length scales and the calibration of standard deviations are learned from
the training set, and hold there. A narrow set has little to say of what is beyond: its
amplitudes may be a hundredth of an eV where bonds are worth several. So beyond half of
the grade g at which the training set ends, standard deviations σ grow,

    σ² → σ² (1 + a²),   a = 2.3 e^¾ of forces, 2.2 e^½ of energies,   e = max(0, g − ½),

up to what bonds are worth. These numbers are the same for all models: they were chosen
on crystals and molecules made for the purpose, so that of the errors on structures of
other kinds (surfaces, lattices, defects, melts, clusters, dimers) most are within 1.96
standard deviations, and these are not much larger than the errors.
"""

from __future__ import annotations

import numpy as np

#: The grade from which on deviations grow, and how fast those of forces and energies.
ONSET, OF_FORCES, OF_ENERGIES = 0.5, 2.3, 2.2

#: What the energy of an atom may be wrong by at most, in eV, and a force, in eV/Å.
BOND_ENERGY, BOND_FORCE = 2.5, 5.0


def growth_of_forces(grades: np.ndarray) -> np.ndarray:
    """Return a for the forces on atoms with such grades."""
    return OF_FORCES * _excess(grades) ** 0.75


def growth_of_energies(grades: np.ndarray) -> np.ndarray:
    """Return a for the energies of atoms with such grades."""
    return OF_ENERGIES * np.sqrt(_excess(grades))


def growth_of_structure(grades: np.ndarray) -> float:
    """Return a for the energy of a structure with such atoms (n_atoms,).

    Fourth powers of e are averaged: one atom in a cell counts for more than its share,
    as its error does.
    """
    return OF_ENERGIES * float(np.mean(_excess(grades) ** 4) ** 0.125)


def grown(std: np.ndarray, growth: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    """Return standard deviations that have grown, up to a limit; they never shrink.

    >>> grown(np.array([0.01, 0.01, 5.0]), np.array([0.0, 3.0, 100.0]), 2.5).round(3)
    array([0.01 , 0.032, 5.   ])
    """
    whole = std * np.sqrt(1.0 + np.square(growth))
    return np.maximum(std, whole / np.sqrt(1.0 + np.square(whole / limit)))


def _excess(grades):
    return np.maximum(grades - ONSET, 0.0)
