"""What a model of the energy predicts, and how predictions are summed and joined."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.data.findings import plural


@dataclass(eq=False)
class Prediction:
    """What a force field predicts for a list of structures.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        Energies in eV.
    forces : list of ndarray of shape (n_atoms, 3), or None
        Forces in eV/Å.
    stress : ndarray of shape (n_structures, 6), or None
        In eV/Å³, in the order and with the sign of ASE (xx, yy, zz, yz, xz, xy); NaN
        for structures without three periodic directions.
    energies : list of ndarray of shape (n_atoms,), or None
        Energies of atoms in eV, which add up to the energy.
    energy_std, forces_std : like energy and forces, or None
        Standard deviations of new labels: what the training data leave open
        (epistemic) and the noise of labels (aleatoric), in the same units.
    energy_epistemic, forces_epistemic : like energy and forces, or None
        The first part alone: the standard deviations of the true values. The squares of
        both parts add up to those of the whole.
    extrapolation : list of ndarray of shape (n_atoms,), or None
        Extrapolation grades of atoms: above 1 the environment of the atom is outside of
        the training set. In a global model that is the whole structure, and its grade
        that of all atoms.
    """

    energy: np.ndarray
    forces: list[np.ndarray] | None = None
    stress: np.ndarray | None = None
    energies: list[np.ndarray] | None = None
    energy_std: np.ndarray | None = None
    forces_std: list[np.ndarray] | None = None
    energy_epistemic: np.ndarray | None = None
    forces_epistemic: list[np.ndarray] | None = None
    extrapolation: list[np.ndarray] | None = None

    def __add__(self, other: Prediction) -> Prediction:
        """Return the prediction of the sum of two models whose errors are independent.

        It holds what both hold, but for standard deviations of new labels: a sum of
        models has one noise of labels, not two. The grades are the larger ones, or
        those of the model that has any.
        """
        grades = self.extrapolation or other.extrapolation
        return Prediction(
            self.energy + other.energy,
            _combined(np.add, self.forces, other.forces),
            _combined(np.add, self.stress, other.stress),
            _combined(np.add, self.energies, other.energies),
            energy_epistemic=_combined(
                np.hypot, self.energy_epistemic, other.energy_epistemic
            ),
            forces_epistemic=_combined(
                np.hypot, self.forces_epistemic, other.forces_epistemic
            ),
            extrapolation=_combined(np.maximum, grades, other.extrapolation or grades),
        )

    def in_given_order(self, orders: Sequence[np.ndarray] | None) -> Prediction:
        """Return the prediction of frames whose atoms were put in these orders.

        What is known of the atoms ``frame[order]`` is given back in the order of the
        frame; None stands for frames as they are.
        """
        if orders is None:
            return self
        places = [np.argsort(order) for order in orders]
        of_atoms = {
            field.name: [v[p] for v, p in zip(values, places, strict=True)]
            for field in fields(self)
            if isinstance(values := getattr(self, field.name), list)
        }
        return replace(self, **of_atoms)

    @classmethod
    def joined(cls, parts: Sequence[Prediction]) -> Prediction:
        """Return one prediction of consecutive parts, which hold the same."""
        columns = (
            [getattr(part, field.name) for part in parts] for field in fields(cls)
        )
        return cls(*map(_joined, columns))


def _combined(operation, first, second):
    if first is None or second is None:
        return None
    if isinstance(first, list):
        return [operation(a, b) for a, b in zip(first, second, strict=True)]
    return operation(first, second)


def _joined(values):
    if values[0] is None:
        return None
    if isinstance(values[0], list):
        return [value for part in values for value in part]
    return np.concatenate(values)


def describe_grades(atoms: Atoms, grades: np.ndarray, n_named: int = 3) -> str | None:
    """Say in a sentence which atoms of a structure have grades (n_atoms,) above 1.

    The `n_named` highest are named; None where there are none.
    """
    outside = np.argsort(-grades, kind="stable")[: int((grades > 1.0).sum())]
    if len(outside) == 0:
        return None
    names = [f"{chemical_symbols[atoms.numbers[a]]} {a}" for a in outside[:n_named]]
    more = len(outside) - len(names)
    if more:
        names.append(f"{more} more")
    return (
        f"The environments of {plural(len(outside), 'atom')} ({', '.join(names)}) are "
        "unlike those of the training set, with extrapolation grades up to "
        f"{grades.max():.3g} (1 is where the training set ends)."
    )
