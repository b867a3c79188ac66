"""Check that the energies of a training set belong to its forces.

A model of the forces alone predicts energies up to a constant; where these disagree
with the labels, a sign, a unit or a level of theory is wrong.
"""

from __future__ import annotations

import logging

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from kforce.descriptors.base import Features
from kforce.gdml.covariance import covariance
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Noise, Prior
from kforce.labels import Labels
from kforce.structures import Batch

_log = logging.getLogger("kforce.gdml")

#: Energies that miss by more than so many predictive standard deviations do not belong
#: to the forces. Consistent data stay below 2, shuffled energies reach 4 to 100.
_LARGEST_MISMATCH = 4.0

#: Rows of the small system that the energies are compared with.
_SYSTEM_ROWS = 1000


def scale_complaint(energy: np.ndarray, predicted: np.ndarray) -> str | None:
    """Return a complaint where energies have another sign or unit than forces imply.

    Both are (n_structures,) in eV: labels, and what a model of the forces predicts.
    """
    if len(energy) < 5 or not (np.ptp(energy) and np.ptp(predicted)):
        return None
    correlation = np.corrcoef(energy, predicted)[0, 1]
    ratio = correlation * energy.std() / predicted.std()
    if abs(correlation) < 0.7 or 0.5 < ratio < 2.0:
        return None
    return (
        f"The energies change by {ratio:.3g} times what the forces imply: check the "
        "sign of the forces and the units of both."
    )


def mismatch_complaint(model, frames, labels: Labels) -> str | None:
    """Return a complaint where energies miss by far more than forces leave open.

    The model was fitted to the forces of these frames, the training set.
    """
    complete = np.flatnonzero(np.isfinite(labels.energy) & labels.has_forces)
    count = min(len(complete), max(9, _SYSTEM_ROWS // (3 * len(frames[0]))))
    if count < 9:
        return None
    chosen = complete[np.linspace(0, len(complete) - 1, count).astype(int)]
    # Every third structure gives its energy, the others their forces.
    gives_energy = np.arange(count) % 3 == 2
    energy = np.where(gives_energy, labels.energy[chosen], np.nan)
    forces = [
        np.full_like(labels.forces[s], np.nan) if alone else labels.forces[s]
        for s, alone in zip(chosen, gives_energy, strict=True)
    ]
    batch = Batch.from_frames([frames[s] for s in chosen])
    observations = Observations.build(
        batch, Labels(energy, forces), True, model.constant_
    )
    prior = Prior(model.kernel_, model.permutations_, Noise(model.noise_forces_))
    mismatch = energy_mismatch(prior, model.descriptor_(batch), observations)
    _log.info("energies miss by %.2g of their expected error", mismatch)
    if mismatch < _LARGEST_MISMATCH:
        return None
    return (
        f"The energies miss by {mismatch:.0f} times their expected error: these forces "
        "are not the gradient of these energies. Check that both come from one level "
        "of theory and belong to the same structures."
    )


def energy_mismatch(
    prior: Prior, features: Features, observations: Observations
) -> float:
    """Return how far energies are from what the forces of other structures predict.

    The forces give a predictive distribution of differences of the energies. If they
    are the gradient of these, the root mean square error of the energies, their mean
    taken out, is about the expected one; what is returned is their ratio.
    """
    K = covariance(prior, features, observations).to_dense()
    f = observations.is_force
    noise = prior.noise.variance(observations)[f]
    factor = cho_factor(K[np.ix_(f, f)] + np.diag(noise), lower=True)
    # The forces say nothing of the common constant: compare deviations from the mean.
    n = len(K) - f.sum()
    centre = np.eye(n) - 1.0 / n
    cross = K[np.ix_(f, ~f)] @ centre
    y = observations.y[f]
    alpha = cho_solve(factor, y)
    residual = centre @ observations.y[~f] - cross.T @ alpha
    spread = centre @ K[np.ix_(~f, ~f)] @ centre - cross.T @ cho_solve(factor, cross)
    # With the amplitude that is most likely for these forces, y α / n in place of 1.
    expected = np.trace(spread) * (y @ alpha / len(y))
    return float(np.sqrt(residual @ residual / max(expected, 1e-300)))
