"""What the commands do for local models: stresses, and energies per atom."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields

import numpy as np
from ase import Atoms

from kforce.cli.output import errors
from kforce.evaluation import metrics
from kforce.force_field import ForceField, Prediction
from kforce.gap.regressor import GAPRegressor
from kforce.labels import Labels, read_label


def evaluate(
    model: ForceField, frames: Sequence[Atoms], return_std: bool = False
) -> tuple[Prediction, list[np.ndarray | None]]:
    """Return what a model predicts, and the stresses that it knows.

    Those are the stresses of frames with three periodic directions, if the model knows
    any; None for others.
    """
    stresses = [None] * len(frames)
    if not model.has_stress:
        if return_std:
            return model.evaluate(frames, return_std=True), stresses
        return model.evaluate(frames), stresses
    model._check_frames(frames)  # says which frame is wrong before they are parted
    periodic = np.array([frame.pbc.all() for frame in frames])
    parts, members = [], []
    for group in filter(len, (np.flatnonzero(~periodic), np.flatnonzero(periodic))):
        wanted = ("energy", "forces") + ("stress",) * bool(periodic[group[0]])
        part = model.evaluate([frames[s] for s in group], wanted, return_std)
        if part.stress is not None:
            for s, stress in zip(group, part.stress, strict=True):
                stresses[s] = stress
        parts.append(part)
        members.append(group)
    return _merged(parts, np.argsort(np.concatenate(members))), stresses


def _merged(parts, order):
    """Join predictions and bring them into an order; stresses are left out."""
    merged = {}
    for name in {field.name for field in fields(Prediction)} - {"stress"}:
        values = [getattr(part, name) for part in parts]
        if values[0] is None:
            merged[name] = None
        elif isinstance(values[0], list):
            joined = [value for part in values for value in part]
            merged[name] = [joined[s] for s in order]
        else:
            merged[name] = np.concatenate(values)[order]
    return Prediction(**merged)


def local_errors(
    model: ForceField,
    frames: Sequence[Atoms],
    labels: Labels,
    prediction: Prediction,
    stresses: Sequence[np.ndarray | None],
) -> dict[str, float]:
    """Return the errors of a prediction, of energies per atom and stresses as well.

    The latter, in eV and eV/Å³, for local models only.
    """
    found = errors(prediction, labels)
    if not isinstance(model, GAPRegressor):
        return found
    size = np.array([len(frame) for frame in frames])
    if "energy_mae" in found:
        pair = prediction.energy / size, labels.energy / size
        found["energy_per_atom_mae"] = metrics.mae(*pair)
        found["energy_per_atom_rmse"] = metrics.rmse(*pair)
    pairs = []
    for s, (frame, stress) in enumerate(zip(frames, stresses, strict=True)):
        label = read_label(frame, s, "stress", frame.get_stress)
        if stress is not None and label.ndim:
            pairs.append((stress, label))
    if pairs:
        predicted, reference = map(np.array, zip(*pairs, strict=True))
        found["stress_mae"] = metrics.mae(predicted, reference)
        found["stress_rmse"] = metrics.rmse(predicted, reference)
    return found
