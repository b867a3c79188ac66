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

import numpy as np
from scipy.optimize import minimize

from kforce.gap.covariance import FORCES, VIRIAL, blocks_of, sparse_rows
from kforce.gap.evidence import Probes, free_energy
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.gap.term import Term
from kforce.gap.training_set import TrainingSet
from kforce.kernels.base import Kernel, Scaled
from kforce.parallel import single_threaded_blas

_log = logging.getLogger("kforce.gap")

#: Standard deviation of the prior around the start, and bounds, of the logarithms.
PRIOR_WIDTH, MAX_CHANGE = 3.0, 9.0

MAX_ITERATIONS = 40

#: Inducing environments up to which BLAS has one thread.
MAX_SINGLE_THREADED = 500

#: Jitter as a share of the variance.
RELATIVE_JITTER = 1e-8

#: Noises start at this share of the spread of labels.
FIRST_NOISE = 0.1

#: Features of terms of which few inducing environments say enough.
FEW_FEATURES = 3

#: Kind of the rows whose noise is not learned: the last place of any list.
NOT_LEARNED = -1


@dataclass(frozen=True)
class FreeParameters:
    """What may be learned: of each term, and noises of energies, forces, virials."""

    amplitudes: list[bool]
    length_scales: list[bool]
    noises: tuple[bool, bool, bool]

    @classmethod
    def of(
        cls,
        terms: Sequence[SparseTerm],
        origins: Sequence[Term],
        noises: Sequence[float | None],
    ) -> FreeParameters:
        """Return what is not given of terms, by their `origins`, and of noises."""
        amplitudes = [
            term.kernel is None or not term.kernel.is_scaled for term in origins
        ]
        length_scales = [
            not built.kernel.is_product
            and term.length_scales is None
            and (term.kernel is None or term.kernel.needs_length_scale)
            for built, term in zip(terms, origins, strict=True)
        ]
        return cls(amplitudes, length_scales, tuple(noise is None for noise in noises))


def maximise_free_energy(
    terms: Sequence[SparseTerm],
    training: TrainingSet,
    free: FreeParameters,
    rng: np.random.Generator,
) -> tuple[list[SparseTerm], np.ndarray]:
    """Return terms and noises (3,) of largest free energy.

    The terms have no weights, but the inducing environments that they will have.
    """
    problem = FreeEnergyProblem(terms, training, free, rng)
    start = problem.start()
    if len(start) == 0:
        return list(terms), training.noises

    def objective(theta):
        value, gradient = problem.evaluate(theta)
        away = (theta - start) / PRIOR_WIDTH
        return -value + 0.5 * away @ away, -gradient + away / PRIOR_WIDTH

    # The threads of BLAS gain little on small matrices, and wait for one another very
    # long where other programs run.
    is_small = problem.n_inducing < MAX_SINGLE_THREADED
    with single_threaded_blas if is_small else nullcontext():
        optimum = minimize(
            objective,
            start,
            jac=True,
            method="L-BFGS-B",
            bounds=[(x - MAX_CHANGE, x + MAX_CHANGE) for x in start],
            options={"maxiter": MAX_ITERATIONS},
        )
    learned, noises = problem.result(optimum.x, terms)
    pairs = zip(learned, free.amplitudes, strict=True)
    amplitudes = [f"{term.kernel.amplitude:.3g}" for term, is_free in pairs if is_free]
    if amplitudes:
        _log.info("learned amplitudes: %s eV", ", ".join(amplitudes))
    return learned, noises


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


@dataclass(frozen=True)
class _Matrices:
    """K_mm, whitened rows and prior variances of the probes of one term."""

    K_mm: np.ndarray
    rows: np.ndarray
    variances: np.ndarray

    def jittered(self):
        """Return K_mm with a jitter."""
        n = len(self.K_mm)
        return self.K_mm + RELATIVE_JITTER * np.trace(self.K_mm) / n * np.eye(n)


