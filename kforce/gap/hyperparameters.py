"""Amplitudes, length scales and noises of a sparse model, by variational free energy.

A random part of the frames and of the inducing environments decides: few numbers are
learned, and each evaluation costs rows × inducing².

Noises that are learned keep their ratios. What a sparse model cannot represent is not
white, and evidence gives the few energies up for the many forces.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from ase import Atoms
from scipy.optimize import minimize

from kforce.gap.covariance import derivative_covariance, energy_variance, sparse_rows
from kforce.gap.evidence import free_energy
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.gap.training_set import observed
from kforce.kernels.base import Kernel, Scaled
from kforce.labels import LocalLabels, Noises
from kforce.neighbours.search import find_neighbours
from kforce.parallel import single_threaded_blas
from kforce.structures import Batch

_log = logging.getLogger("kforce.gap")


#: Width of the prior around the start, and bounds, of the logarithms.
_WIDTH, _RANGE = 3.0, 9.0


_STEPS = 40


#: Inducing environments up to which BLAS has one thread.
_SMALL = 500


def learn(
    terms: Sequence[SparseTerm],
    frames: Sequence[Atoms],
    labels: LocalLabels,
    noises: Noises,
    freedom: Freedom,
    rng: np.random.Generator,
) -> tuple[list[SparseTerm], Noises]:
    """Return terms and noises of largest free energy.

    Parameters
    ----------
    terms : sequence of SparseTerm
        Without weights, and with the inducing environments they will have.
    frames : sequence of ase.Atoms
        Training set.
    labels : LocalLabels
        Its labels, with the noises that are not learned.
    noises : Noises
        Those of the labels whose noise is the model's.
    freedom : Freedom
        What may be learned.
    rng : numpy.random.Generator
        Chooses the part that decides.
    """
    problem = FreeEnergyProblem(terms, frames, labels, noises, freedom, rng)
    start = problem.start()
    if len(start) == 0:
        return list(terms), noises

    def objective(theta):
        value, gradient = problem.evaluate(theta)
        away = (theta - start) / _WIDTH
        return -value + 0.5 * away @ away, -gradient + away / _WIDTH

    # The threads of BLAS gain little on small matrices, and wait for one another very
    # long where other programs run.
    with single_threaded_blas if problem.n_inducing < _SMALL else nullcontext():
        found = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(x - _RANGE, x + _RANGE) for x in start],
            options={"maxiter": _STEPS},
        )
    learned, noises = problem.result(found.x, terms)
    pairs = zip(learned, freedom.amplitudes, strict=True)
    amplitudes = [f"{term.kernel.amplitude:.3g}" for term, free in pairs if free]
    if amplitudes:
        _log.info("learned amplitudes: %s eV", ", ".join(amplitudes))
    return learned, noises


#: Rows, and inducing environments of terms of few and of many features, at most.
_ROWS, _FEW_INDUCING, _INDUCING = 2000, 50, 400


#: Frames on which the trace is probed, and environments that a term may have there: the
#: few features of two- and three-body terms leave nothing to inducing environments.
_PROBED, _MOST_ENVIRONMENTS = 6, 200


#: Jitter as a share of the variance.
_JITTER = 1e-8


#: Noises start at this share of the spread of labels.
_START = 0.1


#: Kind of the rows whose noise is the frame's own: the last place of any list.
_OWN = -1


@dataclass(frozen=True)
class Freedom:
    """What may be learned.

    Attributes
    ----------
    amplitudes, length_scales : list of bool
        Of each term.
    noises : tuple of bool
        Of energies, forces and virials.
    """

    amplitudes: list[bool]
    length_scales: list[bool]
    noises: tuple[bool, bool, bool]


class _Probe(NamedTuple):
    """A combination of labels of a frame whose prior variance stands for many.

    The energy (order 0), or forces along a motion (order 1), in units of the noise: the
    kind of noise that is learned for it, or `_OWN`.
    """

    frame: int
    noise: int
    motion: float | np.ndarray
    order: int


class LengthDerivative(Kernel):
    """∂k/∂log ℓ of a radial kernel whose features are divided by ℓ: −2 u φ'(u).

    Its own derivatives are those of ∂k and ∂∂k, so that rows and variances of it are
    the derivatives of theirs.
    """

    def __init__(self, kernel):
        self.kernel = kernel

    def profile(self, u, orders=(0, 1, 2)):  # noqa: D102
        needed = tuple(range(max(orders) + 2))
        phi = self.kernel.profile(u, orders=needed)
        return tuple(-2.0 * u * phi[p + 1] - 2.0 * p * phi[p] for p in orders)


class FreeEnergyProblem:
    """The free energy as a function of the logarithms of what is learned.

    Their order: amplitudes, length scales, noises.
    """

    def __init__(self, terms, frames, labels, noises, freedom, rng):
        self._noises = np.array([noises.energy, noises.forces, noises.virial])
        self._free_noises = np.array(freedom.noises)
        self._free_amplitudes = np.flatnonzero(freedom.amplitudes)
        self._free_lengths = np.flatnonzero(freedom.length_scales)
        self._terms = [_thinned(term, rng) for term in terms]
        self._chosen = labels.sample(rng, _ROWS)
        self._frames, self._labels = frames, labels
        self._collect_rows()
        self._choose_probes(rng)
        self._fixed = [self._matrices(t, term) for t, term in enumerate(self._terms)]

    @property
    def n_inducing(self) -> int:
        """Inducing environments of all terms together."""
        return sum(term.n_inducing for term in self._terms)

    def _collect_rows(self):
        """Targets, kinds and places of the labels of the chosen frames.

        What is learned of the noises multiplies those that the labels have.
        """
        frames = [self._frames[s] for s in self._chosen]
        cutoff = largest_cutoff(self._terms)
        self._batch = Batch.from_frames(frames)
        self._neighbours = find_neighbours(self._batch, cutoff)
        n_frames, n_forces = len(frames), 3 * len(self._batch.numbers)
        y, noises, kinds, places, self._first = [], [], [], [], [0]
        for i, s in enumerate(self._chosen):
            values, noise, kind, known = observed(self._labels, s)
            # The frame's own noise stays.
            kinds.append(np.where(self._labels.is_default[s][kind], kind, _OWN))
            y.append(values / noise)
            noises.append(noise)
            # Where the rows stand among all energies, all forces and all virials.
            of_forces = n_frames + 3 * self._batch.offsets[i]
            of_virial = n_frames + n_forces + 6 * i
            place = [np.array([i])]
            if np.isfinite(self._labels.forces[s]).any():
                place.append(of_forces + np.arange(self._labels.forces[s].size))
            if np.isfinite(self._labels.virial[s]).any():
                place.append(of_virial + np.arange(6))
            places.append(np.concatenate(place)[known])
            self._first.append(self._first[-1] + len(values))
        self._y, self._kinds = np.concatenate(y), np.concatenate(kinds)
        self._end_of_forces = n_frames + n_forces
        self._row_noise, self._places = np.concatenate(noises), np.concatenate(places)

    def _choose_probes(self, rng):
        """Choose frames and motions for the trace of energies and forces."""
        sizes = np.array([len(self._frames[s]) for s in self._chosen])
        candidates = np.flatnonzero(sizes > 1)
        order = candidates[np.argsort(sizes[candidates], kind="stable")]
        probed = order[: len(order) // 2 + 1][:_PROBED]
        columns, self._probes, self._probed = [], [], {}
        n_energies, n_forces = 0, 0
        for p in probed:
            s = self._chosen[p]
            first = self._first[p]
            if np.isfinite(self._labels.energy[s]):
                columns.append(np.zeros(len(self._y)))
                columns[-1][first] = 1.0
                motion = 1.0 / self._labels.noise_energy[s]
                self._probes.append(_Probe(s, self._kinds[first], motion, 0))
                n_energies += 1
            if np.isfinite(self._labels.forces[s]).all():
                first += int(np.isfinite(self._labels.energy[s]))
                signs = rng.choice([-1.0, 1.0], 3 * len(self._frames[s]))
                columns.append(np.zeros(len(self._y)))
                columns[-1][first : first + len(signs)] = signs
                motion = signs.reshape(-1, 3) / self._labels.noise_forces[s][:, None]
                self._probes.append(_Probe(s, self._kinds[first], motion, 1))
                n_forces += len(signs)
        share = np.array(columns).T if columns else np.zeros((len(self._y), 0))
        # Those that are probed stand for all energies and forces.
        known = [
            sum(np.isfinite(values[s]).sum() for s in self._chosen)
            for values in (self._labels.energy, self._labels.forces)
        ]
        weight = np.sqrt(known / np.maximum([n_energies, n_forces], 1))
        self._weights = np.array([weight[probe.order] for probe in self._probes])
        self._share = share * self._weights if columns else share
        self._counted = [self._is_counted(term) for term in self._terms]

    def _is_counted(self, term):
        found = (self._environments(term, s) for s in {p.frame for p in self._probes})
        return max((len(part.x) for part in found), default=0) <= _MOST_ENVIRONMENTS

    def _environments(self, term, s):
        """Return the environments of a frame, counted within it."""
        if s not in self._probed:
            batch = Batch.from_frames([self._frames[s]])
            cutoff = largest_cutoff(self._terms)
            self._probed[s] = batch.numbers, find_neighbours(batch, cutoff)
        return term.descriptor(*self._probed[s])

    def _matrices(self, t, term):
        """Return K_mm, rows and prior variances of the probes, of the t-th term."""
        has_virials = bool((self._places >= self._end_of_forces).any())
        has_slopes = bool((self._places >= len(self._chosen)).any())
        found = sparse_rows(
            [term], self._batch, self._neighbours, has_slopes, has_virials
        )
        rows = [found.energies]
        if has_slopes:
            rows.append(found.forces.reshape(-1, term.n_inducing))
        if has_virials:
            rows.append(found.virials.reshape(-1, term.n_inducing))
        rows = np.concatenate(rows)[self._places] / self._row_noise[:, None]
        variances = np.array(
            [
                self._probe_variance(term, probe) if self._counted[t] else 0.0
                for probe in self._probes
            ]
        )
        return term.covariance(), rows, variances

    def _probe_variance(self, term, probe):
        environments, motion = self._environments(term, probe.frame), probe.motion
        f_cut = environments.f_cut * environments.multiplicity
        if len(f_cut) == 0:
            return 0.0
        if probe.order == 0:
            return motion**2 * energy_variance(term, environments.x, f_cut)
        tangents, df_cut = environments.push(motion)
        return derivative_covariance(
            term,
            environments.x,
            f_cut,
            tangents[None],
            environments.multiplicity * df_cut[None],
        )[0, 0]

    def start(self):
        """Amplitudes of which each explains its share, and noises of a tenth of y."""
        # Forces say most about amplitudes: energies have an arbitrary mean.
        used = self._kinds == 1
        if not used.any():
            used[:] = True
        target = np.sum(self._y[used] ** 2) / len(self._terms)
        logs = []
        for t in self._free_amplitudes:
            K, rows, _ = self._fixed[t]
            rows = rows[used]
            K = K + _JITTER * np.trace(K) / len(K) * np.eye(len(K))
            explained = np.einsum("nm,mn->", rows, np.linalg.solve(K, rows.T))
            # A term that no label depends on keeps the amplitude of 1 eV.
            ratio = target / explained if explained > 0.0 else 1.0
            logs.append(0.5 * np.log(max(ratio, 1e-30)))
        noise = []
        if self._free_noises.any():
            # A single label has no spread.
            spread = np.std(self._y[used]) or 1.0
            noise.append(np.log(_START * spread))
        return np.concatenate([logs, np.zeros(len(self._free_lengths)), noise])

    def _split(self, theta):
        """Return the changes of amplitudes, lengths and noises, of all of them."""
        n_a, n_l = len(self._free_amplitudes), len(self._free_lengths)
        amplitudes, lengths = np.zeros((2, len(self._terms)))
        amplitudes[self._free_amplitudes] = theta[:n_a]
        lengths[self._free_lengths] = theta[n_a : n_a + n_l]
        noises = np.where(self._free_noises, theta[-1], 0.0)
        return amplitudes, lengths, noises

    def evaluate(self, theta):
        """Return the free energy and its gradient."""
        amplitudes, lengths, noises = self._split(theta)
        parts, slopes = [], {}
        for t, term in enumerate(self._terms):
            if t in self._free_lengths:
                stretched = _stretched(term, lengths[t])
                derivative = LengthDerivative(term.kernel)
                parts.append(self._matrices(t, stretched))
                slopes[t] = self._matrices(
                    t, replace(stretched, kernel=derivative, constant=0.0)
                )
            else:
                parts.append(self._fixed[t])
        # The last place is for rows with a noise of their own.
        sigma = np.exp(np.append(noises, 0.0))[self._kinds]
        scale = np.exp(2.0 * amplitudes)
        K, rows, bounds = self._joined(parts, scale)
        counted = np.repeat(self._counted, np.diff(bounds))
        rows /= sigma[:, None]
        y = self._y / sigma
        share = self._share
        try:
            found = free_energy(K, rows, y, share, counted)
        except np.linalg.LinAlgError:
            return -1e12, np.zeros_like(theta)
        kinds = np.array([probe.noise for probe in self._probes], dtype=int)
        probe_noise = np.exp(np.append(noises, 0.0))[kinds]
        shares = (self._weights / probe_noise) ** 2
        prior = np.array([c * v for c, (*_, v) in zip(scale, parts, strict=True)])
        value = found.value - np.log(sigma).sum() - 0.5 * (prior @ shares).sum()
        by_row = np.einsum("nm,nm->n", found.by_rows, rows) + found.by_targets * y
        by_amplitude, by_length = np.zeros((2, len(self._terms)))
        for t, (a, b) in enumerate(pairwise(bounds)):
            by_prior, by_rows = found.by_prior[a:b, a:b], found.by_rows[:, a:b]
            by_amplitude[t] = 2.0 * (
                np.sum(by_prior * K[a:b, a:b]) + np.sum(by_rows * rows[:, a:b])
            )
            by_amplitude[t] -= prior[t] @ shares
            if t in slopes:
                dK, drows, dv = slopes[t]
                by_length[t] = scale[t] * (
                    np.sum(by_prior * dK)
                    + np.sum(by_rows * drows / sigma[:, None])
                    - 0.5 * dv @ shares
                )
        by_noise = np.array(
            [
                -np.sum(by_row[self._kinds == k])
                - np.sum(self._kinds == k)
                + (prior @ (shares * (kinds == k))).sum()
                for k in range(3)
            ]
        )
        gradient = np.concatenate(
            [
                by_amplitude[self._free_amplitudes],
                by_length[self._free_lengths],
                [by_noise[self._free_noises].sum()] if self._free_noises.any() else [],
            ]
        )
        return value, gradient

    def _joined(self, parts, scale):
        bounds = np.cumsum([0] + [len(K) for K, *_ in parts])
        K_mm = np.zeros((bounds[-1], bounds[-1]))
        rows = np.empty((len(self._y), bounds[-1]))
        for t, (K, part, _) in enumerate(parts):
            own = slice(bounds[t], bounds[t + 1])
            K_mm[own, own] = scale[t] * (
                K + _JITTER * np.trace(K) / len(K) * np.eye(len(K))
            )
            rows[:, own] = scale[t] * part
        return K_mm, rows, bounds

    def result(self, theta, terms):
        """Return terms with all inducing environments, and noises."""
        amplitudes, lengths, noises = self._split(theta)
        learned = []
        for term, a, length in zip(terms, amplitudes, lengths, strict=True):
            kernel = Scaled(
                term.kernel.kernel, float(term.kernel.amplitude * np.exp(a))
            )
            constant = term.constant * float(np.exp(a))
            learned.append(
                replace(_stretched(term, length), kernel=kernel, constant=constant)
            )
        return learned, Noises(*(self._noises * np.exp(noises)).tolist())


def _stretched(term, log_factor):
    return replace(term, length_scales=term.length_scales * np.exp(log_factor))


def _thinned(term, rng):
    """Return the term with a random part of its inducing environments."""
    most = _FEW_INDUCING if term.inducing_points.shape[1] <= 3 else _INDUCING
    if term.n_inducing <= most:
        return term
    chosen = rng.choice(term.n_inducing, most, replace=False)
    return replace(
        term, inducing_points=term.inducing_points[chosen], f_cut=term.f_cut[chosen]
    )
