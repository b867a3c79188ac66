"""What all force fields share: prediction, evaluation, score, saving."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from kforce import metrics
from kforce.errors import InputError
from kforce.structures import Labels

#: Structures whose features are held in memory at a time.
_CHUNK = 512


@dataclass(frozen=True)
class Prediction:
    """What a force field predicts for a list of structures.

    Attributes
    ----------
    energy : ndarray of shape (n_structures,)
        Energies in eV.
    forces : list of ndarray of shape (n_atoms, 3), or None
        Forces in eV/Å.
    """

    energy: np.ndarray
    forces: list[np.ndarray] | None = None


class ForceField(BaseEstimator):
    """Base of the force-field regressors; subclasses define `fit` and `_evaluate`.

    X is a list of `ase.Atoms` and the labels live on the frames, so that `fit`,
    `predict`, `score` and scikit-learn's tools take that list alone.
    """

    def predict(self, frames: Sequence[Atoms], return_std: bool = False) -> np.ndarray:
        """Predict energies.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of the molecule that the model was trained on.
        return_std : bool, default=False
            Not available in this model: raises `InputError` when True.

        Returns
        -------
        ndarray of shape (n_structures,)
            Energies in eV.

        Raises
        ------
        InputError
            If the structures are not of the model's molecule.
        sklearn.exceptions.NotFittedError
            If the model has not been fitted.
        """
        return self.evaluate(frames, ("energy",), return_std).energy

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
            Not available in this model: raises `InputError` when True.

        Returns
        -------
        Prediction
            Energies in eV (n_structures,), forces in eV/Å.

        Raises
        ------
        InputError
            If the structures are not of the model's molecule, or a property or the
            standard deviation cannot be predicted.
        """
        if isinstance(properties, str):
            properties = (properties,)
        unknown = set(properties) - {"energy", "forces"}
        if unknown:
            raise InputError(
                f"{type(self).__name__} predicts 'energy' and 'forces', not "
                f"{', '.join(map(repr, sorted(unknown)))}."
            )
        if return_std:
            raise InputError(
                f"{type(self).__name__} keeps no predictive variance: call with "
                "return_std=False."
            )
        frames = self._check_frames(frames)
        wanted = "forces" in properties
        parts = [
            self._evaluate(frames[k : k + _CHUNK], wanted)
            for k in range(0, len(frames), _CHUNK)
        ]
        energy = np.concatenate([e for e, _ in parts])
        forces = [f for _, part in parts for f in part] if wanted else None
        return Prediction(energy, forces)

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

    def save(self, path) -> None:
        """Write the fitted model to an .npz file; see `kforce.load`."""
        from kforce.persistence import save

        save(self, path)

    def calculator(self):
        """Return an ASE calculator that evaluates this model."""
        from kforce.calculator import KForceCalculator

        check_is_fitted(self, "expansion_")
        return KForceCalculator(self)

    def _check_frames(self, frames):
        """Return the frames as a list once they are fit for this model."""
        raise NotImplementedError

    def _evaluate(self, frames, with_forces):
        """Return energies and a list of forces."""
        raise NotImplementedError

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.estimator_type = "regressor"
        tags.input_tags.two_d_array = False
        tags.target_tags.required = False
        return tags
