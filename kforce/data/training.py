"""The data that a model was trained on, as a record."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata

import numpy as np
from ase import Atoms

from kforce.labels import Labels
from kforce.registry import register
from kforce.structures import as_frames


@register
@dataclass(frozen=True)
class Training:
    """What a model was trained on and with.

    That is the number of structures that were used, the `hash` of their atoms,
    positions and labels (see `dataset_hash`), the `versions` of kforce and the
    libraries it computes with, and the first digits of the hash of each structure,
    `frames`, () where they are not known.
    """

    n_frames: int
    hash: str
    versions: dict[str, str]
    frames: tuple[str, ...] = ()

    @classmethod
    def on(cls, frames: list[Atoms], labels: Labels) -> Training:
        """Describe a training set and the program that uses it."""
        names = ("kforce", "numpy", "scipy", "numba", "ase")
        versions = {name: metadata.version(name) for name in names}
        whole, each = dataset_hash(frames, labels), frame_hashes(frames, labels)
        return cls(len(frames), whole, versions, each)


def frame_hashes(frames: list[Atoms], labels: Labels) -> tuple[str, ...]:
    """Return sixteen digits each that tell labelled structures apart."""
    return tuple(
        dataset_hash([frame], labels.take([s]))[:16] for s, frame in enumerate(frames)
    )


def dataset_hash(frames: Sequence[Atoms], labels: Labels | None = None) -> str:
    """Return the SHA-256 of what a fit sees of the frames, as 64 hexadecimal digits.

    Numbers, positions, cells, energies, forces and their noises count, in their order;
    names, other fields and where the frames came from do not. The labels are those of
    the frames, unless they have been collected already.

    >>> from kforce.datasets import load_methanol_ccsdt
    >>> dataset_hash(load_methanol_ccsdt()[:10])[:8]
    '24a39778'
    """
    frames = as_frames(frames)
    labels = labels or Labels.from_frames(frames)
    digest = hashlib.sha256()
    for frame, energy, forces in zip(frames, labels.energy, labels.forces, strict=True):
        digest.update(np.array([len(frame), *frame.numbers, *frame.pbc], "<i8"))
        for values in (frame.positions, frame.cell.array, energy, forces):
            digest.update(_canonical(values))
    noises = [] if labels.noise_energy is None else [labels.noise_energy]
    for values in noises + (labels.noise_forces or []):
        digest.update(_canonical(values))
    return digest.hexdigest()


def _canonical(values) -> bytes:
    """Return little-endian doubles in which −0 is 0 and there is a single NaN."""
    values = np.asarray(values, "<f8") + 0.0
    return np.where(np.isnan(values), np.nan, values).astype("<f8").tobytes()
