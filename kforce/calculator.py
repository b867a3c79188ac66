"""Fitted models as ASE calculators."""

from __future__ import annotations

import warnings
from math import isfinite

import numpy as np
from ase.calculators.calculator import Calculator, all_changes
from ase.outputs import Properties, all_outputs

from kforce.errors import ExtrapolationError, InputError
from kforce.neighbours.verlet import SkinList
from kforce.structures import FARTHEST, Batch

#: Results that are there where the prediction holds them, beside the energy.
_OPTIONAL_RESULTS = (
    "forces", "stress", "energies", "energy_std", "forces_std", "extrapolation"
)  # fmt: skip

#: Standard deviations by what is asked for.
_STDS = {False: (), "energy": ("energy_std",), "forces": ("energy_std", "forces_std")}


#: Names of the models that have warned in this process.
_warned: set[str] = set()


class KForceCalculator(Calculator):
    """ASE calculator of a fitted force field; made by `ForceField.calculator`.

    Results are `energy`, `free_energy` (eV) and `forces` (eV/Å). Local models add
    `stress` (eV/Å³) of structures that are periodic in three directions, unless a
    baseline knows none, and `energies` of atoms (eV), unless they have a baseline. A
    molecule that a global model knows may be in a box with vacuum around it: it is
    computed without the box, and its `stress` is zero.

    `extrapolation` are the grades of atoms (n_atoms,): above 1 they are outside of the
    training set. What happens then is `on_extrapolation`: 'warn' says, the first time
    in a process, how a structure leaves the range of the training data, 'raise' raises
    an `ExtrapolationError` before there are any results, so no integrator takes a step
    with them, and 'ignore' does nothing. Beyond an `energy_std` of `stop_std` in eV, an
    `ExtrapolationError` is raised in any case.

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

    Attributes
    ----------
    n_evaluations, n_extrapolating : int
        How many structures were computed, and how many of them had a grade above 1 or
        were beyond `stop_std`.
    largest_grade : float
        The largest grade of all; 0 where the model has none.

    Examples
    --------
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

    def __init__(
        self, model, std=False, skin=0.5, std_every=1, on_extrapolation="warn",
        stop_std=None, **kwargs,
    ):  # fmt: skip
        super().__init__(**kwargs)
        self.model = model
        self.skin_list = (
            None if model.cutoff_ is None else SkinList(model.cutoff_, skin)
        )
        self._std, self._std_every = std, std_every
        self._on_extrapolation, self._stop_std = on_extrapolation, stop_std
        self.n_evaluations, self.n_extrapolating, self.largest_grade = 0, 0, 0.0
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
        is_due = self.n_evaluations % self._std_every == 0
        std = self._std if wanted or is_due else False
        self.results = {}
        prediction, inside = model.evaluate_structure(
            atoms, model.properties_of([atoms]), std, self.skin_list
        )
        energy = float(prediction.energy[0])
        if not isfinite(energy):
            raise InputError("Positions must be finite numbers, found NaN or infinity.")
        self._watch(prediction, inside)
        self.results = {"energy": energy, "free_energy": energy}
        for name in _OPTIONAL_RESULTS:
            values = getattr(prediction, name)
            if values is not None:
                self.results[name] = values[0]

    def export_properties(self):
        """Return the results that ASE has names for: it refuses others."""
        return Properties({k: v for k, v in self.results.items() if k in all_outputs})

    def _watch(self, prediction, inside):
        """Count a structure, and warn or raise where it is beyond the training set."""
        grades = prediction.extrapolation and prediction.extrapolation[0]
        std = None if prediction.energy_std is None else float(prediction.energy_std[0])
        is_uncertain = None not in (std, self._stop_std) and not std <= self._stop_std
        self.n_evaluations += 1
        self.n_extrapolating += not inside or is_uncertain
        grade = None if grades is None else float(grades.max())
        self.largest_grade = max(self.largest_grade, grade or 0.0)
        stops = not inside and self._on_extrapolation == "raise"
        warns = not inside and self._on_extrapolation == "warn"
        if not (stops or is_uncertain or (warns and self.model._name not in _warned)):
            return
        says = [] if inside else [self.model.describe_extrapolation(self.atoms, grades)]
        if stops or is_uncertain:
            if is_uncertain:
                says.append(
                    f"The standard deviation of the energy is {std:.3g} eV, above "
                    f"stop_std = {self._stop_std:g} eV."
                )
            says.append(
                f"Stopped in evaluation {self.n_evaluations} of this calculator: add "
                "such structures to the training set."
            )
            raise ExtrapolationError(" ".join(says), self.atoms.copy(), grade, std)
        _warned.add(self.model._name)
        says.append(
            f"The model extrapolates: {self.model.extrapolates_to}. Add such "
            "structures to the training set, or stop there with "
            "on_extrapolation='raise'. (Said once.)"
        )
        warnings.warn(" ".join(says), stacklevel=4)
