"""Posterior covariances of toys, and their slow twins."""

import numpy as np
from toys import (
    slow_covariance,
    symmetric_group,
)

from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.energy_differences import mean_energy
from kforce.gdml.observations import Observations
from kforce.gdml.posterior import Posterior
from kforce.gdml.prior import Noise, Prior
from kforce.kernels.expansion import Expansion
from kforce.kernels.stationary import Matern52
from kforce.labels import Labels
from kforce.structures import Batch

#: Of the forces (eV/Å), and of energies (eV an atom).
NOISE, NOISE_ENERGY = 0.01, 0.002
MODES = {"forces": None, "energies too": NOISE_ENERGY}


def features_of(frames):
    return InverseDistances()(Batch.from_frames(frames))


def build(
    frames, noise_energy=None, group=None, kernel=None, known=None, calibration=1.0
):
    """The posterior of a model of some frames; energies relative to the known."""
    kernel = Matern52(1.3) if kernel is None else kernel
    group = symmetric_group(len(frames[0]), 2) if group is None else group
    batch = Batch.from_frames(frames)
    features = InverseDistances()(batch)
    labels = Labels.from_frames(frames)
    observations = Observations.build(batch, labels, noise_energy is not None)
    x = features.x
    images = features.coordinates.images(group)[0]
    reference = None
    if known is not None:
        plain = Expansion(kernel, x, np.ones_like(x), None, images)
        reference = mean_energy(plain, known / known.sum())
    return Posterior(
        Prior(kernel, group, Noise(NOISE, noise_energy)),
        features,
        observations,
        reference=reference,
        calibration=calibration,
    )


def brute_force(uncertainty, frames, queries, known=None):
    """Posterior covariance of forces and energies of all queries, one after another."""
    train, asked = [f.positions for f in frames], [f.positions for f in queries]
    width = asked[0].size + 1
    rows, W = uncertainty.observations.rows, uncertainty.observations.rigid
    R = np.zeros((rows.max() + 1, len(train) * width))
    for s in range(len(train)):
        reduce = np.eye(width)
        reduce[:-1, :6] -= W[s]
        R[rows[s][rows[s] >= 0], s * width : (s + 1) * width] = reduce[rows[s] >= 0]
    everything = [*asked, *train]
    S = slow_covariance(
        everything, everything, uncertainty.prior.kernel, uncertainty.prior.permutations
    )
    n = len(asked) * width
    cross = R @ S[n:]
    A = cross[:, n:] @ R.T + np.diag(
        uncertainty.prior.noise.variance(uncertainty.observations)
    )
    S -= cross.T @ np.linalg.solve(A, cross)
    M = np.eye(n, len(S))
    if known is not None:
        for s in np.flatnonzero(known):
            M[width - 1 :: width, n + (s + 1) * width - 1] -= 1.0 / known.sum()
    C = M @ S @ M.T
    return C.reshape(len(asked), width, len(asked), width)


def compare(uncertainty, frames, queries, known=None):
    """All that an uncertainty tells, against brute force."""
    C = brute_force(uncertainty, frames, queries, known)
    asked = features_of(queries)
    n = len(C)
    own = C[np.arange(n), :, np.arange(n)]
    prior = uncertainty.prior.kernel(0.0) * len(uncertainty.prior.permutations) * 10.0
    # Solving with A loses the digits between the prior variance and the noise's.
    tolerance = {"rtol": 1e-7, "atol": 1e-11 * prior}
    energy, forces = uncertainty.deviations(asked)
    np.testing.assert_allclose(energy**2, own[:, -1, -1], **tolerance)
    expected = np.einsum("srr->sr", own[:, :-1, :-1])
    np.testing.assert_allclose(forces.reshape(n, -1) ** 2, expected, **tolerance)
    alone, nothing = uncertainty.deviations(asked, with_forces=False)
    assert nothing is None
    np.testing.assert_allclose(alone**2, energy**2, **tolerance)
    np.testing.assert_allclose(
        uncertainty.forces_covariance(asked), own[:, :-1, :-1], **tolerance
    )
    energies = uncertainty.energy_covariance(asked)
    np.testing.assert_allclose(energies, C[:, -1, :, -1], **tolerance)
    # Differences of energies: what the covariance is for.
    between = energies[0, 0] + energies[1, 1] - 2 * energies[0, 1]
    slow = C[0, -1, 0, -1] + C[1, -1, 1, -1] - 2 * C[0, -1, 1, -1]
    np.testing.assert_allclose(between, slow, **tolerance)
