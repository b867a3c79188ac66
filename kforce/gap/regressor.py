"""The sparse force field of local environments."""

from __future__ import annotations

import logging
from dataclasses import replace
from numbers import Real

import numpy as np
from ase.data import chemical_symbols
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from kforce.baselines.baseline import Baseline, as_baseline
from kforce.calculator import LocalCalculator
from kforce.data.training import Training
from kforce.errors import InputError, check_noise
from kforce.force_field import Prediction
from kforce.gap.parameters import check_parameters
from kforce.gap.posterior import condition
from kforce.gap.prediction import predict_local
from kforce.gap.prior import build_terms, composition_term
from kforce.gap.reference_energies import find_reference_energies, species_of
from kforce.gap.sparse_force_field import SparseForceField
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.gap.splines import TabulatedTerm, tabulate
from kforce.gap.terms_from_data import default_terms
from kforce.labels import Labels, LocalLabels, Noises, stress_of, virial_of
from kforce.neighbours.search import find_neighbours
from kforce.registry import register
from kforce.solvers.least_squares import SparseSolution
from kforce.structures import Batch, as_frames, first_unknown

_log = logging.getLogger("kforce.gap")

#: Noises where they are neither given nor learned, and their ratios where they are.
_NOISES = Noises(energy=0.002, forces=0.05, virial=0.05)


#: Atoms whose neighbours are held in memory at a time, unless a frame has more.
_ATOMS = 2000


