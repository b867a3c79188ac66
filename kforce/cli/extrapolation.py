"""Warnings about structures that a model knows too little of, or too well."""

from __future__ import annotations

import numpy as np

from kforce.data.findings import plural
from kforce.data.training import frame_hashes
from kforce.gap.prediction import describe_strange_pairs
from kforce.gap.regressor import GAPRegressor
from kforce.labels import Labels
from kforce.structures import Batch


def warn_unfamiliar(model, frames, output) -> None:
    """Warn about structures outside of the range of the training data.

    What a local model knows of it is pairs of atoms.
    """
    if isinstance(model, GAPRegressor):
        strange = describe_strange_pairs(model.terms_, frames)
        if strange:
            output.warning(f"predictions are not reliable: {strange}.")
        return
    x = model.descriptor_(Batch.from_frames(frames)).x
    outside = [s for s, row in enumerate(x) if not model.expansion_.is_inside(row)]
    if outside:
        first = model.describe_extrapolation(frames[outside[0]].positions)
        output.warning(
            f"{len(outside)} of {plural(len(frames), 'structure')} "
            f"{'leaves' if len(outside) == 1 else 'leave'} the range of the "
            f"training data, where predictions are not reliable (frame {outside[0]}: "
            f"{first.rstrip('.')})."
        )


def warn_trained_on(model, frames, output) -> None:
    """Warn about structures that the model was trained on."""
    if isinstance(model, GAPRegressor):
        known = set(model.training_.frames) if model.training_ else set()
        hashes = frame_hashes(frames, Labels.from_frames(frames))
        _warn_trained(sum(own in known for own in hashes), frames, output)
        return
    x = np.sort(model.descriptor_(Batch.from_frames(frames)).x, axis=1)
    x_train = np.sort(model.expansion_.x_train, axis=1)
    known = {row.tobytes() for row in x_train.round(7) + 0.0}
    count = sum(row.tobytes() in known for row in x.round(7) + 0.0)
    _warn_trained(count, frames, output)


def _warn_trained(count, frames, output):
    if count:
        output.warning(
            f"{count} of {plural(len(frames), 'frame')} "
            f"{'is' if count == 1 else 'are'} "
            "training data of this model: errors there are too small to be honest."
        )
