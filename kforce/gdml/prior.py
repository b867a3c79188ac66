"""The prior: a Gaussian process on the latent energy, and the noise of its labels."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from kforce.gdml.observations import Observations
from kforce.kernels.base import Kernel, Scaled

#: Noise of the forces where none is given, over the prior standard deviation of a force
#: component: the labels are taken at their word, and the matrix stays well-conditioned.
RELATIVE_NOISE = 1e-5


@dataclass(frozen=True)
class Noise:
    """Standard deviations of the labels that bring none of their own.

    `forces` in eV/Å; None stands for `RELATIVE_NOISE` of the prior, see `resolved`.
    `energy` in eV per atom (× √n_atoms); None where no energies are observed.
    """

    forces: float | None = None
    energy: float | None = None

    def resolved(self, observations: Observations, prior_variance: np.ndarray) -> Noise:
        """Return the noise in numbers, given the prior variances (n_observations,).

        Where all forces bring noises, the root mean square of these stands for them.
        """
        if self.forces is not None:
            return self
        is_force = observations.is_force
        if observations.is_given[is_force].all():
            forces = np.sqrt(observations.label_variance[is_force].mean())
        else:
            forces = RELATIVE_NOISE * np.sqrt(prior_variance[is_force].mean())
        return replace(self, forces=float(forces))

    def variance(self, observations: Observations) -> np.ndarray:
        """Return what is added to the diagonal of the covariance, (n_observations,)."""
        of_forces = np.nan if self.forces is None else self.forces**2
        of_energy = np.nan
        if self.energy is not None:
            of_energy = (self.energy * np.sqrt(observations.n_atoms)) ** 2
        general = np.where(observations.is_force, of_forces, of_energy)
        return np.where(observations.is_given, observations.label_variance, general)

    def scaled(self, scale: float) -> Noise:
        """Return the noise times a number."""
        forces, energy = (
            None if noise is None else float(noise * scale)
            for noise in (self.forces, self.energy)
        )
        return Noise(forces, energy)


@dataclass(frozen=True)
class Prior:
    """A Gaussian process on the latent energy.

    The covariance is `kernel`, summed over the group `permutations` (n_perms, n_atoms),
    and the labels have a `noise`.
    """

    kernel: Kernel
    permutations: np.ndarray
    noise: Noise = field(default_factory=Noise)

    def scaled(self, amplitude: float) -> Prior:
        """Return the prior with covariance and noise times the amplitude squared."""
        kernel = Scaled(self.kernel, amplitude=float(amplitude))
        return replace(self, kernel=kernel, noise=self.noise.scaled(amplitude))
