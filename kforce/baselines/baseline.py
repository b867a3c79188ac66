"""Baselines: cheap models of the energy that a regressor corrects (Δ-learning).

The regressor learns label − baseline and adds the baseline to its predictions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from ase.calculators.calculator import BaseCalculator
from sklearn.frozen import FrozenEstimator

from kforce.baselines.calculators import CalculatorTerm, ModelTerm
from kforce.baselines.settings import rebuild
from kforce.calculator import ModelCalculator
from kforce.errors import InputError
from kforce.force_field import ForceField
from kforce.registry import register

#: Methods of tblite that can be named by a string.
METHODS = ("GFN2-xTB", "GFN1-xTB", "IPEA1-xTB")


@register
class Baseline:
    """Sum of calculators and fitted force fields; made by `as_baseline`.

    It has calculators of its own, one a thread, so that those it was made of stay as
    they are; it can be copied and pickled if they can.
    """

    def __init__(self, terms):
        self._terms = tuple(terms)

    def __repr__(self):
        return f"Baseline({', '.join(term.name for term in self._terms)})"

    @property
    def models(self) -> list[ForceField]:
        """The fitted force fields in it."""
        return [term.model for term in self._terms if isinstance(term, ModelTerm)]

    def evaluate(
        self, frames: Sequence[Atoms], with_forces: bool = True
    ) -> tuple[np.ndarray, list[np.ndarray] | None]:
        """Compute energies and forces; nothing is read from or written to the disk.

        Parameters
        ----------
        frames : list of ase.Atoms
            The structures; their own calculators do not matter.
        with_forces : bool, default=True
            Whether forces are wanted.

        Returns
        -------
        energy : ndarray of shape (n_structures,)
            In eV.
        forces : list of ndarray of shape (n_atoms, 3), or None
            In eV/Å.

        Raises
        ------
        InputError
            If a calculator fails, gives no forces, or what it gives is not finite or of
            the wrong shape; it names the frame.
        """
        return _total([term.evaluate(frames, with_forces) for term in self._terms])

    def add_to(
        self,
        energy: np.ndarray,
        forces: list[np.ndarray] | None,
        frames: Sequence[Atoms],
    ) -> tuple[np.ndarray, list[np.ndarray] | None]:
        """Return energies, and forces unless they are None, with the baseline's added.

        Raises
        ------
        InputError
            As in `evaluate`.
        """
        cheap, cheap_forces = self.evaluate(frames, forces is not None)
        if forces is not None:
            pairs = zip(forces, cheap_forces, strict=True)
            forces = [own + other for own, other in pairs]
        return energy + cheap, forces

    def evaluate_training(
        self, frames: Sequence[Atoms]
    ) -> tuple[np.ndarray, list[np.ndarray]]:
        """Compute energies and forces of a training set, each calculation only once.

        Results of calculators that name and settings describe are kept on disk, see
        `ResultCache`. One frame is computed again, and has to come out the same.

        Raises
        ------
        InputError
            As in `evaluate`, or if a calculator is not reproducible.
        """
        return _total([term.evaluate_training(frames) for term in self._terms])

    def evaluate_one(self, atoms: Atoms) -> tuple[float, np.ndarray]:
        """Return energy in eV and forces in eV/Å, (n_atoms, 3), of one structure."""
        parts = [term.evaluate_one(atoms) for term in self._terms]
        return sum(e for e, _ in parts), np.sum([f for _, f in parts], axis=0)

    @property
    def has_stress(self) -> bool:
        """Whether all terms know the stress."""
        return all(term.has_stress for term in self._terms)

    def stress(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Compute stresses in eV/Å³ in ASE's order and sign, (n_structures, 6).

        Raises
        ------
        InputError
            As in `evaluate`, or if a term knows no stress.
        """
        return np.sum([term.stress(frames) for term in self._terms], axis=0)

    def to_fields(self, with_factor=None):
        """Return what a file holds of it."""
        return {"terms": list(self._terms)}

    @classmethod
    def from_fields(cls, terms):
        """Return the sum of the terms that a file holds."""
        if not terms or not all(
            isinstance(term, ModelTerm | CalculatorTerm) for term in terms
        ):
            raise TypeError("a baseline is no sum of calculators and models")
        return cls(terms)

    @classmethod
    def of(cls, value):
        """Return the baseline that `as_baseline` makes of a value."""
        return as_baseline(value)


def as_baseline(value) -> Baseline | None:
    """Return what a regressor's argument ``baseline`` stands for; it stays untouched.

    Parameters
    ----------
    value : None, str, calculator of ASE, ForceField, Baseline, or list or tuple of them
        A string names a method of tblite, "GFN2-xTB" or "GFN1-xTB". A force field has
        to be fitted; scikit-learn's cloning spares the fit of
        ``sklearn.frozen.FrozenEstimator(model)``. A list is a sum.

    Returns
    -------
    Baseline or None
        None for None.

    Raises
    ------
    InputError
        If it is something else, or its package is not installed.

    Examples
    --------
    >>> from ase.calculators.lj import LennardJones
    >>> from kforce.datasets import load_methanol_ccsdt
    >>> baseline = as_baseline([LennardJones(), LennardJones(epsilon=0.5)])
    >>> energy, forces = baseline.evaluate(load_methanol_ccsdt()[:2])
    >>> energy.shape, forces[0].shape
    ((2,), (6, 3))
    """
    if value is None or isinstance(value, Baseline):
        return value
    return Baseline(_terms(value))


def _terms(value):
    if isinstance(value, list | tuple) and value:
        return [term for part in value for term in _terms(part)]
    if isinstance(value, Baseline):
        return list(value._terms)
    if isinstance(value, FrozenEstimator):
        value = value.estimator
    if isinstance(value, ModelCalculator):
        value = value.model
    if isinstance(value, ForceField):
        return [ModelTerm(value)]
    if isinstance(value, str):
        value = _by_method(value)
    if isinstance(value, BaseCalculator):
        return [CalculatorTerm(value)]
    found = repr(value)
    if isinstance(value, type):
        found = f"the class {value.__name__}: write {value.__name__}(...)"
    raise InputError(
        f"baseline must be a calculator of ASE, a fitted model of kforce, one of "
        f"{', '.join(map(repr, METHODS))}, or a list of them, found {found}."
    )


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


def _total(parts):
    energy = np.sum([e for e, _ in parts], axis=0)
    if parts[0][1] is None:
        return energy, None
    return energy, [np.sum(f, axis=0) for f in zip(*(f for _, f in parts), strict=True)]
