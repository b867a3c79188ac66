"""What all force fields share: prediction, evaluation, score, saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from kforce.errors import InputError
from kforce.evaluation import metrics
from kforce.labels import Labels
from kforce.storage.codec import build, stored_attributes
from kforce.storage.files import save


@dataclass(frozen=True)
class Prediction:
    """What a force field predicts for a list of structures.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        Energies in eV.
    forces : list of ndarray of shape (n_atoms, 3), or None
        Forces in eV/Å.
    stress : ndarray of shape (n_structures, 6), or None
        In eV/Å³, in the order and with the sign of ASE (xx, yy, zz, yz, xz, xy).
    energies : list of ndarray of shape (n_atoms,), or None
        Energies of atoms in eV, which add up to the energy.
    energy_std, forces_std : like energy and forces, or None
        Standard deviations of new labels: what the training data leave open
        (epistemic) and the noise of labels (aleatoric), in the same units.
    energy_epistemic, forces_epistemic : like energy and forces, or None
        The first part alone: the standard deviations of the true values. The squares of
        both parts add up to those of the whole.
    """

    energy: np.ndarray
    forces: list[np.ndarray] | None = None
    stress: np.ndarray | None = None
    energies: list[np.ndarray] | None = None
    energy_std: np.ndarray | None = None
    forces_std: list[np.ndarray] | None = None
    energy_epistemic: np.ndarray | None = None
    forces_epistemic: list[np.ndarray] | None = None


#: Structures whose features are held in memory at a time.
_CHUNK = 512


class ForceField(BaseEstimator):
    """Base of the force-field regressors.

    X is a list of `ase.Atoms` and the labels live on the frames, so that `fit`,
    `predict`, `score` and scikit-learn's tools take that list alone.

    Subclasses define `fit`, `_check_frames`, `_features` and `_evaluate`. A fitted
    model that knows its errors has an `uncertainty_`, and with it `noise_forces_`
    (eV/Å) and `noise_energy_` (eV per atom × √n_atoms, or None).
    """

    #: What `evaluate` knows.
    _properties = ("energy", "forces")

    #: Whether stresses of periodic structures can be asked for.
    has_stress = False

    def predict(
        self, frames: Sequence[Atoms], return_std: bool = False
    ) -> np.ndarray | tuple[np.ndarray, np.ndarray]:
        """Predict energies.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of the molecule that the model was trained on.
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
            If the structures are not of the model's molecule, or the model knows no
            standard deviations.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.
        """
        prediction = self.evaluate(frames, ("energy",), return_std)
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
            Structures of the molecule that the model was trained on.
        properties : sequence of {'energy', 'forces'}
            What to predict.
        return_std : bool, default=False
            Predict standard deviations as well, at the cost of a triangular solve with
            the factor of the fit; a model that does not hold it factors again first.

        Returns
        -------
        Prediction
            Energies in eV (n_structures,), forces in eV/Å.

        Raises
        ------
        InputError
            If the structures are not of the model's molecule, or a property or the
            standard deviation cannot be predicted.

        Examples
        --------
        >>> import kforce
        >>> frames = kforce.datasets.load_methanol_ccsdt()
        >>> model = kforce.GDMLRegressor().fit(frames[:20])
        >>> known, new = model.evaluate(frames[19:21], return_std=True).energy_std
        >>> bool(known < new)
        True
        """
        if isinstance(properties, str):
            properties = (properties,)
        unknown = set(properties) - set(self._properties)
        if unknown:
            raise InputError(
                f"{type(self).__name__} predicts "
                f"{', '.join(map(repr, self._properties))}, not "
                f"{', '.join(map(repr, sorted(unknown)))}."
            )
        frames = self._check_frames(frames)
        prediction = self._predicted(frames, properties)
        if not return_std:
            return prediction
        names = ("energy_std", "forces_std", "energy_epistemic", "forces_epistemic")
        deviations = self._deviations(frames, "forces" in properties)
        return replace(prediction, **dict(zip(names, deviations, strict=True)))

    def _predicted(self, frames, properties):
        """Return the prediction of checked frames, without standard deviations."""
        wanted = "forces" in properties
        return Prediction(
            *_joined(self._evaluate(part, wanted) for part in _cut(frames))
        )

    def energy_covariance(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Return the covariance of the errors of energies, without noise of labels.

        The standard deviation of the difference of two energies is
        √(C_ii + C_jj − 2 C_ij); errors of similar structures mostly cancel in it.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of the molecule that the model was trained on.

        Returns
        -------
        ndarray of shape (n_structures, n_structures)
            In eV².

        Raises
        ------
        InputError
            As in `evaluate`.
        """
        frames = self._check_frames(frames)
        C = self._uncertainty().energy_covariance(self._features(frames))
        return sum((m.energy_covariance(frames) for m in self._lower_levels()), C)

    def forces_covariance(self, frames: Sequence[Atoms]) -> list[np.ndarray]:
        """Return the covariance of the errors of the forces within each structure.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of the molecule that the model was trained on.

        Returns
        -------
        list of ndarray of shape (3 n_atoms, 3 n_atoms)
            In (eV/Å)², atom by atom, without noise of labels.

        Raises
        ------
        InputError
            As in `evaluate`.
        """
        frames = self._check_frames(frames)
        known = self._uncertainty()
        parts = (known.forces_covariance(self._features(part)) for part in _cut(frames))
        covariances = [C for part in parts for C in part]
        for level in self._lower_levels():
            pairs = zip(covariances, level.forces_covariance(frames), strict=True)
            covariances = [own + other for own, other in pairs]
        return covariances

    def score(self, frames: Sequence[Atoms], y=None) -> float:
        """Return R² of the predicted forces over all components that have a label.

        Raises
        ------
        InputError
            If no frame has forces.
        """
        frames = self._check_frames(frames)
        predicted = self.evaluate(frames).forces
        labels = Labels.from_frames(frames)
        if not labels.has_forces.any():
            raise InputError(
                "The score compares forces, and none of these frames has any."
            )
        return metrics.r2(np.concatenate(predicted), np.concatenate(labels.forces))

    def restore(self, **fitted):
        """Set the fitted attributes of a model that was trained before.

        Parameters
        ----------
        **fitted
            All attributes that end in an underscore.

        Returns
        -------
        ForceField
            self.
        """
        for name, value in fitted.items():
            setattr(self, name, value)
        return self

    def to_fields(self, with_factor: bool | None = None) -> dict:
        """Return what a file holds: parameters, and fitted attributes with a type."""
        fields = stored_attributes(self)
        del fields["baseline"]  # baseline_ stands for it
        return fields

    @classmethod
    def from_fields(cls, **fields) -> ForceField:
        """Return the model of which a file holds this.

        Raises
        ------
        TypeError, ValueError
            If there is no such model.
        """
        return build(cls, {**fields, "baseline": fields.get("baseline_")})

    def __sklearn_clone__(self):
        """Return an unfitted copy; a baseline may be a fitted model and is kept."""
        return type(self)(
            **{
                name: value if name == "baseline" else clone(value, safe=False)
                for name, value in self.get_params(deep=False).items()
            }
        )

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

    def calculator(self, std: bool = False):
        """Return an ASE calculator that evaluates this model.

        Parameters
        ----------
        std : bool, default=False
            Compute standard deviations as well, `energy_std` and `forces_std`.

        Raises
        ------
        InputError
            If `std` is wanted of a model that knows no standard deviations.
        """
        from kforce.calculator import KForceCalculator

        check_is_fitted(self, "expansion_")
        if std:
            self._uncertainty()
        return KForceCalculator(self, std)

    def _check_frames(self, frames):
        """Return the frames as a list once they are fit for this model."""
        raise NotImplementedError

    def _features(self, frames):
        """Return the descriptors of frames."""
        raise NotImplementedError

    def _evaluate(self, frames, with_forces):
        """Return energies and a list of forces."""
        raise NotImplementedError

    def _lower_levels(self):
        """Return force fields that this one corrects; their errors add to its own."""
        baseline = getattr(self, "baseline_", None)
        return [] if baseline is None else baseline.models

    def _uncertainty(self):
        for level in self._lower_levels():
            level._uncertainty()
        if getattr(self, "uncertainty_", None) is None:
            raise InputError(
                f"{self!r}, or a baseline of it, has no predictive variance, as models "
                "read from sGDML or trained with variance=None: fit it to its training "
                "frames (variance='exact') for standard deviations, or leave them out "
                "(test --no-std, predict without --std)."
            )
        return self.uncertainty_

    def _deviations(self, frames, with_forces):
        """Return standard deviations as `Prediction` has them: total, epistemic."""
        epistemic = self._epistemic(frames, with_forces)
        return *self._with_noise(frames, *epistemic), *epistemic

    def _epistemic(self, frames, with_forces):
        """Return the epistemic part, that of the levels below added."""
        known = self._uncertainty()
        found = _joined(
            known.deviations(self._features(part), with_forces) for part in _cut(frames)
        )
        for level in self._lower_levels():
            found = added(found, level._epistemic(frames, with_forces))
        return found

    def _with_noise(self, frames, energy, forces):
        """Return total standard deviations from epistemic ones."""
        of_energy, of_forces = self._label_noises()
        energy = np.hypot(energy, of_energy * np.sqrt([len(frame) for frame in frames]))
        if forces is not None:
            forces = [np.hypot(f, of_forces) for f in forces]
        return energy, forces

    def _label_noises(self):
        """Return the noises of energies, per atom, and of force components."""
        return self.noise_energy_ or 0.0, self.noise_forces_

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor"
        tags.input_tags.two_d_array = False
        tags.target_tags.required = False
        return tags


def _cut(frames):
    """Cut a list of frames into chunks."""
    return (frames[k : k + _CHUNK] for k in range(0, len(frames), _CHUNK))


def _joined(parts):
    """Join pairs of an array and a list, or None, of consecutive chunks."""
    energies, forces = zip(*parts, strict=True)
    listed = None if forces[0] is None else [f for part in forces for f in part]
    return np.concatenate(energies), listed


def added(first, second):
    """Add the squares of standard deviations of energies, and of forces if any."""
    forces = first[1]
    if forces is not None:
        forces = [np.hypot(a, b) for a, b in zip(forces, second[1], strict=True)]
    return np.hypot(first[0], second[0]), forces
