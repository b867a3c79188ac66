"""Probes of the trace of prior covariances: a few energies, and random motions.

The trace ½ tr(K̃_nn − Q̃) of the free energy would need the prior variance of every
label. Those of some energies, and of forces along random signs (Hutchinson), stand for
all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from kforce.gap.covariance import (
    ENERGY,
    FORCES,
    derivative_covariance,
    energy_variance,
)
from kforce.gap.sparse_term import SparseTerm
from kforce.gap.training_set import TrainingSet


class Probe(NamedTuple):
    """A combination of labels of a frame, in units of their noise.

    `kind` is ENERGY, with a number as `motion`, or FORCES, along a motion (n_atoms, 3).
    `noise` is the kind of noise that is learned for it, or -1.
    """

    frame: int
    kind: int
    noise: int
    motion: float | np.ndarray


class Probes:
    """The probes of the `chosen` frames, whose rows start at `first_rows`.

    `columns` (n_rows, n_probes) are the combinations, times `weights` (n_probes,) with
    which those that are probed stand for all energies and force components. `kinds` are
    the kinds of noise of all rows, -1 for those that are not learned.
    """

    def __init__(
        self,
        training: TrainingSet,
        chosen: np.ndarray,
        first_rows: np.ndarray,
        kinds: np.ndarray,
        rng: np.random.Generator,
        n_frames: int = 6,
    ):
        self._training = training
        self.probes, columns, n_probed = [], [], np.zeros(2)
        for p in _small_frames(training, chosen, n_frames):
            s = chosen[p]
            observed, noise = training.observations[s], training.noise(s)
            n_atoms = len(training.frames[s])
            for kind, n_all in ((ENERGY, 1), (FORCES, 3 * n_atoms)):
                rows = observed.of(kind)
                if len(rows) < n_all:
                    continue
                signs = np.ones(1) if kind == ENERGY else rng.choice([-1.0, 1.0], n_all)
                motion = signs / noise[rows]
                motion = motion[0] if kind == ENERGY else motion.reshape(-1, 3)
                rows = first_rows[p] + rows
                columns.append(np.zeros(len(kinds)))
                columns[-1][rows] = signs
                self.probes.append(Probe(s, kind, int(kinds[rows[0]]), motion))
                n_probed[kind] += n_all
        counts = sum(
            np.bincount(training.observations[s].kind, minlength=3) for s in chosen
        )
        weight = np.sqrt(counts[:2] / np.maximum(n_probed, 1))
        self.weights = np.array([weight[probe.kind] for probe in self.probes])
        self.noise_kinds = np.array([probe.noise for probe in self.probes], dtype=int)
        self.columns = np.zeros((len(kinds), 0))
        if columns:
            self.columns = np.array(columns).T * self.weights

    def n_environments(self, term: SparseTerm, cutoff: float) -> int:
        """Return how many environments of a term a probed frame has, at most.

        The cutoff is that of the neighbours to look among, in Å.
        """
        frames = {probe.frame for probe in self.probes}
        sizes = [len(self._environments(term, s, cutoff).x) for s in frames]
        return max(sizes, default=0)

    def prior_variances(self, term: SparseTerm, cutoff: float) -> np.ndarray:
        """Return the prior variance of each probe by one term, (n_probes,)."""
        return np.array([self._variance(term, probe, cutoff) for probe in self.probes])

    def _environments(self, term, s, cutoff):
        batch, neighbours = self._training.neighbours.of(s, cutoff)
        return term.descriptor(batch.numbers, neighbours)

    def _variance(self, term, probe, cutoff):
        environments = self._environments(term, probe.frame, cutoff)
        f_cut = environments.f_cut * environments.multiplicity
        if len(f_cut) == 0:
            return 0.0
        if probe.kind == ENERGY:
            return probe.motion**2 * energy_variance(term, environments.x, f_cut)
        tangents, df_cut = environments.push(probe.motion)
        return derivative_covariance(
            term,
            environments.x,
            f_cut,
            tangents[None],
            environments.multiplicity * df_cut[None],
        )[0, 0]


def _small_frames(training, chosen, n_frames) -> Sequence[int]:
    """Return the places of some of the smaller half of frames, but single atoms."""
    sizes = np.array([len(training.frames[s]) for s in chosen])
    candidates = np.flatnonzero(sizes > 1)
    order = candidates[np.argsort(sizes[candidates], kind="stable")]
    return order[: len(order) // 2 + 1][:n_frames]
