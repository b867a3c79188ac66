"""What a sparse model is trained on: frames, their neighbours and their observations.

Every frame has up to 1 + 3 n_atoms + 6 rows, in the order of `covariance.in_rows`; the
observations say which of them are known, and how noisy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from threading import Lock

import numpy as np
from ase import Atoms

from kforce.descriptors.local import Environments, LocalDescriptor
from kforce.errors import InputError
from kforce.gap.covariance import (
    ENERGY,
    FORCES,
    VIRIAL,
    in_rows,
    prior_variances,
    sparse_rows,
)
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.labels import Labels, virial_of
from kforce.neighbours.search import Neighbours, find_neighbours
from kforce.structures import Batch

#: Bytes that the neighbours of a training set may take.
MAX_NEIGHBOUR_BYTES = 256e6

#: Frames of a sample, at least, if there are so many.
MIN_SAMPLED_FRAMES = 5


@dataclass(frozen=True)
class Observations:
    """The labels of a frame that are known, all arrays of shape (n_observations,).

    `y` are the labels in eV and eV/Å, `rows` their places among all rows of the frame,
    `kind` is ENERGY, FORCES or VIRIAL. `noise` are the standard deviations in the units
    of `y`, NaN where that is the noise of the model, which counts `scale` times.
    """

    y: np.ndarray
    rows: np.ndarray
    kind: np.ndarray
    noise: np.ndarray
    scale: np.ndarray

    @property
    def is_default(self) -> np.ndarray:
        """Whether the noise is that of the model."""
        return np.isnan(self.noise)

    def of(self, kind: int) -> np.ndarray:
        """Return the places of the observations of one kind."""
        return np.flatnonzero(self.kind == kind)

    def has(self, kind: int) -> bool:
        """Whether there are any of one kind."""
        return bool((self.kind == kind).any())

    @classmethod
    def of_frame(
        cls,
        frame: Atoms,
        labels: Labels,
        s: int,
        noises: np.ndarray,
        type_noises: np.ndarray,
    ) -> Observations:
        """Return those of a frame, of which the labels are the s-th ones.

        Its own noises come before `type_noises` (3,), those of its config_type or NaN,
        which come before `noises` (3,). Where some atoms have noises of their own,
        those of the other atoms stay as well.
        """
        forces, virial = labels.forces[s], np.full(6, np.nan)
        if np.isfinite(labels.stress[s]).any():
            virial = virial_of(labels.stress[s], frame.get_volume())
        kind = in_rows(ENERGY, np.full(forces.shape, FORCES), np.full(6, VIRIAL))
        y = in_rows(labels.energy[s], forces, virial)
        noise = _own_noises(labels, s)
        for k in (ENERGY, FORCES, VIRIAL):
            of_kind = noise[kind == k]
            default = noises[k] if np.isfinite(of_kind).any() else np.nan
            if np.isfinite(type_noises[k]):
                default = type_noises[k]
            noise[kind == k] = np.where(np.isnan(of_kind), default, of_kind)
        scale = np.where(kind == FORCES, 1.0, np.sqrt(len(frame)))
        rows = np.flatnonzero(np.isfinite(y))
        return cls(y[rows], rows, kind[rows], (noise * scale)[rows], scale[rows])


def _own_noises(labels, s):
    """Return the noises that a frame brings along in the order of rows, or NaN."""
    energy, of_atoms, virial = (
        np.nan if values is None else values[s]
        for values in (labels.noise_energy, labels.noise_forces, labels.noise_virial)
    )
    forces = np.empty_like(labels.forces[s])
    forces.T[:] = of_atoms
    return in_rows(energy, forces, np.full(6, virial))


@dataclass(frozen=True)
class TrainingSet:
    """Frames with their observations, and neighbours that are searched once.

    `noises` (3,) are those of the model, of energies and virials in eV per atom
    (× √n_atoms) and of force components in eV/Å.
    """

    frames: Sequence[Atoms]
    observations: list[Observations]
    noises: np.ndarray
    neighbours: NeighbourCache

    @classmethod
    def build(
        cls,
        frames: Sequence[Atoms],
        labels: Labels,
        noises: Sequence[float],
        config_noises: Mapping[str, tuple] | None = None,
        max_bytes: float = MAX_NEIGHBOUR_BYTES,
    ) -> TrainingSet:
        """Collect the observations of frames, whose labels hold stresses.

        `config_noises` are the noises of each ``info["config_type"]``. Raises
        `InputError` if one has none, or they are not three positive numbers.
        """
        noises = np.asarray(noises, dtype=float)
        observations = [
            Observations.of_frame(
                frame, labels, s, noises, _type_noises(frame, s, config_noises)
            )
            for s, frame in enumerate(frames)
        ]
        return cls(frames, observations, noises, NeighbourCache(frames, max_bytes))

    def with_noises(self, noises: np.ndarray) -> TrainingSet:
        """Return the training set with other noises of the model."""
        return replace(self, noises=noises)

    @cached_property
    def counts(self) -> np.ndarray:
        """Number of observations of energy, forces and virial, (3,)."""
        kinds = np.concatenate([observed.kind for observed in self.observations])
        return np.bincount(kinds, minlength=3)

    def describe_noises(self) -> str:
        """Name the noises of the labels that there are."""
        texts = (
            "energies {:.3g} eV per atom",
            "forces {:.3g} eV/Å",
            "virials {:.3g} eV per atom",
        )
        each = zip(texts, self.noises, self.counts, strict=True)
        return ", ".join(text.format(noise) for text, noise, count in each if count)

    def noise(self, s: int) -> np.ndarray:
        """Return the standard deviations of the observations of frame s."""
        observed = self.observations[s]
        default = self.noises[observed.kind] * observed.scale
        return np.where(observed.is_default, default, observed.noise)

    def whitened(
        self, terms: Sequence[SparseTerm], s: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return Λ^−½ K_nm, Λ^−½ y and the noises of the observations of frame s."""
        observed, noise = self.observations[s], self.noise(s)
        has_virial = observed.has(VIRIAL)
        has_forces = has_virial or observed.has(FORCES)
        batch, neighbours = self.neighbours.of(s, largest_cutoff(terms))
        rows = sparse_rows(terms, batch, neighbours, has_forces, has_virial).of(0)
        if len(observed.rows) < len(rows):
            rows = rows[observed.rows]
        rows /= noise[:, None]
        return rows, observed.y / noise, noise

    def prior_variances(self, terms: Sequence[SparseTerm], s: int) -> np.ndarray:
        """Return the prior variances of the observations of frame s."""
        observed = self.observations[s]
        structure = self.neighbours.of(s, largest_cutoff(terms))
        wanted = observed.has(FORCES), observed.has(VIRIAL)
        return prior_variances(terms, *structure, *wanted)[observed.rows]

    def random_environments(
        self, descriptor: LocalDescriptor, rng: np.random.Generator, n_env: int
    ) -> Iterator[tuple[int, Environments]]:
        """Return frames in random order with their environments, until there are n_env.

        There are more by the rest of the last frame, and all where there are no more.
        """
        n_seen = 0
        for s in rng.permutation(len(self.frames)):
            batch, neighbours = self.neighbours.of(s, descriptor.cutoff)
            environments = descriptor(batch.numbers, neighbours)
            yield s, environments
            n_seen += len(environments.x)
            if n_seen >= n_env:
                return

    def sample(
        self, rng: np.random.Generator, n_labels: int, n_frames: int | None = None
    ) -> np.ndarray:
        """Return some frames that have labels, about `n_labels` of them together.

        There are at most `n_frames`, and at least five if so many have labels.
        """
        sizes = np.array([len(observed.y) for observed in self.observations])
        order = rng.permutation(len(sizes))
        order = order[sizes[order] > 0][:n_frames]
        n = int(np.searchsorted(np.cumsum(sizes[order]), n_labels))
        return order[: max(MIN_SAMPLED_FRAMES, n)]