@register
class GAPRegressor(SparseForceField):
    """Sparse Gaussian process on energies of atoms, for any composition and size.

    The energy is a sum over atoms, E = Σ_i E0(Z_i) + Σ_t Σ_e F_e f_t(x_e), of Gaussian
    processes f_t on descriptors of their environments. It is conditioned on energies,
    forces and virials through inducing environments, so the cost of a fit is linear in
    the data and that of a prediction linear in the number of atoms.

    Parameters
    ----------
    terms : list of Term, default=None
        The terms t. None chooses two-body and SOAP terms for the bond lengths in the
        training set (see `kforce.gap.terms_from_data`).
    noise_energy, noise_virial : float, default=None
        Standard deviations in eV per atom (× √n_atoms). None learns them.
    noise_forces : float, default=None
        Standard deviation of a force component in eV/Å. None learns it. All noises that
        are learned share one factor of those with ``optimize=False``: evidence of a
        model that is not perfect would give the few energies up for the forces.
    config_noises : dict of str to (float, float, float), default=None
        Noises of energy, forces and virial for each ``info["config_type"]``; an entry
        "default" stands for all others. Noises of a frame's own come first, see
        `Labels.from_frames`.
    reference_energies : dict of str or int to float, default=None
        Energies E0 of isolated atoms in eV, by symbol or atomic number. None takes
        single-atom frames, or fits them.
    baseline : str, calculator, force field, or list of them, default=None
        A cheap model that this one corrects; as for `GDMLRegressor`.
    jitter : float, default=1e-8
        Added to the diagonal of K_mm in eV²; more where that takes it.
    optimize : bool, default=True
        Learn noises, amplitudes and length scales that are not given: by variational
        free energy, and the noises, if all are open and ``approximation="dtc"``, then
        by the errors of left-out frames. Otherwise noises are 2 meV per atom, 0.05 eV/Å
        and 50 meV per atom, and amplitudes 1 eV.
    solver : {'qr', 'normal'}, default='qr'
        QR of all rows in a stream, or normal equations: faster, but with half of the
        digits, which is said.
    approximation : {'dtc', 'fitc'}, default='dtc'
        Deterministic or fully independent training conditional: whether what inducing
        environments cannot represent of a label counts as noise of it.
    seed : int, default=0
        Seed of the choice of inducing environments.

    Attributes
    ----------
    terms_ : list of SparseTerm
        Descriptors, kernels and inducing environments, with their weights.
    species_ : tuple of int
        Elements, in order of first appearance.
    reference_energies_ : dict of int to float
        E0 by atomic number.
    noise_energy_, noise_forces_, noise_virial_ : float
        The noises in use.
    solution_ : SparseSolution or None
        Posterior of the weights; None in a model that was read from another program.
    calibration_ : tuple of (float, float)
        Factors of standard deviations of energies and of forces, from leave-one-out
        errors of training frames; 1 with ``optimize=False``.
    log_marginal_likelihood_ : float
        Of the training data, with the covariance that inducing environments span.
    training_ : Training or None
        What the model was trained on.
    baseline_ : Baseline or None
        The baseline in use.

    Raises
    ------
    InputError
        By `fit`, if labels are missing or make no sense.

    References
    ----------
    Bartók, Payne, Kondor and Csányi, Phys. Rev. Lett. 104, 136403 (2010); Bartók and
    Csányi, Int. J. Quantum Chem. 115, 1051 (2015).

    Examples
    --------
    >>> import kforce
    >>> frames = kforce.datasets.load_methanol_ccsdt()
    >>> terms = [kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=10)]
    >>> model = GAPRegressor(terms=terms).fit(frames[:25])
    >>> bool(model.score(frames[-60:]) > 0.5)
    True
    """

    # In files.
    terms_: list[SparseTerm]
    species_: tuple[int, ...]
    reference_energies_: dict[int, float]
    noise_energy_: float | None
    noise_forces_: float | None
    noise_virial_: float | None
    solution_: SparseSolution | None
    calibration_: tuple[float, float] | None
    log_marginal_likelihood_: float | None
    training_: Training | None
    baseline_: Baseline | None

    _properties = ("energy", "forces", "stress", "energies")

    def __init__(
        self,
        terms=None,
        *,
        noise_energy=None,
        noise_forces=None,
        noise_virial=None,
        config_noises=None,
        reference_energies=None,
        baseline=None,
        jitter=1e-8,
        optimize=True,
        solver="qr",
        approximation="dtc",
        seed=0,
    ):
        self.terms = terms
        self.noise_energy = noise_energy
        self.noise_forces = noise_forces
        self.noise_virial = noise_virial
        self.config_noises = config_noises
        self.reference_energies = reference_energies
        self.baseline = baseline
        self.jitter = jitter
        self.optimize = optimize
        self.solver = solver
        self.approximation = approximation
        self.seed = seed

    def to_fields(self, with_factor=None):
        """Return what a file holds; the factors unless they are not wanted."""
        if any(isinstance(term, TabulatedTerm) for term in self.terms_):
            raise InputError(
                "A tabulated model cannot be saved: save the one that it was made of, "
                "and tabulate that again."
            )
        fields = super().to_fields()
        if with_factor is False:
            fields |= {"solution_": None, "calibration_": None}
        return fields

    @classmethod
    def from_fields(cls, **fields):
        """Return the model of which a file holds this."""
        model = super().from_fields(**fields)
        check_parameters(model)
        model._check_elements()
        names = ("noise_energy_", "noise_forces_", "noise_virial_")
        noises = {name: getattr(model, name) for name in names}
        for name, noise in noises.items():
            check_noise(name, noise)
        if model.solution_ is None:
            return model
        if None in noises.values():
            raise ValueError("there are no noises")
        if not min(model.calibration_) > 0.0:
            raise ValueError(f"the calibration is {model.calibration_}")
        weights = np.concatenate([term.weights for term in model.terms_])
        if not np.array_equal(weights, model.solution_.coef):
            raise ValueError("the solution is of other terms")
        return model

    def _check_elements(self):
        """Raise an error unless there are terms, and all elements have an energy."""
        if not self.terms_ or not self.species_:
            raise ValueError("there are no terms, or no elements")
        numbers = {*self.species_, *self.reference_energies_}
        if min(numbers) < 1 or max(numbers) >= len(chemical_symbols):
            raise ValueError("species_ are no elements")
        if len({*self.species_}) < len(self.species_):
            raise ValueError("species_ holds an element twice")
        if not self.reference_energies_.keys() >= {*self.species_}:
            raise ValueError("there are elements without reference energy")

    def fit(self, frames, y=None):
        """Fit the force field to labelled structures.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures with energies, forces and stresses on their calculators, in eV,
            eV/Å and eV/Å³. What has no label is left out of the fit.
        y : None
            Not used: the labels live on the frames.

        Returns
        -------
        GAPRegressor
            self.
        """
        check_parameters(self)
        frames = as_frames(frames)
        Batch.from_frames(frames)  # refuses positions that are not finite
        labels = Labels.from_frames(frames)
        training = Training.on(frames, labels)
        baseline = as_baseline(self.baseline)
        if baseline is not None:
            labels = labels.above(*baseline.evaluate_training(frames))
        species = species_of(frames)
        references, are_fitted = find_reference_energies(
            self.reference_energies, frames, labels.energy
        )
        labels = replace(labels, energy=labels.energy - _sums(frames, references))
        noises = Noises(
            self.noise_energy or _NOISES.energy,
            self.noise_forces or _NOISES.forces,
            self.noise_virial or _NOISES.virial,
        )
        local = LocalLabels.collect(frames, labels, noises, self.config_noises)
        if baseline is not None:
            _take_off_stress(baseline, frames, local.virial)
        if local.counts.sum() == 0:
            raise InputError(
                "Expected energies, forces or stresses on the training frames, found "
                "none: attach them with a calculator, or name their arrays when "
                "reading (energy_key and forces_key, --energy-key and --forces-key)."
            )
        if _is_one_molecule(frames):
            _log.info(
                "all frames are of one molecule: GDMLRegressor (--model gdml), made "
                "for that, is usually more accurate"
            )
        rng = np.random.default_rng(self.seed)
        described = default_terms(frames) if self.terms is None else self.terms
        terms, origins = build_terms(described, frames, species, rng)
        if are_fitted:
            terms.append(composition_term(species))
        found = condition(self, terms, origins, frames, local, noises, rng)
        return self.restore(
            terms_=found.terms,
            species_=species,
            reference_energies_=references,
            noise_energy_=found.noises.energy,
            noise_forces_=found.noises.forces,
            noise_virial_=found.noises.virial,
            solution_=found.solution,
            calibration_=found.calibration,
            log_marginal_likelihood_=found.log_evidence,
            training_=training,
            baseline_=baseline,
        )

    def _check_frames(self, frames):
        check_is_fitted(self, "terms_")
        frames = as_frames(frames)
        found = first_unknown(frames, self.species_)
        if found:
            raise InputError(
                f"Frame {found[0]} holds {found[1]}, which the model has never seen: "
                f"it knows {', '.join(chemical_symbols[z] for z in self.species_)}."
            )
        return frames

    def _predicted(self, frames, properties):
        """Return the prediction of checked frames, without standard deviations."""
        with_gradient = "forces" in properties or "stress" in properties
        if "stress" in properties:
            self._check_stress(frames)
        if "energies" in properties and self.baseline_ is not None:
            raise InputError(
                "A model with a baseline predicts no energies of atoms: the baseline "
                "knows the total alone. Leave 'energies' out."
            )
        parts = [
            self._predict(
                batch, find_neighbours(batch, self.cutoff_, first), with_gradient
            )
            for first, batch in _batches(frames)
        ]
        energies, forces, stress = (
            [value for part in parts for value in part[k]] for k in range(3)
        )
        energy = np.array([e.sum() for e in energies])
        if self.baseline_ is not None:
            known = forces if with_gradient else None
            energy, forces = self.baseline_.add_to(energy, known, frames)
            if "stress" in properties:
                stress = stress + self.baseline_.stress(frames)
        return Prediction(
            energy,
            forces if "forces" in properties else None,
            np.array(stress) if "stress" in properties else None,
            energies if "energies" in properties else None,
        )

    @property
    def has_stress(self) -> bool:
        """Whether stresses can be asked for: not on a baseline that knows none."""
        return self.baseline_ is None or self.baseline_.has_stress

    @property
    def cutoff_(self) -> float:
        """Distance up to which atoms interact, in Å."""
        return largest_cutoff(self.terms_)

    def _predict(self, batch, neighbours, with_gradient=True):
        """Return lists of energies of atoms, forces and stresses of structures.

        The stress is None where there are not three periodic directions.
        """
        found = predict_local(self.terms_, batch.numbers, neighbours, with_gradient)
        table = np.zeros(len(chemical_symbols))
        table[list(self.reference_energies_)] = list(self.reference_energies_.values())
        cuts = batch.offsets[1:-1]
        energies = np.split(found.energies + table[batch.numbers], cuts)
        if not with_gradient:
            return energies, [], []
        strains = np.split(found.strain, cuts)
        stress = [
            stress_of(-strain.sum(axis=0), abs(np.linalg.det(cell)))
            if pbc.all()
            else None
            for strain, cell, pbc in zip(strains, batch.cells, batch.pbc, strict=True)
        ]
        return energies, np.split(-found.gradient, cuts), stress

    def tabulated(self, error=1e-5, start=0.7):
        """Return a model with two- and three-body terms on splines, for fast dynamics.

        It predicts no standard deviations, and cannot be saved: tabulate again.

        Parameters
        ----------
        error : float, default=1e-5
            Largest error of the local energy of a pair or triplet, in eV, measured at
            random points; `terms_` say what it is. That of the slopes is at most ten
            times as large, in eV over the length scales of the term.
        start : float, default=0.7
            Shortest distance in Å; closer atoms raise an error.

        Raises
        ------
        InputError
            If no grid of reasonable size is as accurate, or the arguments are not
            positive numbers, `start` below the cutoff.
        """
        check_is_fitted(self, "terms_")
        self._refuse_splines("terms to tabulate")
        for name, value in (("error", error), ("start", start)):
            if not isinstance(value, Real) or not 0.0 < value < np.inf:
                raise InputError(f"{name} must be a positive number, found {value!r}.")
        if start >= self.cutoff_:
            raise InputError(
                f"start must be below the cutoff, {self.cutoff_:g} Å, found {start!r}."
            )
        terms = [
            tabulate(term, error, start) if term.descriptor.can_be_tabulated else term
            for term in self.terms_
        ]
        fitted = {k: v for k, v in vars(self).items() if k.endswith("_")}
        fitted |= {"terms_": terms, "solution_": None}
        return clone(self).restore(**fitted)

    def evaluate_one(self, atoms):
        """Return energy and forces of one structure.

        Parameters
        ----------
        atoms : ase.Atoms
            A structure of known elements.

        Returns
        -------
        energy : float
            In eV.
        forces : ndarray of shape (n_atoms, 3)
            In eV/Å.
        inside : bool
            True: a local model knows no range of the training data.
        """
        batch = Batch.from_frames(self._check_frames([atoms]))
        neighbours = find_neighbours(batch, self.cutoff_)
        (energies,), (forces,), _ = self._predict(batch, neighbours)
        energy = float(energies.sum())
        if self.baseline_ is not None:
            cheap, cheap_forces = self.baseline_.evaluate_one(atoms)
            energy, forces = energy + cheap, forces + cheap_forces
        return energy, forces, True

    def calculator(self, std=False, skin=0.5):
        """Return an ASE calculator that evaluates this model.

        Parameters
        ----------
        std : bool, default=False
            Compute standard deviations as well, `energy_std` and `forces_std`.
        skin : float, default=0.5
            In Å: pairs of atoms are looked for again when an atom has moved by half of
            this.

        Raises
        ------
        InputError
            If `std` is wanted of a model that knows no standard deviations.
        """
        check_is_fitted(self, "terms_")
        if std:
            self._uncertainty()
        return LocalCalculator(self, std, skin)

    def _check_stress(self, frames):
        if not self.has_stress:
            raise InputError(
                f"The model has a baseline that knows no stress, {self.baseline_!r}: "
                "leave 'stress' out."
            )
        for s, frame in enumerate(frames):
            if not frame.pbc.all():
                raise InputError(
                    f"A stress needs three periodic directions; frame {s} has "
                    f"pbc={frame.pbc.tolist()}: leave 'stress' out."
                )


