"""Fitted models as ASE calculators."""

from __future__ import annotations

import warnings
from math import isfinite

import numpy as np
from ase.calculators.calculator import Calculator, all_changes

from kforce.errors import InputError
from kforce.neighbours.verlet import SkinList
from kforce.structures import FARTHEST, Batch


class ModelCalculator(Calculator):
    """Base of the calculators of fitted models: what changes a result, and its errors.

    Parameters
    ----------
    model : ForceField
        A fitted model.
    std : bool, default=False
        Also compute the results `energy_std` (eV) and `forces_std` (eV/Å), see
        `Prediction`.

    Notes
    -----
    ASE keeps results that it does not know out of files: for extended XYZ, copy them,
    ``atoms.info["energy_std"] = atoms.calc.results["energy_std"]`` and
    ``atoms.arrays["forces_std"] = atoms.calc.results["forces_std"]``.
    """

    nolabel = True

    def __init__(self, model, std=False, **kwargs):
        super().__init__(**kwargs)
        self.model = model
        if std:
            self.implemented_properties += ("energy_std", "forces_std")

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
            for name in ("initial_charges", "initial_magmoms"):
                pairs[name] = tuple(
                    getattr(one, f"get_{name.replace('magmoms', 'magnetic_moments')}")()
                    for one in (self.atoms, atoms)
                )
        return [name for name, (a, b) in pairs.items() if not np.array_equal(a, b)]

    def _add_deviations(self):
        """Add standard deviations to the results, if they are wanted."""
        if "energy_std" in self.implemented_properties:
            energy_std, forces_std, *_ = self.model._deviations([self.atoms], True)
            self.results["energy_std"] = float(energy_std[0])
            self.results["forces_std"] = forces_std[0]


class KForceCalculator(ModelCalculator):
    """ASE calculator of a global molecular model: energy and forces in eV and eV/Å.

    A global kernel knows nothing far from its training data, where the energy goes to a
    constant: the first time a structure leaves the range of the training descriptors, a
    warning says so, and says if that is because atoms come closer than in training.

    Parameters
    ----------
    model : GDMLRegressor
        A fitted model.
    std : bool, default=False
        Also compute `energy_std` and `forces_std`, see `ModelCalculator`: a triangular
        solve for each structure.

    Examples
    --------
    >>> import kforce
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> atoms = frames[30].copy()
    >>> atoms.calc = kforce.GDMLRegressor().fit(frames[:20]).calculator()
    >>> atoms.get_forces().shape
    (6, 3)
    """

    implemented_properties = ("energy", "free_energy", "forces")

    def __init__(self, model, std=False, **kwargs):
        super().__init__(model, std, **kwargs)
        self._warned = False

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Evaluate the model and fill `results`."""
        if atoms is not None:
            self.atoms = atoms.copy()
        self.model.molecule_.check(self.atoms)
        if not np.abs(self.atoms.positions).max() < FARTHEST:
            Batch.from_frames([self.atoms])  # says what is wrong with them
        energy, forces, inside = self.model.evaluate_one(self.atoms)
        if not isfinite(energy):
            raise InputError("Positions must be finite numbers, found NaN or infinity.")
        if not inside and not self._warned:
            self._warn()
        self.results = {"energy": energy, "free_energy": energy, "forces": forces}
        self._add_deviations()

    def _warn(self):
        self._warned = True
        warnings.warn(
            self.model.describe_extrapolation(self.atoms.positions)
            + " The model extrapolates: its energy falls back to a constant away from "
            "the training data. Add such structures to the training set. (Said once.)",
            stacklevel=4,
        )


class LocalCalculator(ModelCalculator):
    """ASE calculator of a local model, for structures of any size and composition.

    The result `stress` is there for structures that are periodic in three directions,
    unless a baseline knows none, and `energies` of atoms for models without baseline.

    Along a trajectory, pairs of atoms are looked for only when an atom has moved by
    half of `skin`; for that, give one calculator to one structure.

    Parameters
    ----------
    model : GAPRegressor
        A fitted model.
    std : bool, default=False
        Also compute `energy_std` and `forces_std`, see `ModelCalculator`.
    skin : float, default=0.5
        In Å, see `SkinList`.

    Attributes
    ----------
    skin_list : SkinList
        The pairs that are known.

    Examples
    --------
    >>> import kforce
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> pairs = kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=10)
    >>> atoms = frames[30].copy()
    >>> atoms.calc = kforce.GAPRegressor([pairs]).fit(frames[:20]).calculator()
    >>> atoms.get_potential_energies().shape
    (6,)
    """

    implemented_properties = ("energy", "free_energy", "energies", "forces", "stress")

    def __init__(self, model, std=False, skin=0.5, **kwargs):
        super().__init__(model, std, **kwargs)
        self.skin_list = SkinList(model.cutoff_, skin)

    def calculate(self, atoms=None, properties=("energy",), system_changes=all_changes):
        """Evaluate the model and fill `results`."""
        if atoms is not None:
            self.atoms = atoms.copy()
        batch = Batch.from_frames(self.model._check_frames([self.atoms]))
        neighbours = self.skin_list.neighbours(batch)
        found = self.model._predict(batch, neighbours)
        (energies,), (forces,), (stress,) = found
        energy = float(energies.sum())
        self.results = {"energies": energies}
        baseline = self.model.baseline_
        if baseline is not None:
            cheap, cheap_forces = baseline.evaluate_one(self.atoms)
            energy, forces, self.results = energy + cheap, forces + cheap_forces, {}
            if not baseline.has_stress:
                stress = None
            elif stress is not None:
                stress = stress + baseline.stress([self.atoms])[0]
        self.results |= {"energy": energy, "free_energy": energy, "forces": forces}
        if stress is not None:
            self.results["stress"] = stress
        self._add_deviations()
