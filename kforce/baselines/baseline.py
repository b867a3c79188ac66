"""Baselines: cheap models of the energy that a regressor corrects (Δ-learning).

The regressor learns label − baseline and adds the baseline to its predictions.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
from ase import Atoms, units
from ase.calculators.calculator import BaseCalculator
from sklearn.base import is_regressor
from sklearn.exceptions import NotFittedError
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from kforce.baselines.calculators import CalculatorMember, rebuild
from kforce.errors import InputError
from kforce.labels import Labels
from kforce.prediction import Prediction
from kforce.registry import register

log = logging.getLogger("kforce.baseline")

#: Methods of tblite that can be named by a string.
METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")

_BOTH = ("energy", "forces")

#: Units that forces come in by mistake, in eV/Å.
_FORCE_UNITS = {
    "Hartree/Bohr": units.Hartree / units.Bohr,
    "Hartree/Å": units.Hartree,
    "kcal/mol/Å": units.kcal / units.mol,
    "kJ/mol/Å": units.kJ / units.mol,
}


@register
class ModelMember:
    """A fitted force field of kforce: fast, so that nothing is kept on disk.

    Raises InputError if the force field has not been fitted.
    """

    def __init__(self, model):
        self.model = model
        self.name = type(model).__name__
        try:
            check_is_fitted(model)
        except NotFittedError:
            raise InputError(
                f"Expected a fitted {self.name} as a baseline, found one that is not: "
                "fit it; where scikit-learn clones the regressor, give "
                "sklearn.frozen.FrozenEstimator(model)."
            ) from None

    def to_fields(self, with_factor=None):
        """Return what a file holds of it."""
        return {"model": self.model}

    @classmethod
    def from_fields(cls, model):
        """Return the member of a model that a file holds."""
        if not is_regressor(model):
            raise TypeError(f"{type(model).__name__} is no model")
        return cls(model)

    @property
    def has_stress(self):
        """Whether stresses can be asked for.

        Not of a global model: that of a molecule in a box is zero because the box means
        nothing, and no strain derivative that could be taken off labels.
        """
        return self.model.has_stress and self.model.cutoff_ is not None

    def evaluate(self, frames, properties, return_std=False):
        """Return the `Prediction` of a list of structures."""
        try:
            return self.model.evaluate(frames, properties, return_std)
        except InputError as error:
            raise InputError(f"The baseline {self.name} refuses: {error}") from None

    def evaluate_training(self, frames):
        """Return energies and forces of a training set as a `Prediction`."""
        return self.evaluate(frames, _BOTH)

    def evaluate_one(self, atoms, properties, return_std=False):
        """Return the `Prediction` of one structure."""
        return self.model.evaluate_structure(atoms, properties, return_std)[0]


@register
class Baseline:
    """Sum of calculators and fitted force fields; made by `as_baseline`.

    It has calculators of its own, one a thread, so that those it was made of stay as
    they are; it can be copied and pickled if they can. All methods raise InputError if
    a calculator fails, does not give what is asked for, or gives what is not finite or
    of the wrong shape; the error names the frame.
    """

    def __init__(self, members):
        self._members = tuple(members)

    def __repr__(self):
        return f"Baseline({', '.join(member.name for member in self._members)})"

    @property
    def models(self) -> list:
        """The fitted force fields in it."""
        return [m.model for m in self._members if isinstance(m, ModelMember)]

    @property
    def has_stress(self) -> bool:
        """Whether all members know the stress."""
        return all(member.has_stress for member in self._members)

    def evaluate(
        self, frames: Sequence[Atoms], properties=_BOTH, return_std: bool = False
    ) -> Prediction:
        """Return what is asked for of 'energy', 'forces' and 'stress'.

        The structures' own calculators do not matter, and nothing is read from or
        written to the disk. Standard deviations are those of the force fields in it.
        """
        return _sum(m.evaluate(frames, properties, return_std) for m in self._members)

    def evaluate_one(
        self, atoms: Atoms, properties=_BOTH, return_std: bool = False
    ) -> Prediction:
        """Return the same of one structure, which force fields do not check."""
        arguments = atoms, properties, return_std
        return _sum(m.evaluate_one(*arguments) for m in self._members)

    def evaluate_training(self, frames: Sequence[Atoms]) -> Prediction:
        """Return energies and forces of a training set, each calculation done once.

        Results of calculators that name and settings describe are kept on disk, see
        `ResultCache`. One frame is computed again, and has to come out the same.
        """
        return _sum(member.evaluate_training(frames) for member in self._members)

    def corrections(self, frames: Sequence[Atoms], labels: Labels) -> Labels:
        """Return what the labels of a training set are above the baseline.

        Warns where that is more than the labels, and refuses other units. Stresses are
        left out if the baseline knows none: it would be learned as if it were zero.
        """
        below = self.evaluate_training(frames)
        complaint = unit_complaint(labels.forces, below.forces)
        if complaint:
            warnings.warn(complaint, stacklevel=4)
        stress = labels.stress
        if stress is not None and not np.isnan(stress).all():
            stress = stress - self._stress_below(frames, stress)
        return replace(
            labels,
            energy=labels.energy - below.energy,
            forces=[a - b for a, b in zip(labels.forces, below.forces, strict=True)],
            stress=stress,
        )

    def _stress_below(self, frames, stress):
        """Return the stresses of the frames that have one as a label, NaN elsewhere."""
        below = np.full_like(stress, np.nan)
        if not self.has_stress:
            log.warning("the baseline has no stress: those of the frames are left out")
            return below
        labelled = np.flatnonzero(np.isfinite(stress).any(axis=1))
        some = [frames[s] for s in labelled]
        below[labelled] = self.evaluate(some, ("stress",)).stress
        return below

    def to_fields(self, with_factor=None):
        """Return what a file holds of it."""
        return {"members": list(self._members)}

    @classmethod
    def from_fields(cls, members):
        """Return the sum of the members that a file holds."""
        kinds = ModelMember | CalculatorMember
        if not members or not all(isinstance(m, kinds) for m in members):
            raise TypeError("a baseline is no sum of calculators and models")
        return cls(members)

    @classmethod
    def of(cls, value):
        """Return the baseline that `as_baseline` makes of a value."""
        return as_baseline(value)


def _sum(predictions):
    return reduce(add, predictions)


def as_baseline(value) -> Baseline | None:
    """Return what a regressor's argument ``baseline`` stands for; it stays untouched.

    That is None, a `Baseline`, a calculator of ASE, the name of a method of tblite
    ("GFN2-xTB"), a fitted force field (scikit-learn's cloning spares the fit of
    ``sklearn.frozen.FrozenEstimator(model)``), its calculator, or a list or tuple of
    them, which is a sum. InputError is raised if it is something else, or its package
    is not installed.
    """
    if value is None or isinstance(value, Baseline):
        return value
    return Baseline(_members(value))


def _members(value):
    if isinstance(value, list | tuple) and value:
        return [member for part in value for member in _members(part)]
    if isinstance(value, Baseline):
        return list(value._members)
    if isinstance(value, FrozenEstimator):
        value = value.estimator
    if _is_force_field(getattr(value, "model", None)):  # its calculator
        value = value.model
    if _is_force_field(value):
        return [ModelMember(value)]
    if isinstance(value, str):
        value = _by_method(value)
    if isinstance(value, BaseCalculator):
        return [CalculatorMember(value)]
    found = repr(value)
    if isinstance(value, type):
        found = f"the class {value.__name__}: write {value.__name__}(...)"
    raise InputError(
        f"baseline must be a calculator of ASE, a fitted model of kforce, one of "
        f"{', '.join(map(repr, METHODS))}, or a list of them, found {found}."
    )


def _is_force_field(value):
    """Whether a value is a model of kforce, told by its methods: it imports this."""
    return not isinstance(value, type) and hasattr(value, "evaluate_structure")


def _by_method(name):
    known = {method.lower(): method for method in METHODS}
    if name.lower() not in known:
        raise InputError(
            f"Expected one of {', '.join(map(repr, METHODS))} as a baseline, found "
            f"{name!r}: for others, give a calculator of ASE."
        )
    # Ten times the accuracy that tblite defaults to: noise of 3e-5 instead of 3e-4 eV/Å
    # for a few more iterations.
    settings = {"method": known[name.lower()], "accuracy": 0.1, "verbosity": 0}
    return rebuild("tblite.ase:TBLite", settings)


def unit_complaint(
    labels: Sequence[np.ndarray], baseline: Sequence[np.ndarray]
) -> str | None:
    """Return a complaint where a baseline leaves more to be learned than without it.

    Both are lists of forces (n_atoms, 3) in eV/Å, with NaN where there is no label.
    InputError is raised if they differ by a factor that is one between units.
    """
    wanted, found = np.concatenate(labels).ravel(), np.concatenate(baseline).ravel()
    known = np.isfinite(wanted)
    if not known.any():
        return None
    wanted, found = wanted[known], found[known]
    rms, rest = (np.sqrt(np.mean(v**2)) for v in (wanted, wanted - found))
    overlap, square = wanted @ found, found @ found
    if overlap**2 > 0.5 * square * (wanted @ wanted) and overlap > 0:
        scale = overlap / square
        suspects = [
            f"{culprit} in {unit}"
            for unit, factor in _FORCE_UNITS.items()
            for culprit, ratio in (
                ("the baseline gives them", factor),
                ("the labels are", 1.0 / factor),
            )
            # A good baseline is itself off by a fifth; nearer ratios are all named.
            if abs(np.log(scale / ratio)) < np.log(1.4)
        ]
        if suspects:
            raise InputError(
                f"The forces of the baseline times {scale:.3g} would fit the labels, "
                f"and eV/Å is expected of both: it seems that {' or '.join(suspects)}. "
                "Convert the labels (read_frames takes units, --units), or choose "
                "another baseline."
            )
    if rest <= rms:
        return None
    return (
        f"The baseline leaves forces of {rest:.3g} eV/Å (rms) to be learned, more than "
        f"the {rms:.3g} eV/Å without it: check that it is meant for these structures, "
        "and the signs and units of both."
    )
