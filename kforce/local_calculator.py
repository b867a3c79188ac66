"""A fitted sparse local model as an ASE calculator."""

from __future__ import annotations

from ase.calculators.calculator import all_changes

from kforce.calculator import ModelCalculator
from kforce.skin import SkinList
from kforce.structures import Batch


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
