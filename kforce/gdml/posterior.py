"""The posterior: a prior on the latent function, conditioned on observations."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from kforce.descriptors.base import Features
from kforce.gdml.covariance import covariance
from kforce.gdml.energy_differences import mean_energy
from kforce.gdml.evidence import RELATIVE_NOISE
from kforce.gdml.leave_one_out import (
    LeaveOneOut,
    leave_one_out_from_factor,
    structures_to_leave_out,
)
from kforce.gdml.observations import Observations
from kforce.gdml.uncertainty import Uncertainty
from kforce.kernels.base import Kernel, Scaled
from kforce.kernels.expansion import Expansion
from kforce.progress import progress_bar
from kforce.solvers.cholesky import Cholesky


@dataclass(frozen=True)
class Posterior:
    """A fitted latent function and the prior that it came from.

    Attributes
    ----------
    kernel : Kernel
        With the amplitude that was learned, if one was.
    noise_forces : float
        Noise of the forces in use, in eV/Å.
    expansion : Expansion
        Posterior mean.
    log_marginal_likelihood : float
        log p(y) of the projected observations.
    uncertainty : Uncertainty
        Posterior covariance, calibrated, with the factor of the covariance matrix.
    leave_one_out : LeaveOneOut
        How well structures are predicted from all others.
    """

    kernel: Kernel
    noise_forces: float
    expansion: Expansion
    log_marginal_likelihood: float
    uncertainty: Uncertainty
    leave_one_out: LeaveOneOut


def condition(
    kernel: Kernel,
    features: Features,
    observations: Observations,
    permutations: np.ndarray,
    noise_forces: float | None,
    learn_amplitude: bool = False,
    positions: np.ndarray | None = None,
    known: np.ndarray | None = None,
    seed: int = 0,
    learned_from: np.ndarray | None = None,
    calibrate: bool = False,
) -> Posterior:
    """Condition a Gaussian process on observed forces and energies.

    Parameters
    ----------
    kernel : Kernel
        Prior covariance.
    features, observations : Features, Observations
        Where and what is observed.
    permutations : ndarray of int, shape (n_perms, n_atoms)
        Symmetries of the kernel.
    noise_forces : float or None
        The noise that the observations were built with; None replaces it by
        `RELATIVE_NOISE`.
    learn_amplitude : bool, default=False
        Scale kernel and noise together by the amplitude of largest likelihood, which
        leaves the mean as it is.
    positions : ndarray of shape (n_structures, n_atoms, 3), optional
        The structures, in Å; for storing the uncertainty.
    known : ndarray of bool, shape (n_structures,), optional
        In a fit of forces alone, the structures whose mean residual energy is the
        constant of the model: the errors of energies are relative to theirs.
    seed : int
        Of the structures that are left out in turn.
    learned_from : ndarray of int, optional
        Structures that hyper-parameters of the kernel were learned from.
    calibrate : bool, default=False
        Multiply standard deviations by what leaving out structures asks for, as suits a
        kernel that was learned.

    Raises
    ------
    InputError
        If the covariance matrix cannot be factored.
    """
    n = len(observations.y)
    with progress_bar(n * (n + 1) // 2, "assembling") as advance:
        K = covariance(features, observations, kernel, permutations, progress=advance)
    if noise_forces is None:
        of_forces = observations.is_force
        noise_forces = RELATIVE_NOISE * np.sqrt(K.diagonal()[of_forces].mean())
        if observations.is_given[of_forces].all():
            noise_forces = np.sqrt(observations.variance[of_forces].mean())
        learned = of_forces & ~observations.is_given
        variance = np.where(learned, noise_forces**2, observations.variance)
        observations = replace(observations, variance=variance)
    with progress_bar(n, "factoring") as advance:
        solution = Cholesky().solve(
            K, observations.y, observations.variance, progress=advance
        )
    # One step of refinement: K coef is the model's own prediction, so its residual
    # costs next to nothing, and takes back most of what rounding lost.
    expansion = _expand(kernel, features, observations, permutations, solution.coef)
    f, slope = expansion.jet(features.x)
    forces = -features.pull(slope).reshape(len(f), -1)
    residual = observations.y - observations.variance * solution.coef
    residual -= observations.collect(forces, f)
    coef = solution.coef + solution.factor.solve(residual)
    quadratic = float(observations.y @ coef)
    scale = 1.0
    if learn_amplitude and quadratic > 0.0:
        scale = quadratic / n
        kernel = Scaled(kernel, amplitude=float(np.sqrt(scale)))
    coef /= scale
    solution.factor.multiply(np.sqrt(scale))
    observations = replace(observations, variance=scale * observations.variance)
    expansion = _expand(kernel, features, observations, permutations, coef)
    known_well = np.array([], dtype=int) if learned_from is None else learned_from
    chosen = structures_to_leave_out(observations.sizes, seed, known_well)
    is_independent = len(np.intersect1d(chosen, known_well)) == 0
    left_out = leave_one_out_from_factor(
        solution.factor, coef, observations, chosen, is_independent
    )
    energies_float = known is not None and known.any()
    return Posterior(
        kernel=kernel,
        noise_forces=float(noise_forces * np.sqrt(scale)),
        expansion=expansion,
        log_marginal_likelihood=-0.5
        * (quadratic / scale + solution.log_det + n * np.log(2.0 * np.pi * scale)),
        uncertainty=Uncertainty(
            kernel,
            permutations,
            features,
            observations,
            mean_energy(expansion, known / known.sum()) if energies_float else None,
            left_out.calibration if calibrate else 1.0,
            solution.factor,
            positions,
        ),
        leave_one_out=left_out,
    )


def _expand(kernel, features, observations, permutations, coef):
    """Write the sum over observations as an expansion in descriptor space."""
    forces, energies = observations.split(coef)
    return Expansion(
        kernel=kernel,
        x_train=features.x,
        directions=-features.push(forces),
        weights=energies if len(observations.energy_rows) else None,
        feature_perms=features.coordinates.images(permutations)[0],
    )
