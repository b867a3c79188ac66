"""What force fields predict."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Prediction:
    """What a force field predicts for a list of structures.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        Energies in eV.
    forces : list of ndarray of shape (n_atoms, 3), or None
        Forces in eV/Å.
    stress : ndarray of shape (n_structures, 6), or None
        In eV/Å³, in the order and with the sign of ASE (xx, yy, zz, yz, xz, xy).
    energies : list of ndarray of shape (n_atoms,), or None
        Energies of atoms in eV, which add up to the energy.
    energy_std, forces_std : like energy and forces, or None
        Standard deviations of new labels: what the training data leave open
        (epistemic) and the noise of labels (aleatoric), in the same units.
    energy_epistemic, forces_epistemic : like energy and forces, or None
        The first part alone: the standard deviations of the true values. The squares of
        both parts add up to those of the whole.
    """

    energy: np.ndarray
    forces: list[np.ndarray] | None = None
    stress: np.ndarray | None = None
    energies: list[np.ndarray] | None = None
    energy_std: np.ndarray | None = None
    forces_std: list[np.ndarray] | None = None
    energy_epistemic: np.ndarray | None = None
    forces_epistemic: list[np.ndarray] | None = None