def _batches(frames):
    """Yield the number of the first frame, and a batch of about `_ATOMS` atoms."""
    first, size = 0, 0
    for s, frame in enumerate(frames):
        if s > first and size + len(frame) > _ATOMS:
            yield first, Batch.from_frames(frames[first:s])
            first, size = s, 0
        size += len(frame)
    yield first, Batch.from_frames(frames[first:])


def _is_one_molecule(frames):
    first = np.sort(frames[0].numbers)
    return len(first) > 1 and all(
        not frame.pbc.any() and np.array_equal(np.sort(frame.numbers), first)
        for frame in frames
    )


def _take_off_stress(baseline, frames, virials):
    """Take the virials of a baseline off those of frames, in place."""
    known = np.flatnonzero(np.isfinite(virials).any(axis=1))
    if len(known) and not baseline.has_stress:
        _log.warning("the baseline has no stress: those of the frames are left out")
        virials[:] = np.nan
    elif len(known):
        stress = baseline.stress([frames[s] for s in known])
        for s, cheap in zip(known, stress, strict=True):
            virials[s] -= virial_of(cheap, frames[s].get_volume())


def _sums(frames, references):
    """Return the sums of reference energies of frames, (n_structures,)."""
    return np.array(
        [sum(references[int(z)] for z in frame.numbers) for frame in frames]
    )