class NeighbourCache:
    """Frames as batches with their neighbours.

    Those within the longest cutoff that was asked for are kept for the next time, while
    they take no more than `max_bytes`.
    """

    def __init__(self, frames: Sequence[Atoms], max_bytes: float):
        self.frames, self.max_bytes = frames, max_bytes
        self._lock, self._cutoff = Lock(), 0.0
        self._kept, self._free_bytes = {}, max_bytes

    def of(self, s: int, cutoff: float) -> tuple[Batch, Neighbours]:
        """Return frame s and its neighbours within a cutoff in Å."""
        with self._lock:
            if cutoff > self._cutoff:
                self._cutoff = cutoff
                self._kept, self._free_bytes = {}, self.max_bytes
            if cutoff == self._cutoff and s in self._kept:
                return self._kept[s]
        batch = Batch.from_frames([self.frames[s]])
        neighbours = find_neighbours(batch, cutoff, int(s))
        size = sum(getattr(neighbours, f.name).nbytes for f in fields(neighbours))
        with self._lock:
            if cutoff == self._cutoff and size <= self._free_bytes:
                self._kept[s] = batch, neighbours
                self._free_bytes -= size
        return batch, neighbours

    def of_all(self, chosen: Sequence[int], cutoff: float) -> tuple[Batch, Neighbours]:
        """Return some frames as one batch, with their neighbours."""
        batch = Batch.from_frames([self.frames[s] for s in chosen])
        return batch, Neighbours.join([self.of(s, cutoff)[1] for s in chosen])


def _type_noises(frame, s, config_noises):
    """Return the noises of a frame's config_type, (3,), NaN where it has none."""
    name = frame.info.get("config_type")
    if config_noises is None or (name is None and "default" not in config_noises):
        return np.full(3, np.nan)
    if name not in config_noises and "default" not in config_noises:
        raise InputError(
            f"Frame {s} has the config_type {name!r}, for which config_noises has no "
            "noises: add it, or an entry 'default'."
        )
    given = config_noises.get(name, config_noises.get("default"))
    try:
        noises = np.array([float(value) for value in given])
    except (TypeError, ValueError):
        noises = np.zeros(0)
    if len(noises) != 3 or not ((noises > 0.0) & (noises < np.inf)).all():
        raise InputError(
            f"config_noises[{name!r}] must be three positive numbers, the noises of "
            f"energy, forces and virial, found {given!r}."
        )
    return noises
