"""Fitted models as ASE calculators."""

from __future__ import annotations

import warnings
from math import isfinite

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties, all_outputs

from kforce.errors import InputError
from kforce.neighbours.verlet import SkinList
from kforce.structures import FARTHEST, Batch

#: Results that are there where the prediction holds them, beside the energy.
_OPTIONAL_RESULTS = (
    "forces", "stress", "energies", "energy_std", "forces_std", "extrapolation"
)  # fmt: skip

#: Standard deviations by what is asked for.
_STDS = {False: (), "energy": ("energy_std",), "forces": ("energy_std", "forces_std")}


class KForceCalculator(Calculator):
    """ASE calculator of a fitted force field; made by `ForceField.calculator`.

    Results are `energy`, `free_energy` (eV) and `forces` (eV/Å). Local models add
    `stress` (eV/Å³) of structures that are periodic in three directions, unless a
    baseline knows none, and `energies` of atoms (eV), unless they have a baseline. A
    molecule that a global model knows may be in a box with vacuum around it: it is
    computed without the box, and its `stress` is zero.

    The first time a structure leaves the range of the training data, a warning says
    how: a global kernel knows nothing far from its training data, where its energy goes
    to a constant; of a local model, `extrapolation` are the grades of atoms (n_atoms,).

    For a local model, pairs of atoms are looked for only when an atom has moved by half
    of `skin`; for that, give one calculator to one structure.

    With `std`, 'energy' or 'forces', there are also `energy_std` (eV) or both that and
    `forces_std` (eV/Å), see `Prediction`, in every structure of `std_every` ones and
    where ASE is asked for them. `skin` is in Å, see `SkinList`; `skin_list` holds the
    pairs that are known, None for a global model. A structure that the model refuses is
    an `InputError` when it is computed.

    ASE keeps results that it does not know out of files: for extended XYZ, copy them,
    ``atoms.info["energy_std"] = atoms.calc.results["energy_std"]`` and
    ``atoms.arrays["forces_std"] = atoms.calc.results["forces_std"]``. Its
    `SinglePointCalculator` refuses them: give it those that it knows.

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

    def __init__(self, model, std=False, skin=0.5, std_every=1, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        self.skin_list = (
            None if model.cutoff_ is None else SkinList(model.cutoff_, skin)
        )
        self._std, self._std_every, self._n_calls = std, std_every, 0
        self._warned = False
        known = ("energy", "free_energy", *model.known_properties[1:], *_STDS[std])
        if model.has_grades:
            known += ("extrapolation",)
        self.implemented_properties = known

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
        wanted = {*properties} & {*_STDS[self._std]}
        std = self._std if wanted or self._n_calls % self._std_every == 0 else False
        prediction, inside = model.evaluate_structure(
            atoms, model.properties_of([atoms]), std, self.skin_list
        )
        self._n_calls += 1
        energy = float(prediction.energy[0])
        if not isfinite(energy):
            raise InputError("Positions must be finite numbers, found NaN or infinity.")
        if not inside and not self._warned:
            self._warn(prediction)
        self.results = {"energy": energy, "free_energy": energy}
        for name in _OPTIONAL_RESULTS:
            values = getattr(prediction, name)
            if values is not None:
                self.results[name] = values[0]

    def export_properties(self):
        """Return the results that ASE has names for: it refuses others."""
        return Properties({k: v for k, v in self.results.items() if k in all_outputs})

    def _warn(self, prediction):
        self._warned = True
        grades = prediction.extrapolation and prediction.extrapolation[0]
        sentence = self.model.describe_extrapolation(self.atoms, grades)
        warnings.warn(
            f"{sentence} The model extrapolates: {self.model.extrapolates_to}. Add "
            "such structures to the training set. (Said once.)",
            stacklevel=4,
        )
