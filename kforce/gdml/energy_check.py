"""Check that the energies of a training set belong to its forces.

A model of the forces alone predicts energies up to a constant; where these disagree
with the labels, a sign, a unit or a level of theory is wrong.
"""

from __future__ import annotations

import logging

import numpy as np

from kforce.gdml.evidence import energy_mismatch
from kforce.gdml.observations import Observations
from kforce.labels import Labels
from kforce.structures import Batch

_log = logging.getLogger("kforce.gdml")

#: Energies that miss by more than so many predictive standard deviations do not belong
#: to the forces. Consistent data stay below 2, shuffled energies reach 4 to 100.
_MISMATCH = 4.0

#: Rows of the small system that the energies are compared with.
_ROWS = 1000


def scale_complaint(energy: np.ndarray, predicted: np.ndarray) -> str | None:
    """Return a complaint where energies have another sign or unit than forces imply.

    Parameters
    ----------
    energy, predicted : ndarray of shape (n_structures,)
        Labels, and what a model of the forces predicts, in eV.
    """
    if len(energy) < 5 or not (np.ptp(energy) and np.ptp(predicted)):
        return None
    correlation = np.corrcoef(energy, predicted)[0, 1]
    slope = correlation * energy.std() / predicted.std()
    if abs(correlation) < 0.7 or 0.5 < slope < 2.0:
        return None
    return (
        f"The energies change by {slope:.3g} times what the forces imply: check the "
        "sign of the forces and the units of both."
    )


def mismatch_complaint(model, frames, labels: Labels) -> str | None:
    """Return a complaint where energies miss by far more than forces leave open.

    Parameters
    ----------
    model : GDMLRegressor
        Fitted to the forces of `frames`.
    frames, labels : list of ase.Atoms, Labels
        The training set.
    """
    known = np.flatnonzero(np.isfinite(labels.energy) & labels.has_forces)
    count = min(len(known), max(9, _ROWS // (3 * len(frames[0]))))
    if count < 9:
        return None
    chosen = known[np.linspace(0, len(known) - 1, count).astype(int)]
    # Every third structure gives its energy, the others their forces.
    asked = np.arange(count) % 3 == 2
    energy = np.where(asked, labels.energy[chosen], np.nan)
    forces = [
        np.full_like(labels.forces[s], np.nan) if alone else labels.forces[s]
        for s, alone in zip(chosen, asked, strict=True)
    ]
    batch = Batch.from_frames([frames[s] for s in chosen])
    observations = Observations.build(
        batch, Labels(energy, forces), model.noise_forces_, 1.0, model.constant_
    )
    mismatch = energy_mismatch(
        model.kernel_, model.descriptor_(batch), observations, model.permutations_
    )
    _log.info("energies miss by %.2g of their expected error", mismatch)
    if mismatch < _MISMATCH:
        return None
    return (
        f"The energies miss by {mismatch:.0f} times their expected error: these forces "
        "are not the gradient of these energies. Check that both come from one level "
        "of theory and belong to the same structures."
    )
