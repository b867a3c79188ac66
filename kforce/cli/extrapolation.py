"""Warnings about structures that a model knows too little of, or too well."""

from __future__ import annotations

from kforce.data.findings import plural


def warn_unfamiliar(model, frames, output) -> None:
    """Warn about structures outside of the range of the training data."""
    sentences = [model.extrapolation(frame) for frame in frames]
    outside = [s for s, sentence in enumerate(sentences) if sentence]
    if outside:
        first = outside[0]
        output.warning(
            f"{len(outside)} of {plural(len(frames), 'structure')} "
            f"{'leaves' if len(outside) == 1 else 'leave'} the range of the "
            f"training data, where predictions are not reliable (frame {first}: "
            f"{sentences[first].rstrip('.')})."
        )


def warn_trained_on(model, frames, output) -> None:
    """Warn about structures that the model was trained on."""
    count = model.is_training_frame(frames).sum()
    if count:
        output.warning(
            f"{count} of {plural(len(frames), 'frame')} "
            f"{'is' if count == 1 else 'are'} "
            "training data of this model: errors there are too small to be honest."
        )
