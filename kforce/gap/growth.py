"""Standard deviations where the training set ends, by the extrapolation grade.

Amplitudes, length scales and the calibration of standard deviations are learned from
the training set, and hold there. A narrow set has nothing to say of what is beyond: its
amplitudes may be a hundredth of an eV where bonds are worth several. So beyond half of
the grade g at which the training set ends, standard deviations σ grow with it,

    σ² → σ² (1 + a² max(0, g − ½)²),

up to what bonds are worth. The slope a and the limits are constants of nature rather
than of a material: they were chosen on crystals and molecules made for the purpose, so
that of the errors on structures of other kinds (surfaces, lattices, defects, melts,
clusters, dimers) most are within 1.96 σ′, and σ′ is not much larger.
"""

from __future__ import annotations

import numpy as np

#: The grade from which on deviations grow, and how fast.
ONSET, SLOPE = 0.5, 4.0

#: What the energy of an atom may be wrong by at most, in eV, and a force, in eV/Å.
BOND_ENERGY, BOND_FORCE = 2.5, 5.0


def growth(grades: np.ndarray) -> np.ndarray:
    """Return a max(0, g − ½) of extrapolation grades."""
    return SLOPE * np.maximum(grades - ONSET, 0.0)


def growth_of_structure(grades: np.ndarray) -> float:
    """Return the growth for the energy of a structure with such atoms (n_atoms,).

    It is the mean of fourth powers, to the power of ¼: one atom in a cell counts for
    more than its share, as its error does.
    """
    return float(np.mean(growth(grades) ** 4) ** 0.25)


def grown(std: np.ndarray, growth: np.ndarray, limit: np.ndarray | float) -> np.ndarray:
    """Return standard deviations that have grown, up to a limit; they never shrink.

    >>> grown(np.array([0.01, 0.01, 5.0]), np.array([0.0, 3.0, 100.0]), 3.0).round(3)
    array([0.01 , 0.032, 5.   ])
    """
    whole = std * np.sqrt(1.0 + np.square(growth))
    return np.maximum(std, whole / np.sqrt(1.0 + np.square(whole / limit)))
