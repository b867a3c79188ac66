"""What sparse force fields know of their errors."""

from __future__ import annotations

from kforce.errors import InputError, check_noise
from kforce.force_field import ForceField, added
from kforce.gap.extrapolation import novelty
from kforce.gap.posterior import Posterior


class SparseForceField(ForceField):
    """Base of sparse models: standard deviations from `solution_`.

    Subclasses define what `ForceField` asks for, and when fitted have `terms_`,
    `solution_`, `calibration_`, `baseline_` and the noises.
    """

    def novelty(self, frames, regularisation=1e-3):
        """Return how unlike the inducing environments those of atoms are.

        Parameters
        ----------
        frames : list of ase.Atoms
            Structures of known elements.
        regularisation : float, default=1e-3
            In eV; see `kforce.gap.extrapolation.novelty`.

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
        """
        frames = self._check_frames(frames)
        posterior = self._uncertainty()
        return [posterior.atom_deviations(frame) for frame in frames]

    def energy_covariance(self, frames):  # noqa: D102
        frames = self._check_frames(frames)
        C = self._uncertainty().energy_covariance(frames)
        return sum((m.energy_covariance(frames) for m in self._lower_levels()), C)

    def forces_covariance(self, frames):  # noqa: D102
        raise InputError(
            "GAPRegressor predicts standard deviations of force components "
            "(evaluate(frames, return_std=True)), not their covariance."
        )

    def _refuse_splines(self, what):
        if any(term.is_tabulated for term in self.terms_):
            raise InputError(
                f"A tabulated model has no {what}: use the model that it is made of."
            )

    def _uncertainty(self):
        self._refuse_splines("standard deviations")
        if getattr(self, "solution_", None) is None:
            raise InputError(
                "This model holds no posterior (it was read from XML, or saved without "
                "factor): fit it to its training frames for standard deviations."
            )
        for level in self._lower_levels():
            level._uncertainty()
        return Posterior(self.terms_, self.solution_, self.calibration_)

    def _label_noises(self):
        """Return those that predictions have, per atom and per component."""
        energy, forces = self.calibration_
        return energy * self.noise_energy_, forces * self.noise_forces_

    def _epistemic(self, frames, with_forces):
        """Return the epistemic part of standard deviations, levels below added."""
        deviations = self._uncertainty().deviations(frames, with_forces)
        for level in self._lower_levels():
            deviations = added(deviations, level._epistemic(frames, with_forces))
        return deviations
