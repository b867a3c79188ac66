"""Fitted models as ASE calculators."""

from __future__ import annotations

import warnings
from math import isfinite

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from kforce.errors import InputError
from kforce.neighbours.verlet import SkinList
from kforce.structures import FARTHEST, Batch

#: Results that are there where the prediction holds them, beside the energy.
_OPTIONAL_RESULTS = ("forces", "stress", "energies", "energy_std", "forces_std")


class KForceCalculator(Calculator):
    """ASE calculator of a fitted force field; made by `ForceField.calculator`.

    Results are `energy`, `free_energy` (eV) and `forces` (eV/Å). Local models add
    `stress` (eV/Å³) of structures that are periodic in three directions, unless a
    baseline knows none, and `energies` of atoms (eV), unless they have a baseline.

    A global kernel knows nothing far from its training data, where the energy goes to a
    constant: the first time a structure leaves the range of the training descriptors, a
    warning says so, and says if that is because atoms come closer than in training.

    For a local model, pairs of atoms are looked for only when an atom has moved by half
    of `skin`; for that, give one calculator to one structure.

    With `std` the results `energy_std` (eV) and `forces_std` (eV/Å) are there, too, see
    `Prediction`: a triangular solve for each structure. `skin` is in Å, see `SkinList`;
    `skin_list` holds the pairs that are known, None for a global model. A structure
    that the model refuses is an `InputError` when it is computed.

    ASE keeps results that it does not know out of files: for extended XYZ, copy them,
    ``atoms.info["energy_std"] = atoms.calc.results["energy_std"]`` and
    ``atoms.arrays["forces_std"] = atoms.calc.results["forces_std"]``.

    >>> import kforce
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> atoms = frames[30].copy()
    >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(frames[:10])
    >>> atoms.calc = model.calculator()
    >>> atoms.get_forces().shape
    (6, 3)
    """

    implemented_properties = ("energy", "free_energy", "forces")
    nolabel = True

    def __init__(self, model, std=False, skin=0.5, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        self.skin_list = (
            None if model.cutoff_ is None else SkinList(model.cutoff_, skin)
        )
        self._std = std
        self._warned = False
        known = ("energy", "free_energy", *model.known_properties[1:])
        self.implemented_properties = known + ("energy_std", "forces_std") * std

    def check_state(self, atoms, tol=1e-15):
        """Name what has changed of all that the energy depends on."""
        if self.atoms is None:
            return all_changes
        pairs = {
            "positions": (self.atoms.positions, atoms.positions),
            "numbers": (self.atoms.numbers, atoms.numbers),
            "cell": (self.atoms.cell.array, atoms.cell.array),
            "pbc": (self.atoms.pbc, atoms.pbc),
        }
        if self.model.baseline_ is not None:
            both = self.atoms, atoms
            pairs["initial_charges"] = [a.get_initial_charges() for a in both]
            pairs["initial_magmoms"] = [a.get_initial_magnetic_moments() for a in both]
        return [name for name, (a, b) in pairs.items() if not np.array_equal(a, b)]

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Evaluate the model and fill `results`."""
        if atoms is not None:
            self.atoms = atoms.copy()
        atoms, model = self.atoms, self.model
        model.check_frame(atoms)
        if not np.abs(atoms.positions).max(initial=0.0) < FARTHEST:
            Batch.from_frames([atoms])  # says what is wrong with them
        prediction, inside = model.evaluate_structure(
            atoms, model.properties_of([atoms]), self._std, self.skin_list
        )
        energy = float(prediction.energy[0])
        if not isfinite(energy):
            raise InputError("Positions must be finite numbers, found NaN or infinity.")
        if not inside and not self._warned:
            self._warn()
        self.results = {"energy": energy, "free_energy": energy}
        for name in _OPTIONAL_RESULTS:
            values = getattr(prediction, name)
            if values is not None:
                self.results[name] = values[0]

    def _warn(self):
        self._warned = True
        warnings.warn(
            f"{self.model.describe_extrapolation(self.atoms)} The model extrapolates: its "
            "energy falls back to a constant away from the training data. Add such "
            "structures to the training set. (Said once.)",
            stacklevel=4,
        )
