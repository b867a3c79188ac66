"""The sparse force field of local environments."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from ase.data import chemical_symbols
from sklearn.base import clone
from sklearn.utils.validation import check_is_fitted

from kforce.baselines.baseline import Baseline
from kforce.data.training import Training
from kforce.errors import InputError, check_noise, check_positive, check_seed
from kforce.force_field import ForceField
from kforce.gap.extrapolation import Grade, describe_pairs
from kforce.gap.forecast import SparseForecast
from kforce.gap.growth import (
    BOND_ENERGY,
    BOND_FORCE,
    grown,
    growth_of_energies,
    growth_of_forces,
    growth_of_structure,
)
from kforce.gap.hyperparameters import FreeParameters, maximise_free_energy
from kforce.gap.leave_one_out import (
    best_noise_factor,
    frames_to_leave_out,
    leave_one_out,
)
from kforce.gap.posterior import Posterior, gather
from kforce.gap.prediction import novelty, predict_local
from kforce.gap.reference_energies import find_reference_energies, species_of
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.gap.splines import tabulate
from kforce.gap.term import Term, build_terms, composition_term
from kforce.gap.terms_from_data import default_terms
from kforce.gap.training_set import TrainingSet
from kforce.labels import Labels, read_stresses, stress_of
from kforce.neighbours.search import find_neighbours
from kforce.prediction import Prediction, describe_grades
from kforce.registry import check_instance, register
from kforce.solvers.least_squares import SparseSolution
from kforce.structures import Batch, as_frames, first_unknown

_log = logging.getLogger("kforce.gap")
_forecast_log = logging.getLogger("kforce.forecast")

#: Noises of energies, forces and virials where they are neither given nor learned, and
#: their ratios where they are.
DEFAULT_NOISES = (0.002, 0.05, 0.05)


@register
class GAPRegressor(ForceField):
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
    grade_ : Grade or None
        Where the environments of the training set are; None in a tabulated model.
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
    grade_: Grade | None
    training_: Training | None
    baseline_: Baseline | None

    known_properties = ("energy", "forces", "stress", "energies")

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
        if self._is_tabulated:
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
        model = super().from_fields(**{"grade_": None, **fields})
        model._check_parameters()
        model._check_elements()
        if model.grade_ is None:  # in files that are older than grades
            model.grade_ = Grade.of_points(model.terms_)
        if len(model.grade_.ranges) != len(model.terms_):
            raise ValueError("the grades are of other terms")
        noises = []
        for name in ("noise_energy_", "noise_forces_", "noise_virial_"):
            noises.append(getattr(model, name))
            check_noise(name, noises[-1])
        if model.solution_ is None:
            return model
        if None in noises:
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

    def _check_parameters(self):
        for name in ("noise_energy", "noise_forces", "noise_virial", "jitter"):
            check_noise(name, getattr(self, name))
        check_seed(self.seed)
        choices = {"solver": ("qr", "normal"), "approximation": ("dtc", "fitc")}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise InputError(
                    f"{name} must be {' or '.join(map(repr, known))}, found "
                    f"{getattr(self, name)!r}."
                )
        if self.jitter is None:
            raise InputError("jitter must be a positive number in eV², found None.")
        if not isinstance(self.config_noises, Mapping | None):
            raise InputError(
                "config_noises must be None or a dict of config_types to three noises, "
                f"found {self.config_noises!r}."
            )
        if self.terms is None:
            return
        wanted = "terms must be None or a list of Term"
        if not isinstance(self.terms, Sequence) or isinstance(self.terms, str):
            raise InputError(
                f"{wanted}(descriptor, kernel, n_inducing), found {self.terms!r}."
            )
        if not self.terms:
            raise InputError(f"{wanted}, found none.")
        for term in self.terms:
            described = "a Term(descriptor, kernel, n_inducing)"
            check_instance("Each of the terms", term, Term, described)
            term.check()

    def _training_set(self, frames):
        labels = Labels.from_frames(frames)
        return frames, replace(labels, stress=read_stresses(frames))

    def _fit(self, frames, labels):
        species = species_of(frames)
        references, are_fitted = find_reference_energies(
            self.reference_energies, frames, labels.energy
        )
        sums = [sum(references[int(z)] for z in frame.numbers) for frame in frames]
        labels = replace(labels, energy=labels.energy - sums)
        noises = (self.noise_energy, self.noise_forces, self.noise_virial)
        training_set = TrainingSet.build(
            frames,
            labels,
            [own or usual for own, usual in zip(noises, DEFAULT_NOISES, strict=True)],
            self.config_noises,
        )
        if training_set.counts.sum() == 0:
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
        terms, origins = build_terms(described, training_set, species, rng)
        if are_fitted:
            shifts = composition_term(species)
            terms.append(shifts)
            origins.append(Term(shifts.descriptor, shifts.kernel))
        forecast = SparseForecast.of(terms, training_set)
        _forecast_log.info("forecast: %s", forecast)
        forecast.require_memory()
        free = FreeParameters.of(terms, origins, noises)
        posterior, noises = self._condition(terms, free, training_set, rng)
        energy, forces, virial = noises.tolist()
        self._restore(
            terms_=posterior.terms,
            grade_=Grade.of_training(posterior.terms, training_set, rng),
            species_=species,
            reference_energies_=references,
            noise_energy_=energy,
            noise_forces_=forces,
            noise_virial_=virial,
            solution_=posterior.solution,
            calibration_=posterior.calibration,
            log_marginal_likelihood_=posterior.log_marginal_likelihood,
        )

    def _condition(self, terms, free, training, rng):
        """Return the posterior of terms with what is learned, and the noises (3,)."""
        if self.optimize:
            terms, noises = maximise_free_energy(terms, training, free, rng)
            training = training.with_noises(noises)
        system = gather(terms, training, self.jitter, self.solver, self.approximation)
        # The same frames decide on the noises and on the calibration.
        left_out = frames_to_leave_out(system, training, rng) if self.optimize else []
        factor = 1.0
        # One factor can only be that of the noises of all rows.
        if (
            self.optimize
            and self.approximation == "dtc"
            and np.array(free.noises)[training.counts > 0].all()
            and all(observed.is_default.all() for observed in training.observations)
        ):
            factor = best_noise_factor(system, training, left_out)
            training = training.with_noises(factor * training.noises)
        posterior = system.condition(factor)
        if posterior.solution.jitter > self.jitter:
            _log.warning(
                "the jitter had to be raised from %.1e to %.1e eV²",
                self.jitter,
                posterior.solution.jitter,
            )
        # Standard deviations of a prior that was given are not doubted.
        if self.optimize:
            _log.info(
                "noise of the labels, with all that the terms cannot represent: %s",
                training.describe_noises(),
            )
            errors = leave_one_out(posterior, training, left_out, factor)
            errors.report(training)
            posterior = replace(posterior, calibration=errors.calibration())
        return posterior, training.noises

    def check_frame(self, atoms, name="this structure"):  # noqa: D102
        unknown = first_unknown(as_frames([atoms]), self.species_)
        if unknown:
            known = ", ".join(chemical_symbols[z] for z in self.species_)
            raise InputError(
                f"{name.capitalize()} holds {unknown[1]}, which the model has never "
                f"seen: it knows {known}."
            )

    @property
    def cutoff_(self) -> float:
        """Distance up to which atoms interact, in Å."""
        return largest_cutoff(self.terms_)

    def _evaluate(self, frames, properties, first):
        batch = Batch.from_frames(frames)
        neighbours = find_neighbours(batch, self.cutoff_, first)
        return self._predict(batch, neighbours, properties)[0]

    def _evaluate_one(self, atoms, properties, skin_list, std):
        self.check_frame(atoms)
        batch = Batch.from_frames([atoms])
        if skin_list is None:
            neighbours = find_neighbours(batch, self.cutoff_)
        else:
            neighbours = skin_list.neighbours(batch)
        prediction, environments = self._predict(
            batch, neighbours, properties, keep_environments=bool(std)
        )
        if std:
            # What has been computed for the energy serves for its variance.
            with_forces = prediction.forces is not None and std != "energy"
            structure = batch, neighbours, with_forces, environments
            variances = [self._posterior.variances_of(*structure)]
            energy, forces = self._deviations(variances, prediction.extrapolation)
            prediction.energy_epistemic, prediction.forces_epistemic = energy, forces
        return prediction, True

    def _predict(self, batch, neighbours, properties, keep_environments=False):
        """Return the prediction of a batch whose neighbours are known.

        The features of environments come with it where they are wanted.
        """
        with_gradient = "forces" in properties or "stress" in properties
        local = predict_local(
            self.terms_,
            batch.numbers,
            neighbours,
            with_gradient,
            self.grade_,
            keep_environments,
        )
        reference = np.zeros(len(chemical_symbols))
        for z, energy in self.reference_energies_.items():
            reference[z] = energy
        cuts = batch.offsets[1:-1]
        energies = np.split(local.energies + reference[batch.numbers], cuts)
        prediction = Prediction(
            np.array([e.sum() for e in energies]),
            np.split(-local.gradient, cuts) if "forces" in properties else None,
            _stresses(batch, local.strain) if "stress" in properties else None,
            energies if "energies" in properties else None,
            extrapolation=None if self.grade_ is None else np.split(local.grades, cuts),
        )
        return prediction, local.environments

    def extrapolation(self, frames):
        """Return how far the environments of atoms are from those of the training set.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of known elements.

        Returns
        -------
        list of ndarray of shape (n_atoms,)
            Extrapolation grades, see `kforce.gap.extrapolation`: 1 is where the
            training set ends. A model that was read from another program measures them
            from its inducing environments.

        Raises
        ------
        InputError
            If the model is tabulated: it holds no environments.

        Examples
        --------
        >>> import kforce
        >>> frames = kforce.datasets.load_methanol_ccsdt()
        >>> terms = [kforce.Term(kforce.TwoBody(cutoff=4.0), n_inducing=10)]
        >>> model = GAPRegressor(terms=terms).fit(frames[:25])
        >>> closer = frames[30].copy()
        >>> closer.positions *= 0.7
        >>> known, new = model.extrapolation([frames[30], closer])
        >>> bool(known.max() < 1.0), bool(new.max() > 1.0)
        (True, True)
        """
        self._refuse_splines("environments to compare with")
        return self.evaluate(frames, ("energy",)).extrapolation

    def describe_extrapolation(self, atoms, grades=None):
        """Say in a sentence which pairs and environments no training structure has.

        None where there are none. `grades` (n_atoms,) are those of its atoms, where
        they are known.
        """
        if grades is None:
            self._refuse_splines("record of its training set")
            (grades,) = self.extrapolation([atoms])
        # Splines have no training set, but what they correct may have one.
        if self._is_tabulated:
            return describe_grades(atoms, grades)
        # Terms of other programs, or for some elements, say nothing of other pairs.
        has_all_pairs = self.training_ is not None and (
            self.terms is None or any(t.descriptor.is_for_all_pairs for t in self.terms)
        )
        pairs = describe_pairs(self.terms_, atoms, has_all_pairs)
        return " ".join(filter(None, (pairs, describe_grades(atoms, grades)))) or None

    def _check_uncertainty(self):
        self._refuse_splines("standard deviations")
        if getattr(self, "solution_", None) is None:
            raise InputError(
                "This model holds no posterior (it was read from XML, or saved without "
                "factor): fit it to its training frames for standard deviations."
            )

    @property
    def _posterior(self):
        return Posterior(self.terms_, self.solution_, self.calibration_)

    def _epistemic(self, frames, own, with_forces):
        variances = self._posterior.all_variances(frames, with_forces)
        return self._deviations(variances, own.extrapolation)

    def _deviations(self, variances, grades):
        """Return standard deviations of energies and forces, which grow with grades.

        Of each structure, `variances` are those of its energy and its forces, or None.
        """
        of_energy, of_forces = self.calibration_
        energy = of_energy * np.sqrt([variance for variance, _ in variances])
        energy = self._grown_energies(energy, grades)
        if variances[0][1] is None:
            return energy, None
        pairs = zip(variances, grades, strict=True)
        return energy, [
            grown(of_forces * np.sqrt(forces), growth_of_forces(g)[:, None], BOND_FORCE)
            for (_, forces), g in pairs
        ]

    def _grown_energies(self, std, grades):
        """Return deviations of energies (n_structures,) that grow with the grades."""
        of_structures = np.array([growth_of_structure(g) for g in grades])
        sizes = np.array([len(g) for g in grades])
        return grown(std, of_structures, BOND_ENERGY * sizes)

    def _label_noises(self):
        """Return those that predictions have, per atom and per component."""
        energy, forces = self.calibration_
        return energy * self.noise_energy_, forces * self.noise_forces_

    def _energy_covariance(self, frames):
        C = self._posterior.energy_covariance(frames)
        std = np.sqrt(np.maximum(np.diag(C), 0.0))
        larger = self._grown_energies(std, self._own_grades(frames))
        factors = np.divide(larger, std, out=np.ones(len(std)), where=std > 0.0)
        return np.outer(factors, factors) * C

    def _own_grades(self, frames):
        """Return the grades without those of a baseline, [(n_atoms,)]."""
        parts = [self._evaluate(p, ("energy",), s) for s, p in self._chunks(frames)]
        return Prediction.joined(parts).extrapolation

    def _forces_covariance(self, frames):
        raise InputError(
            "GAPRegressor predicts standard deviations of force components "
            "(evaluate(frames, return_std=True)), not their covariance."
        )

    def energies_std(self, frames):
        """Return standard deviations of the energies of atoms, without noise.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of known elements.

        Returns
        -------
        list of ndarray of shape (n_atoms,)
            In eV.

        Raises
        ------
        InputError
            If the model knows no standard deviations.
        """
        frames = self._check_frames(frames)
        self._check_std()
        posterior, grades = self._posterior, self._own_grades(frames)
        return [
            grown(posterior.atom_deviations(frame), growth_of_energies(g), BOND_ENERGY)
            for g, frame in zip(grades, frames, strict=True)
        ]

    def novelty(self, frames, regularisation=1e-3):
        """Return how unlike the inducing environments those of atoms are.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of known elements.
        regularisation : float, default=1e-3
            In eV; see `kforce.gap.prediction.novelty`.

        Returns
        -------
        list of ndarray of shape (n_atoms,)
            In eV²; the `local_gap_variance` of the program GAP.

        Raises
        ------
        InputError
            If the regularisation is not positive, or the model is tabulated.
        """
        check_noise("regularisation", regularisation or 0.0)
        frames = self._check_frames(frames)
        self._refuse_splines("novelty")
        return [novelty(self.terms_, frame, regularisation) for frame in frames]

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
        self._refuse_splines("terms to tabulate")
        for name, value in (("error", error), ("start", start)):
            check_positive(name, value)
        if start >= self.cutoff_:
            raise InputError(
                f"start must be below the cutoff, {self.cutoff_:g} Å, found {start!r}."
            )
        terms = [
            tabulate(term, error, start) if term.descriptor.can_be_tabulated else term
            for term in self.terms_
        ]
        fitted = {k: v for k, v in vars(self).items() if k.endswith("_")}
        fitted |= {"terms_": terms, "solution_": None, "grade_": None}
        return clone(self)._restore(**fitted)

    @property
    def _is_tabulated(self):
        return any(term.is_tabulated for term in self.terms_)

    def _refuse_splines(self, what):
        check_is_fitted(self, "terms_")
        if self._is_tabulated:
            raise InputError(
                f"A tabulated model has no {what}: use the model that it is made of."
            )


def _stresses(batch, strain):
    """Return stresses from derivatives with respect to strain, NaN if not periodic."""
    stress = np.full((batch.n_structures, 6), np.nan)
    for s in np.flatnonzero(batch.pbc.all(axis=1)):
        atoms = slice(batch.offsets[s], batch.offsets[s + 1])
        volume = abs(np.linalg.det(batch.cells[s]))
        stress[s] = stress_of(-strain[atoms].sum(axis=0), volume)
    return stress


def _is_one_molecule(frames):
    first = np.sort(frames[0].numbers)
    return len(first) > 1 and all(
        not frame.pbc.any() and np.array_equal(np.sort(frame.numbers), first)
        for frame in frames
    )
