"""Amplitudes, length scales and noises of a sparse model, by variational free energy.

A random part of the frames and of the inducing environments decides: few numbers are
learned. Products of whitened rows are all that an evaluation needs, so that it costs
inducing³, and rows × inducing for each inducing environment of a term whose length
scale is learned.

Noises that are learned keep their ratios. What a sparse model cannot represent is not
white, and evidence gives the few energies up for the many forces.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.optimize import minimize

from kforce.gap.covariance import FORCES, VIRIAL, blocks_of, sparse_rows
from kforce.gap.evidence import Probes, free_energy
from kforce.gap.linear_rows import LinearRows
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
MAX_SINGLE_THREADED = 1000

#: Jitter as a share of the variance.
RELATIVE_JITTER = 1e-8

#: Noises start at this share of the spread of labels.
FIRST_NOISE = 0.1

#: Features of terms of which few inducing environments say enough.
FEW_FEATURES = 3


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
    start = problem.start
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
    """K_mm, rows over the given noises and prior variances of the probes of a term."""

    K_mm: np.ndarray
    rows: np.ndarray
    variances: np.ndarray

    @cached_property
    def root(self):
        """L with L Lᵀ = K_mm, of which the diagonal has a jitter."""
        K, n = self.K_mm.copy(), len(self.K_mm)
        np.einsum("mm->m", K)[:] += RELATIVE_JITTER * np.trace(K) / n
        return cholesky(K, lower=True, overwrite_a=True, check_finite=False)

    @cached_property
    def whitened(self):
        """V = Ψ L⁻ᵀ, (n_rows, m)."""
        return _divided(self.rows, self.root)

    def whitened_change(self, change):
        """Return dV with d(V Vᵀ) = V dVᵀ + dV Vᵀ where K_mm and Ψ change.

        Any root of K_mm would do: that of least change makes it dΨ L⁻ᵀ − ½ V Φ, with
        Φ = L⁻¹ dK_mm L⁻ᵀ.
        """
        inner = _divided(_divided(change.K_mm, self.root).T, self.root)
        return _divided(change.rows, self.root) - 0.5 * self.whitened @ inner


class FreeEnergyProblem:
    """The free energy as a function of the logarithms of what is learned.

    Their order: amplitudes, length scales, the factor of the noises; `start` is a first
    guess. About `n_rows` rows count, and `n_inducing` inducing environments of each
    term, or `n_inducing_few` of terms of few features. The trace is left out for terms
    of more than `max_environments` in a probed frame: the few features of two- and
    three-body terms leave nothing to inducing environments.
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
            training, self._cutoff, self.chosen, self._first_rows, self._is_learned, rng
        )
        self.is_probed = [
            self.probes.n_environments(term) <= max_environments for term in self.terms
        ]
        self._blocks = blocks_of(self.terms)
        self._linear = {
            t: self._linear_rows(self.terms[t])
            for t in self.free_lengths
            if self.terms[t].inducing_points.shape[1] <= FEW_FEATURES
        }
        matrices = [self._matrices(t, term) for t, term in enumerate(self.terms)]
        whitened = [of_term.whitened for of_term in matrices]
        self.start = self._first_guess(whitened)
        self._variances = np.array([of_term.variances for of_term in matrices])
        self._multiply(whitened)

    @property
    def n_inducing(self) -> int:
        """Inducing environments of all terms together."""
        return sum(term.n_inducing for term in self.terms)

    def _collect_rows(self):
        """Collect targets and noises of the chosen frames.

        What is learned of the noises multiplies those of the training set.
        """
        training, chosen = self.training, self.chosen
        observations = [training.observations[s] for s in chosen]
        self._structures = training.neighbours.of_all(chosen, self._cutoff)
        self._first_rows = np.cumsum([0] + [len(seen.y) for seen in observations])
        self._noise = np.concatenate([training.noise(s) for s in chosen])
        self._y = np.concatenate([seen.y for seen in observations]) / self._noise
        self._kinds = np.concatenate([seen.kind for seen in observations])
        is_default = np.concatenate([seen.is_default for seen in observations])
        self._is_learned = is_default & self.free_noises[self._kinds]

    def _matrices(self, t, term):
        """Return the matrices of the t-th term."""
        variances = np.zeros_like(self.probes.weights)
        if self.is_probed[t]:
            variances = self.probes.prior_variances(term)
        return _Matrices(term.covariance(), self._rows(t, term), variances)

    def _rows(self, t, term):
        """Return the rows of the t-th term over the given noises."""
        if t in self._linear:
            return np.concatenate([of_frame.of(term) for of_frame in self._linear[t]])
        has_forces, has_virials = self._kinds.max() >= FORCES, VIRIAL in self._kinds
        rows = sparse_rows([term], *self._structures, has_forces, has_virials)
        observations = self.training.observations
        rows = [rows.of(i)[observations[s].rows] for i, s in enumerate(self.chosen)]
        return np.concatenate(rows) / self._noise[:, None]

    def _linear_rows(self, term):
        """Return the maps to the rows of a term, by frames."""
        return [
            LinearRows(
                term,
                *self.training.neighbours.of(s, self._cutoff),
                self.training.observations[s].rows,
                self.training.noise(s),
            )
            for s in self.chosen
        ]

    def _first_guess(self, whitened):
        """Return amplitudes that explain as much each, and noises of a tenth of y."""
        # Forces say most about amplitudes: energies have an arbitrary mean.
        used = self._kinds == FORCES
        used |= not used.any()
        target = np.sum(self._y[used] ** 2) / len(self.terms)
        logs = []
        for t in self.free_amplitudes:
            explained = np.sum(whitened[t][used] ** 2)
            # A term that no label depends on keeps the amplitude of 1 eV.
            ratio = target / explained if explained > 0.0 else 1.0
            logs.append(0.5 * np.log(max(ratio, 1e-30)))
        logs.extend(np.zeros(len(self.free_lengths)))
        if self.free_noises.any():
            # A single label has no spread.
            logs.append(np.log(FIRST_NOISE * (np.std(self._y[used]) or 1.0)))
        return np.array(logs)

    def _multiply(self, whitened):
        """Multiply whitened rows V with [V, y, probes].

        Rows whose noise is learned and the others apart: a change of the noise scales
        the products of the former.
        """
        table = np.hstack([*whitened, self._y[:, None], self.probes.columns])
        parts = {True: self._is_learned, False: ~self._is_learned}
        parts = {learned: part for learned, part in parts.items() if part.any()}
        self._learned_parts, self._parts = np.array([*parts]), [*parts.values()]
        self._tables = [table[part] for part in self._parts]
        self._squares = np.array([np.sum(self._y[part] ** 2) for part in self._parts])
        strips = [self._products_with(t, V) for t, V in enumerate(whitened)]
        self._products = np.concatenate(strips, axis=1)

    def _products_with(self, t, V):
        """Return products of rows V (n, m_t) of a term, (n_parts, m_t, m + 1 + p)."""
        parts = zip(self._parts, self._tables, strict=True)
        products = np.array([V[part].T @ table for part, table in parts])
        if not self.is_probed[t]:
            products[..., self.n_inducing + 1 :] = 0.0
        return products

    def _stretch(self, lengths):
        """Set length scales; return how products and variances change with each."""
        m, matrices, changes = self.n_inducing, {}, {}
        for t in self.free_lengths:
            matrices[t] = self._matrices(t, _stretched(self.terms[t], lengths[t]))
            self._variances[t] = matrices[t].variances
            for part, table in zip(self._parts, self._tables, strict=True):
                table[:, self._blocks[t]] = matrices[t].whitened[part]
        for t, stretched in matrices.items():
            strip, block = self._products_with(t, stretched.whitened), self._blocks[t]
            self._products[:, block] = strip
            self._products[:, :, block] = strip[..., :m].transpose(0, 2, 1)
            term = _stretched(self.terms[t], lengths[t])
            kernel = LengthDerivative(term.kernel)
            change = self._matrices(t, replace(term, kernel=kernel, constant=0.0))
            whitened = stretched.whitened_change(change)
            changes[t] = self._products_with(t, whitened), change.variances
        return changes

    def _split(self, theta):
        """Return the changes of all amplitudes and length scales, and of the noises."""
        n_a, n_l = len(self.free_amplitudes), len(self.free_lengths)
        amplitudes, lengths = np.zeros((2, len(self.terms)))
        amplitudes[self.free_amplitudes] = theta[:n_a]
        lengths[self.free_lengths] = theta[n_a : n_a + n_l]
        return amplitudes, lengths, theta[-1] if self.free_noises.any() else 0.0

    def evaluate(self, theta: np.ndarray) -> tuple[float, np.ndarray]:
        """Return the free energy and its gradient."""
        amplitudes, lengths, noise = self._split(theta)
        is_learned, learned_probes = self._learned_parts, self.probes.is_learned
        precisions = np.exp(np.where(is_learned, -noise, 0.0))
        factors = np.exp(
            np.repeat(amplitudes, [term.n_inducing for term in self.terms])
        )
        columns = np.outer(precisions**2, np.append(factors, 1.0))
        of_probes = np.tile(precisions[:, None], len(self.probes.weights))
        columns = np.hstack([columns, of_probes])[:, None]
        squares = precisions**2 * self._squares
        try:
            changes = self._stretch(lengths)
            products = factors[:, None] * self._products * columns
            bound = free_energy(products.sum(axis=0), squares.sum(), len(self._y))
        except np.linalg.LinAlgError:
            return -1e12, np.zeros_like(theta)
        # The trace of the prior, by terms and probes.
        precisions = np.exp(np.where(learned_probes, -noise, 0.0))
        weights = (self.probes.weights * precisions) ** 2
        scale = np.exp(2.0 * amplitudes)
        trace = scale[:, None] * self._variances * weights
        n_learned = np.count_nonzero(self._is_learned)
        value = bound.value - n_learned * noise - 0.5 * trace.sum()
        # What the products contribute if the rows of one inducing variable change.
        shares = bound.slopes * products
        firsts = [block.start for block in self._blocks]
        by_amplitude = np.add.reduceat(shares.sum(axis=(0, 2)), firsts)
        by_amplitude -= trace.sum(axis=1)
        by_length = np.zeros(len(self.terms))
        for t, (change, variances) in changes.items():
            change = factors[self._blocks[t], None] * change * columns
            by_length[t] = np.sum(bound.slopes[self._blocks[t]] * change)
            by_length[t] -= 0.5 * scale[t] * (variances @ weights)
        parts = [by_amplitude[self.free_amplitudes], by_length[self.free_lengths]]
        if self.free_noises.any():
            # Targets change as well.
            shares = shares[is_learned]
            by_rows = shares.sum() + shares[..., self.n_inducing].sum()
            by_targets = squares[is_learned].sum() - n_learned
            parts.append([trace[:, learned_probes].sum() + by_targets - by_rows])
        return value, np.concatenate(parts)

    def result(
        self, theta: np.ndarray, terms: Sequence[SparseTerm]
    ) -> tuple[list[SparseTerm], np.ndarray]:
        """Return terms with all inducing environments, and noises (3,)."""
        amplitudes, lengths, noise = self._split(theta)
        learned = []
        for term, a, length in zip(terms, amplitudes, lengths, strict=True):
            factor = float(np.exp(a))
            kernel = Scaled(term.kernel.kernel, term.kernel.amplitude * factor)
            scaled = replace(term, kernel=kernel, constant=term.constant * factor)
            learned.append(_stretched(scaled, length))
        return learned, self.training.noises * np.exp(noise * self.free_noises)


def _divided(rows, root):
    """Return rows L⁻ᵀ of a lower triangle L."""
    return solve_triangular(root, rows.T, lower=True, check_finite=False).T


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
