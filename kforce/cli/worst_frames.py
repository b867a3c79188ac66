"""What commands say of the frames whose labels are farthest from a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from kforce.cli.data_sets import DataSet
from kforce.cli.output import residuals
from kforce.data.worst_frames import WorstFrames
from kforce.labels import Labels
from kforce.prediction import Prediction

#: Frames of a test set that are named.
_NAMED = 3


def warn_of_wrong_labels(model, train: DataSet, output) -> list[dict]:
    """Warn of training labels that are beyond all others, and return them.

    The model keeps what their frames are called.
    """
    worst = getattr(model, "worst_frames_", None)
    if worst is None:
        return []
    pairs = list(zip(train.files, train.numbers, strict=True))
    names = {s: "{1} of {0}".format(*pairs[s]) for s in worst.suspects.frame.tolist()}
    model.worst_frames_ = replace(worst, names=names)
    for line in model.worst_frames_.advice():
        output.warning(line)
    return [
        {"file": pairs[one.frame][0], **vars(one), "frame": pairs[one.frame][1]}
        for one in worst.suspects
    ]


def worst_of_test(
    prediction: Prediction, labels: Labels, names: Sequence
) -> tuple[dict, str]:
    """Name the frames of largest error, and those farthest in standard deviations.

    Returned are values, and a text of a line each.
    """
    plain = _table(prediction, labels, names, in_std=False)
    values = {"largest_errors": _listed(plain)}
    largest = "; ".join(
        f"frame {one.frame}: {one.describe_error()}" for one in plain[:_NAMED]
    )
    lines = [f"largest errors           {largest}"]
    if prediction.energy_std is not None:
        by_std = _table(prediction, labels, names, in_std=True)
        values["farthest_in_std"] = _listed(by_std, with_z=True)
        farthest = "; ".join(str(one) for one in by_std[:_NAMED])
        lines.append(f"farthest in std          {farthest}")
    return values, "\n".join(lines)


def _table(prediction, labels, names, in_std):
    """Return frames by the worse of their errors, or of these over deviations."""
    n = len(prediction.energy)
    error, z = np.full((n, 2), np.nan), np.full((n, 2), np.nan)
    for kind, pairs in residuals(prediction, labels).items():
        column = 0 if kind == "energy" else 1
        of_frames, stds = pairs
        for s in range(n):
            residual = np.ravel(of_frames[s])
            size = np.abs(residual) / (np.ravel(stds[s]) if in_std else 1.0)
            if np.isfinite(size).any():
                k = int(np.nanargmax(size))
                error[s, column], z[s, column] = residual[k], size[k]
    return WorstFrames.of(np.asarray(names), error, z)


def _listed(table, with_z=False):
    names = ["frame", "label", "error"] + with_z * ["z"]
    return [{name: getattr(one, name) for name in names} for one in table[:_NAMED]]
