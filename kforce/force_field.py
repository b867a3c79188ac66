"""What all force fields share: fit, prediction, baseline, errors, score, saving.

A force field is the sum of what it learned and of its baseline: the latter is taken off
the labels in `fit`, and added to predictions in `evaluate` and `evaluate_structure`.
Errors of both are independent, so their variances add.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import replace
from numbers import Integral
from uuid import uuid4

import numpy as np
from ase import Atoms
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from kforce.baselines.baseline import as_baseline
from kforce.calculator import KForceCalculator
from kforce.data.training import Training, frame_hashes
from kforce.errors import InputError, check_positive
from kforce.evaluation import metrics
from kforce.labels import Labels
from kforce.neighbours.verlet import SkinList
from kforce.prediction import Prediction
from kforce.storage.codec import build, stored_attributes
from kforce.storage.files import save
from kforce.structures import Batch, as_frames

#: Atoms whose descriptors are held in memory at a time, unless a frame has more.
CHUNK_ATOMS = 2000


class ForceField(BaseEstimator):
    """Base of the force-field regressors.

    X is a list of `ase.Atoms` and the labels live on the frames, so that `fit`,
    `predict`, `score` and scikit-learn's tools take that list alone.

    A subclass knows neither baseline nor files. Its `fit` calls

    * ``_check_parameters()``, which raises InputError unless they make sense,
    * ``_training_set(frames)``, which returns the frames that it uses and their labels,
    * ``_fit(frames, labels)``, which sets the fitted attributes, labels being those
      above the baseline,

    and its `evaluate` calls

    * ``check_frame(atoms, name)``,
    * ``_evaluate(frames, properties, first)``, which returns the `Prediction` of a part
      of the frames, `first` being the number of its first one,
    * ``_evaluate_one(atoms, properties, skin_list, std)``, which returns the one of a
      single structure, with its epistemic standard deviations if that saves work, and
      whether it is within the range of the training data, as far as grades do not tell,
    * ``_check_uncertainty()``, which raises InputError if it knows no errors,
    * ``_epistemic(frames, own, with_forces)``, which returns standard deviations of
      energies (n_structures,), for its prediction `own`, and a list of those of forces
      (n_atoms, 3) or None, and
      ``_label_noises()`` of energies, per atom (× √n_atoms), and of forces,
    * ``_energy_covariance(frames)`` and ``_forces_covariance(frames)``.

    Attributes
    ----------
    baseline_ : Baseline or None
        The baseline in use.
    training_ : Training or None
        What the model was trained on; None where it is not known.
    """

    #: What `evaluate` knows, the energy first.
    known_properties = ("energy", "forces")

    #: Distance in Å up to which atoms interact; None if all of them do.
    cutoff_ = None

    #: What grades the extrapolation of atoms; None in a model that does not.
    grade_ = None

    #: What predictions are like outside of the range of the training data.
    extrapolates_to = "its errors may be far larger than in training"

    def fit(self, frames: Sequence[Atoms], y=None):
        """Fit the force field to labelled structures.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures with energies (eV), forces (eV/Å) and, for a `GAPRegressor`,
            stresses (eV/Å³) on their calculators. What has no label is left out of the
            fit.
        y : None
            Not used: the labels live on the frames.

        Returns
        -------
        ForceField
            self.

        Raises
        ------
        InputError
            If parameters, structures, labels or the baseline make no sense, or there is
            too little memory.
        """
        self._check_parameters()
        frames = as_frames(frames)
        Batch.from_frames(frames)  # refuses positions that are not finite
        frames, labels = self._training_set(frames)
        training = Training.on(frames, labels)
        frames = self._without_boxes(frames)
        baseline = as_baseline(self.baseline)
        if baseline is not None:
            labels = baseline.corrections(frames, labels)
        before = dict(vars(self))
        try:
            self._fit(frames, labels)
        except BaseException:  # a fit that fails leaves the model as it was
            vars(self).clear()
            vars(self).update(before)
            raise
        return self._restore(baseline_=baseline, training_=training)

    def predict(
        self, frames: Sequence[Atoms], return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict energies.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of the molecule or the elements that the model was trained on.
        return_std : bool, default=False
            Return standard deviations as well.

        Returns
        -------
        energy : ndarray of shape (n_structures,)
            Energies in eV.
        std : ndarray of shape (n_structures,)
            See `Prediction.energy_std`; only with `return_std`.

        Raises
        ------
        InputError
            If the model does not know such structures, or no standard deviations.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.
        """
        prediction = self.evaluate(frames, ("energy",), return_std)
        self._warn_of_extrapolation(frames, prediction.extrapolation)
        if return_std:
            return prediction.energy, prediction.energy_std
        return prediction.energy

    def evaluate(
        self,
        frames: Sequence[Atoms],
        properties: Sequence[str] = ("energy", "forces"),
        return_std: bool = False,
    ) -> Prediction:
        """Predict several properties at once.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of the molecule (`GDMLRegressor`) or the elements
            (`GAPRegressor`) that the model was trained on.
        properties : sequence of {'energy', 'forces', 'stress', 'energies'}
            What to predict beside the energy. Energies of atoms are known to a
            `GAPRegressor` only, and so are stresses, but for that of a molecule in a
            box, which is zero.
        return_std : bool, default=False
            Predict standard deviations of energies and forces as well, at the cost of a
            triangular solve with the factor of the fit; a `GDMLRegressor` that does not
            hold it factors again first.

        Returns
        -------
        Prediction
            Energies in eV (n_structures,), forces in eV/Å, stresses in eV/Å³
            (n_structures, 6), with NaN for structures without three periodic
            directions.

        Raises
        ------
        InputError
            If the model does not know such structures, a property, or standard
            deviations; if none of the structures has a stress.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.

        Examples
        --------
        >>> import kforce
        >>> frames = kforce.datasets.load_methanol_ccsdt()
        >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(frames[:10])
        >>> known, new = model.evaluate(frames[9:11], return_std=True).energy_std
        >>> bool(known < new)
        True
        """
        frames = self._check_frames(frames)
        properties = self._check_properties(properties, frames)
        if return_std:
            self._check_std()
        own = Prediction.joined(
            [
                self._evaluate(part, properties, first)
                for first, part in self._chunks(frames)
            ]
        )
        below = None
        if self.baseline_ is not None:
            below = self.baseline_.evaluate(frames, properties, return_std)
        return self._sum(own, below, frames, return_std)

    def evaluate_structure(
        self,
        atoms: Atoms,
        properties: Sequence[str],
        return_std: bool | str = False,
        skin_list: SkinList | None = None,
    ) -> tuple[Prediction, bool]:
        """Predict several properties of one structure, unchecked, at low latency.

        Returns the prediction, and whether the structure is within the range of the
        training data, also of a baseline that grades it. With `return_std`, True or
        'forces', standard deviations of energy and forces are there, with 'energy' that
        of the energy. A local model takes its pairs of atoms from the `skin_list`.
        """
        own, inside = self._evaluate_one(atoms, properties, skin_list, return_std)
        below = None
        if self.baseline_ is not None:
            below = self.baseline_.evaluate_one(atoms, properties, return_std)
        total = own
        if below is not None or return_std:
            total = self._sum(own, below, [atoms], return_std)
        grades = total.extrapolation
        return total, inside and (grades is None or bool(grades[0].max() <= 1.0))

    def evaluate_one(self, atoms: Atoms) -> tuple[float, np.ndarray, bool]:
        """Return energy and forces of one structure at low latency.

        In eV and eV/Å; the third value is whether the descriptor is within the range of
        the training data. Nothing is checked: the atom order is that of the training,
        elements are known.
        """
        prediction, inside = self.evaluate_structure(atoms, ("energy", "forces"))
        return float(prediction.energy[0]), prediction.forces[0], inside

    def _sum(self, own, below, frames, return_std):
        """Return the prediction of the model and what is below it, with its errors."""
        if return_std and own.energy_epistemic is None:
            with_forces = own.forces is not None and return_std != "energy"
            energy, forces = self._epistemic(frames, own, with_forces)
            own = replace(own, energy_epistemic=energy, forces_epistemic=forces)
        total = own if below is None else own + below
        if not return_std:
            return total
        of_energy, of_forces = self._label_noises()
        of_energy = of_energy * np.sqrt([len(frame) for frame in frames])
        forces = total.forces_epistemic
        return replace(
            total,
            energy_std=np.hypot(total.energy_epistemic, of_energy),
            forces_std=forces and [np.hypot(f, of_forces) for f in forces],
        )

    @property
    def has_stress(self) -> bool:
        """Whether stresses can be asked for: not on a baseline that knows none."""
        return "stress" in self.known_properties and (
            self.baseline_ is None or self.baseline_.has_stress
        )

    @property
    def has_grades(self) -> bool:
        """Whether predictions hold extrapolation grades, its own or a baseline's."""
        return self.grade_ is not None or any(
            model.has_grades for model in self._models_below()
        )

    def properties_of(self, frames: Sequence[Atoms]) -> tuple[str, ...]:
        """Return all properties that `evaluate` can be asked for of some frames."""
        properties = self.known_properties
        if len(properties) == 2:  # energy and forces, which are always known
            return properties
        if "energies" in properties and self.baseline_ is not None:
            properties = tuple(p for p in properties if p != "energies")
        if "stress" in properties and not (
            self.has_stress and any(frame.pbc.all() for frame in frames)
        ):
            properties = tuple(p for p in properties if p != "stress")
        return properties

    def energy_covariance(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Return the covariance of the errors of energies, without noise of labels.

        An array (n_structures, n_structures) in eV². The standard deviation of the
        difference of two energies is √(C_ii + C_jj − 2 C_ij); errors of similar
        structures mostly cancel in it. Raises `InputError` as `evaluate` does.
        """
        frames = self._check_frames(frames)
        self._check_std()
        C = self._energy_covariance(frames)
        return sum((m.energy_covariance(frames) for m in self._models_below()), C)

    def forces_covariance(self, frames: Sequence[Atoms]) -> list[np.ndarray]:
        """Return the covariance of the errors of the forces within each structure.

        Arrays (3 n_atoms, 3 n_atoms) in (eV/Å)², atom by atom, without noise of labels.
        Raises `InputError` as `evaluate` does, and for a `GAPRegressor`, which knows
        variances only.
        """
        frames = self._check_frames(frames)
        self._check_std()
        covariances = self._forces_covariance(frames)
        for model in self._models_below():
            pairs = zip(covariances, model.forces_covariance(frames), strict=True)
            covariances = [own + below for own, below in pairs]
        return covariances

    def score(self, frames: Sequence[Atoms], y=None) -> float:
        """Return R² of the predicted forces over all components that have a label."""
        frames = as_frames(frames)
        prediction = self.evaluate(frames)
        pairs = Labels.from_frames(frames).pairs(prediction)
        if "forces" not in pairs:
            raise InputError(
                "The score compares forces, and none of these frames has any."
            )
        return metrics.r2(*pairs["forces"])

    def describe_extrapolation(
        self, atoms: Atoms, grades: np.ndarray | None = None
    ) -> str | None:
        """Say in a sentence how a structure leaves the range of the training data.

        None where it is within that range, as far as the model knows. `grades`
        (n_atoms,) are the extrapolation grades of its atoms, where they are known.
        """
        raise NotImplementedError

    def _warn_of_extrapolation(self, frames, grades):
        """Warn of the first structure whose extrapolation grades are above 1."""
        outside = [s for s, of_atoms in enumerate(grades or ()) if of_atoms.max() > 1.0]
        if outside:
            first = outside[0]
            sentence = self.describe_extrapolation(frames[first], grades[first])
            warnings.warn(
                f"{len(outside)} of {len(frames)} structures leave the range of the "
                f"training data, where {self.extrapolates_to} (frame {first}: "
                f"{sentence.rstrip('.')}).",
                stacklevel=3,
            )

    def is_training_frame(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Return which labelled frames the model was trained on, (n_structures,)."""
        known = self.training_.frames if self.training_ else ()
        return np.isin(frame_hashes(frames, Labels.from_frames(frames)), known)

    def to_fields(self, with_factor: bool | None = None) -> dict:
        """Return what a file holds: parameters, and fitted attributes with a type."""
        fields = stored_attributes(self)
        del fields["baseline"]  # baseline_ stands for it
        return fields

    @classmethod
    def from_fields(cls, **fields) -> ForceField:
        """Return the model of which a file holds this."""
        return build(cls, {**fields, "baseline": fields.get("baseline_")})

    def save(self, path, with_factor: bool | None = None) -> None:
        """Write the fitted model to an .npz file, all or nothing; see `kforce.load`.

        A baseline is written by its name and settings, or whole if it is a kforce
        model.

        Parameters
        ----------
        path : path-like
            An existing file is replaced once the new one is complete.
        with_factor : bool, default=None
            Include what standard deviations are computed with.

            Of a `GDMLRegressor` these are 4 n² bytes for n equations (70 MB for 200
            structures of ethanol). Without it they work as well, but the first takes
            the time of a fit; None leaves it out.

            Of a `GAPRegressor` these are 8 m² bytes for m inducing environments (8 MB
            for 1,000). The training frames are not in the file, so without it there are
            no standard deviations; None includes it.

        Raises
        ------
        InputError
            If the file cannot be written, or the model uses a class that is not
            registered.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.
        """
        save(self, path, with_factor)

    def calculator(
        self,
        std: bool | str = False,
        skin: float = 0.5,
        std_every: int = 1,
        on_extrapolation: str = "warn",
        stop_std: float | None = None,
    ) -> KForceCalculator:
        """Return an ASE calculator that evaluates this model.

        Parameters
        ----------
        std : {False, 'energy', 'forces'}, default=False
            Compute `energy_std`, or that and `forces_std`, as well; True stands for
            'forces'. Those of a local model take about as long as a step for the
            energy, and several times as long for forces. A global model takes a
            quarter of a step for 'energy', from a low-rank posterior, which is
            compared with the exact one when it is made and mostly above it by a factor
            of up to four (`kforce.gdml.low_rank`); with 'forces' both are exact, and
            take many steps.
        skin : float, default=0.5
            A local model looks for pairs of atoms again when an atom has moved by half
            of it, in Å.
        std_every : int, default=1
            Compute standard deviations in each structure of so many.
        on_extrapolation : {'warn', 'raise', 'ignore'}, default='warn'
            What to do with a structure of which a grade is above 1, which is outside of
            the training set: warn, once in a process for this model, raise an
            `ExtrapolationError` before anything is done with its forces, or nothing.
        stop_std : float, default=None
            Raise an `ExtrapolationError` where the standard deviation of the energy is
            above this, in eV; that takes 'energy' where `std` is False. It is known in
            each `std_every`-th structure only.

        Raises
        ------
        InputError
            If `std` is none of these, or the model knows no standard deviations;
            if `skin`, `std_every`, `on_extrapolation` or `stop_std` make no sense.

        Examples
        --------
        >>> import kforce
        >>> frames = kforce.datasets.load_methanol_ccsdt()
        >>> model = kforce.GDMLRegressor(kernel=kforce.Matern52()).fit(frames[:20])
        >>> atoms = frames[30].copy()
        >>> atoms.positions *= 1.5
        >>> atoms.calc = model.calculator(on_extrapolation="raise")
        >>> try:
        ...     forces = atoms.get_forces()
        ... except kforce.errors.ExtrapolationError as error:
        ...     print(error.grade > 1.0, atoms.calc.n_extrapolating)
        True 1
        """
        check_is_fitted(self)
        std = "forces" if std is True else std
        if std not in (False, "energy", "forces"):
            raise InputError(
                f"std must be False, 'energy' or 'forces', found {std!r}: name the "
                "standard deviations that are wanted."
            )
        is_whole = isinstance(std_every, Integral) and not isinstance(std_every, bool)
        if not is_whole or std_every < 1:
            raise InputError(
                f"std_every must be a whole number ≥ 1, found {std_every!r}: 1 asks "
                "for standard deviations in every step."
            )
        if on_extrapolation not in ("warn", "raise", "ignore"):
            raise InputError(
                "on_extrapolation must be 'warn', 'raise' or 'ignore', found "
                f"{on_extrapolation!r}: 'raise' stops where the training set ends."
            )
        if stop_std is not None:
            check_positive("stop_std", stop_std, "standard deviation in eV or None")
            std = std or "energy"
        if std:
            self._check_std()
        return KForceCalculator(
            self, std, skin, int(std_every), on_extrapolation, stop_std
        )

    def check_frame(self, atoms: Atoms, name: str = "this structure") -> None:
        """Raise InputError unless the fitted model knows structures like this."""
        raise NotImplementedError

    def _training_set(self, frames):
        """Return the frames that the model is fitted to, and their labels."""
        return frames, Labels.from_frames(frames)

    def _without_boxes(self, frames):
        """Return training frames as the model and its baseline are to see them."""
        return frames

    def _check_frames(self, frames):
        """Return the frames as this model sees them, once they are fit for it."""
        check_is_fitted(self)
        frames = as_frames(frames)
        for s, frame in enumerate(frames):
            self.check_frame(frame, f"frame {s}")
        return frames

    def _check_properties(self, properties, frames):
        """Return the properties as a tuple, once the model knows them of the frames."""
        properties = (properties,) if isinstance(properties, str) else tuple(properties)
        unknown = set(properties) - set(self.known_properties)
        if unknown:
            raise InputError(
                f"{type(self).__name__} predicts "
                f"{', '.join(map(repr, self.known_properties))}, not "
                f"{', '.join(map(repr, sorted(unknown)))}."
            )
        missing = set(properties) - set(self.properties_of(frames))
        if "energies" in missing:
            raise InputError(
                "A model with a baseline predicts no energies of atoms: the baseline "
                "knows the total alone. Leave 'energies' out."
            )
        if "stress" in missing and not self.has_stress:
            raise InputError(
                f"The model has a baseline that knows no stress, {self.baseline_!r}: "
                "leave 'stress' out."
            )
        if "stress" in missing:
            raise InputError(
                "A stress needs three periodic directions, and no structure has them; "
                f"frame 0 has pbc={frames[0].pbc.tolist()}: leave 'stress' out."
            )
        return properties

    def _models_below(self):
        """Return the force fields that this one corrects."""
        return [] if self.baseline_ is None else self.baseline_.models

    def _check_std(self):
        """Raise InputError unless this model and those below know their errors."""
        self._check_uncertainty()
        for model in self._models_below():
            model._check_std()

    @staticmethod
    def _chunks(frames: list[Atoms]) -> Iterator[tuple[int, list[Atoms]]]:
        """Cut frames into parts of about `CHUNK_ATOMS`, with the numbers of the first.

        A part is one frame at least.
        """
        first, n_atoms = 0, 0
        for s, frame in enumerate(frames):
            if s > first and n_atoms + len(frame) > CHUNK_ATOMS:
                yield first, frames[first:s]
                first, n_atoms = s, 0
            n_atoms += len(frame)
        yield first, frames[first:]

    def _restore(self, **fitted):
        """Set fitted attributes, whose names end in an underscore, and return self.

        Copies of the model have its name, under which it warns once in a process.
        """
        for name, value in fitted.items():
            setattr(self, name, value)
        self._name = uuid4().hex
        return self

    def __sklearn_clone__(self):
        """Return an unfitted copy; a baseline may be a fitted model and is kept."""
        return type(self)(
            **{
                name: value if name == "baseline" else clone(value, safe=False)
                for name, value in self.get_params(deep=False).items()
            }
        )

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor"
        tags.input_tags.two_d_array = False
        tags.target_tags.required = False
        return tags