class FreeEnergyProblem:
    """The free energy as a function of the logarithms of what is learned.

    Their order: amplitudes, length scales, the factor of the noises. About `n_rows`
    rows count, and `n_inducing` inducing environments of each term, or `n_inducing_few`
    of terms of few features. The trace is left out for terms of more than
    `max_environments` in a probed frame: the few features of two- and three-body terms
    leave nothing to inducing environments.
    """

    def __init__(
        self,
        terms: Sequence[SparseTerm],
        training: TrainingSet,
        free: FreeParameters,
        rng: np.random.Generator,
        *,
        n_rows: int = 2000,
        n_inducing: int = 400,
        n_inducing_few: int = 50,
        max_environments: int = 200,
    ):
        self.training = training
        self.free_noises = np.array(free.noises)
        self.free_amplitudes = np.flatnonzero(free.amplitudes)
        self.free_lengths = np.flatnonzero(free.length_scales)
        self.terms = [_thinned(term, n_inducing, n_inducing_few, rng) for term in terms]
        self._cutoff = largest_cutoff(self.terms)
        self.chosen = training.sample(rng, n_rows)
        self._collect_rows()
        self.probes = Probes(
            training, self._cutoff, self.chosen, self._first_rows, self._kinds, rng
        )
        self.is_probed = [
            self.probes.n_environments(term) <= max_environments for term in self.terms
        ]
        self._blocks = blocks_of(self.terms)
        self._fixed = [self._matrices(t, term) for t, term in enumerate(self.terms)]

    @property
    def n_inducing(self) -> int:
        """Inducing environments of all terms together."""
        return sum(term.n_inducing for term in self.terms)

    def _collect_rows(self):
        """Collect targets, noises and their kinds of the chosen frames.

        What is learned of the noises multiplies those of the training set.
        """
        training, chosen = self.training, self.chosen
        observations = [training.observations[s] for s in chosen]
        self._structures = training.neighbours.of_all(chosen, self._cutoff)
        self._first_rows = np.cumsum([0] + [len(seen.y) for seen in observations])
        self._noise = np.concatenate([training.noise(s) for s in chosen])
        self._y = np.concatenate([seen.y for seen in observations]) / self._noise
        kinds = np.concatenate([seen.kind for seen in observations])
        is_default = np.concatenate([seen.is_default for seen in observations])
        self._kinds = np.where(is_default, kinds, NOT_LEARNED)
        self._has_forces, self._has_virials = kinds.max() >= FORCES, VIRIAL in kinds

    def _matrices(self, t, term):
        """Return the matrices of the t-th term."""
        rows = sparse_rows(
            [term], *self._structures, self._has_forces, self._has_virials
        )
        observations = self.training.observations
        rows = np.concatenate(
            [rows.of(i)[observations[s].rows] for i, s in enumerate(self.chosen)]
        )
        variances = np.zeros_like(self.probes.weights)
        if self.is_probed[t]:
            variances = self.probes.prior_variances(term)
        return _Matrices(term.covariance(), rows / self._noise[:, None], variances)

    def start(self) -> np.ndarray:
        """Return amplitudes that explain as much each, and noises of a tenth of y."""
        # Forces say most about amplitudes: energies have an arbitrary mean.
        used = self._kinds == FORCES
        used |= not used.any()
        target = np.sum(self._y[used] ** 2) / len(self.terms)
        logs = []
        for t in self.free_amplitudes:
            rows = self._fixed[t].rows[used]
            solved = np.linalg.solve(self._fixed[t].jittered(), rows.T)
            explained = np.einsum("nm,mn->", rows, solved)
            # A term that no label depends on keeps the amplitude of 1 eV.
            ratio = target / explained if explained > 0.0 else 1.0
            logs.append(0.5 * np.log(max(ratio, 1e-30)))
        logs.extend(np.zeros(len(self.free_lengths)))
        if self.free_noises.any():
            # A single label has no spread.
            logs.append(np.log(FIRST_NOISE * (np.std(self._y[used]) or 1.0)))
        return np.array(logs)

    def _split(self, theta):
        """Return the changes of all amplitudes, length scales and noises."""
        n_a, n_l = len(self.free_amplitudes), len(self.free_lengths)
        amplitudes, lengths = np.zeros((2, len(self.terms)))
        amplitudes[self.free_amplitudes] = theta[:n_a]
        lengths[self.free_lengths] = theta[n_a : n_a + n_l]
        noises = np.where(self.free_noises, theta[-1], 0.0)
        return amplitudes, lengths, noises

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the free energy and its gradient."""
        amplitudes, lengths, noises = self._split(theta)
        matrices, derivatives = self._at_lengths(lengths)
        scale = np.exp(2.0 * amplitudes)
        # The last place is for rows whose noise is not learned.
        factors = np.exp(np.append(noises, 0.0))
        sigma, probe_kinds = factors[self._kinds], self.probes.noise_kinds
        K, rows = self._joined(matrices, scale)
        rows /= sigma[:, None]
        y = self._y / sigma
        is_probed = np.repeat(self.is_probed, [t.n_inducing for t in self.terms])
        try:
            bound = free_energy(K, rows, y, self.probes.columns, is_probed)
        except np.linalg.LinAlgError:
            return -1e12, np.zeros_like(theta)
        weights = (self.probes.weights / factors[probe_kinds]) ** 2
        # The trace of the prior, by terms and probes.
        trace = scale[:, None] * [m.variances for m in matrices] * weights
        value = bound.value - np.log(sigma).sum() - 0.5 * trace.sum()
        by_amplitude, by_length = np.zeros((2, len(self.terms)))
        for t, block in enumerate(self._blocks):
            by_prior, by_rows = bound.by_prior[block, block], bound.by_rows[:, block]
            by_amplitude[t] = (
                2.0 * np.sum(by_prior * K[block, block])
                + 2.0 * np.sum(by_rows * rows[:, block])
                - trace[t].sum()
            )
            if t in derivatives:
                change = derivatives[t]
                by_length[t] = scale[t] * (
                    np.sum(by_prior * change.K_mm)
                    + np.sum(by_rows * change.rows / sigma[:, None])
                    - 0.5 * change.variances @ weights
                )
        by_sigma = np.einsum("nm,nm->n", bound.by_rows, rows) + bound.by_targets * y
        by_noise = [
            trace[:, probe_kinds == k].sum() - (by_sigma[self._kinds == k] + 1.0).sum()
            for k in np.flatnonzero(self.free_noises)
        ]
        parts = [by_amplitude[self.free_amplitudes], by_length[self.free_lengths]]
        parts.append([np.sum(by_noise)] if by_noise else [])
        return value, np.concatenate(parts)

    def _at_lengths(self, lengths):
        """Return the matrices of all terms, and derivatives by free length scales."""
        matrices, derivatives = list(self._fixed), {}
        for t in self.free_lengths:
            term = _stretched(self.terms[t], lengths[t])
            matrices[t] = self._matrices(t, term)
            kernel = LengthDerivative(term.kernel)
            change = replace(term, kernel=kernel, constant=0.0)
            derivatives[t] = self._matrices(t, change)
        return matrices, derivatives

    def _joined(self, matrices, scale):
        """Return K_mm and the rows of all terms."""
        K_mm = np.zeros((self.n_inducing, self.n_inducing))
        rows = np.empty((len(self._y), self.n_inducing))
        for of_term, factor, block in zip(matrices, scale, self._blocks, strict=True):
            K_mm[block, block] = factor * of_term.jittered()
            rows[:, block] = factor * of_term.rows
        return K_mm, rows

    def result(
        self, theta: np.ndarray, terms: Sequence[SparseTerm]
    ) -> tuple[list[SparseTerm], np.ndarray]:
        """Return terms with all inducing environments, and noises (3,)."""
        amplitudes, lengths, noises = self._split(theta)
        learned = []
        for term, a, length in zip(terms, amplitudes, lengths, strict=True):
            factor = float(np.exp(a))
            kernel = Scaled(term.kernel.kernel, term.kernel.amplitude * factor)
            scaled = replace(term, kernel=kernel, constant=term.constant * factor)
            learned.append(_stretched(scaled, length))
        return learned, self.training.noises * np.exp(noises)


def _stretched(term, log_factor):
    return replace(term, length_scales=term.length_scales * np.exp(log_factor))


def _thinned(term, n_inducing, n_inducing_few, rng):
    """Return the term with a random part of its inducing environments."""
    has_few = term.inducing_points.shape[1] <= FEW_FEATURES
    most = n_inducing_few if has_few else n_inducing
    if term.n_inducing <= most:
        return term
    chosen = rng.choice(term.n_inducing, most, replace=False)
    return replace(
        term, inducing_points=term.inducing_points[chosen], f_cut=term.f_cut[chosen]
    )
