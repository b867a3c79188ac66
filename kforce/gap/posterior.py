"""Posterior of a sparse model: the mean as weights, and what the data leave open.

The variance of an observable with covariances k to the inducing environments is
k** − kᵀ K_mm⁻¹ k + kᵀ (K_mm + K_mn Λ⁻¹ K_nm)⁻¹ k: the prior, less what the inducing
environments explain (Nyström), and what the data leave open of that. This is the
deterministic training conditional (DTC) with the exact prior k**: unlike the subset of
regressors it grows back to the prior away from the inducing environments.

References
----------
Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), eq. 20.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from scipy.linalg import solve_triangular

from kforce.descriptors.local import Environments
from kforce.gap.covariance import (
    blocks_of,
    prior_covariance,
    prior_variances,
    residual_covariance,
    sparse_rows,
)
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.gap.training_set import TrainingSet
from kforce.neighbours.search import Neighbours, find_neighbours
from kforce.parallel import run_parallel
from kforce.progress import progress_bar
from kforce.solvers.least_squares import NormalEquations, SparseQR, SparseSolution
from kforce.structures import Batch

#: Rows that are computed before they are eliminated, about.
ROWS_AT_A_TIME = 1024

_SOLVERS = {"qr": SparseQR, "normal": NormalEquations}


@dataclass(frozen=True)
class Posterior:
    """Terms with their weights, and the posterior covariance of these.

    `calibration` multiplies the standard deviations of energies and of forces,
    `log_marginal_likelihood` is that of the training data with the covariance that the
    inducing environments span; None where it is not known.
    """

    terms: list[SparseTerm]
    solution: SparseSolution
    calibration: tuple[float, float] = (1.0, 1.0)
    log_marginal_likelihood: float | None = None

    def all_variances(
        self, frames: Sequence[Atoms], with_forces: bool = True
    ) -> list[tuple[float, np.ndarray | None]]:
        """Return `variances` of each structure, on our threads."""
        return run_parallel(lambda atoms: self.variances(atoms, with_forces), frames)

    def variances(
        self, atoms: Atoms, with_forces: bool = True
    ) -> tuple[float, np.ndarray | None]:
        """Return the variances of energy, in eV², and forces (n_atoms, 3), in (eV/Å)².

        They are not calibrated.
        """
        return self.variances_of(*_structures(self.terms, [atoms]), with_forces)

    def variances_of(
        self,
        batch: Batch,
        neighbours: Neighbours,
        with_forces: bool,
        environments: Sequence[Environments] | None = None,
    ) -> tuple[float, np.ndarray | None]:
        """Return the same of one structure whose neighbours are known.

        `environments` are those of each term, if they are known as well.
        """
        n_atoms = len(batch.numbers)
        if environments is None:
            environments = self._environments(batch, neighbours)
        together = np.zeros(n_atoms, dtype=int)
        energy = max(float(self._covariance(environments, together, 1)[0, 0]), 0.0)
        if not with_forces:
            return energy, None
        rows = sparse_rows(self.terms, batch, neighbours).forces
        rows = rows.reshape(3 * n_atoms, -1)
        prior = prior_variances(self.terms, batch, neighbours, with_energy=False)
        forces = prior[1 : 1 + len(rows)] + self.solution.unexplained(rows)
        return energy, np.maximum(forces, 0.0).reshape(-1, 3)

    def atom_deviations(self, atoms: Atoms) -> np.ndarray:
        """Return standard deviations of the energies of atoms, (n_atoms,), in eV."""
        environments = self._environments(*_structures(self.terms, [atoms]))
        C = self._covariance(environments, np.arange(len(atoms)), len(atoms))
        return self.calibration[0] * np.sqrt(np.maximum(np.diag(C), 0.0))

    def energy_covariance(self, frames: Sequence[Atoms]) -> np.ndarray:
        """Return the covariance of energies (n_structures, n_structures), in eV²."""
        batch, neighbours = _structures(self.terms, frames)
        environments = self._environments(batch, neighbours)
        structures = np.repeat(np.arange(len(frames)), np.diff(batch.offsets))
        C = self._covariance(environments, structures, len(frames))
        return self.calibration[0] ** 2 * C

    def _environments(self, batch, neighbours):
        """Return the environments of each term."""
        return [term.descriptor(batch.numbers, neighbours) for term in self.terms]

    def _covariance(self, environments, sums, n_sums):
        """Return the covariance of sums of energies of atoms, not calibrated, in eV².

        Atom a belongs to the sum ``sums[a]``.
        """
        solution = self.solution
        C, rows = np.zeros((n_sums, n_sums)), np.zeros((n_sums, len(solution.coef)))
        parts = zip(self.terms, blocks_of(self.terms), environments, strict=True)
        for term, block, of_term in parts:
            if of_term is not None and len(of_term.x):
                rows[:, block], rest = residual_covariance(
                    term,
                    solution.prior[block, block],
                    of_term,
                    sums,
                    n_sums,
                    solution.jitter,
                )
                C += rest
        return C + solution.open_covariance(rows)


def _structures(terms, frames):
    batch = Batch.from_frames(frames)
    return batch, find_neighbours(batch, largest_cutoff(terms))


@dataclass(frozen=True)
class LeastSquares:
    """The rows of a training set, reduced to what the posterior needs of them.

    `system` has taken in all `n_rows` rows, divided by their noises, of whose
    logarithms `log_noise` is the sum. `approximation` is that of the rows.
    """

    terms: Sequence[SparseTerm]
    system: SparseQR | NormalEquations
    n_rows: int
    log_noise: float
    approximation: str = "dtc"

    def whitened(
        self, training: TrainingSet, s: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the rows of frame s as they came in, its targets and its noises."""
        prior = self.system.prior
        return whitened(self.terms, training, s, prior, self.approximation)

    def condition(self, noise: float = 1.0) -> Posterior:
        """Return the posterior with all noises multiplied by a number."""
        solution = self.system.solve(noise)
        blocks = zip(self.terms, blocks_of(self.terms), strict=True)
        terms = [replace(term, weights=solution.coef[b]) for term, b in blocks]
        log_variance = 2.0 * (self.log_noise + self.n_rows * np.log(noise))
        evidence = solution.log_evidence(log_variance, self.n_rows)
        return Posterior(terms, solution, log_marginal_likelihood=evidence)


def gather(
    terms: Sequence[SparseTerm],
    training: TrainingSet,
    jitter: float,
    solver: str = "qr",
    approximation: str = "dtc",
    n_rows: int = ROWS_AT_A_TIME,
) -> LeastSquares:
    """Read all frames, and reduce their rows as they come, about `n_rows` at a time.

    `jitter` is added to the diagonal of K_mm, in eV². The approximation 'fitc' adds
    what the inducing environments leave open of the prior variance of each label to its
    noise (fully independent training conditional), 'dtc' does not.
    """
    system = _SOLVERS[solver](prior_covariance(terms), jitter)

    def whitened_frame(s):
        return whitened(terms, training, s, system.prior, approximation)

    total_rows, total_log = 0, 0.0
    with progress_bar(len(training.frames), "fit") as advance:
        for group in _groups(training.frames, n_rows):
            parts = zip(*run_parallel(whitened_frame, group), strict=True)
            rows, y, noise = map(np.concatenate, parts)
            system.add(rows, y)
            total_rows += len(y)
            total_log += float(np.log(noise).sum())
            advance(len(group))
    return LeastSquares(terms, system, total_rows, total_log, approximation)


def whitened(
    terms: Sequence[SparseTerm],
    training: TrainingSet,
    s: int,
    prior: np.ndarray,
    approximation: str,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return what `TrainingSet.whitened` does, with the noise that FITC adds.

    `prior` is the upper triangle U with Uᵀ U = K_mm.
    """
    rows, y, noise = training.whitened(terms, s)
    if approximation == "fitc":
        explained = solve_triangular(prior, rows.T, trans="T", check_finite=False)
        variances = training.prior_variances(terms, s) / noise**2
        rest = variances - np.square(explained).sum(axis=0)
        factor = np.sqrt(1.0 + np.maximum(rest, 0.0))
        rows /= factor[:, None]
        y, noise = y / factor, noise * factor
    return rows, y, noise


def _groups(frames, n_rows):
    """Cut the frames into groups of at most so many rows, unless one alone has more."""
    group, size = [], 0
    for s, frame in enumerate(frames):
        n = 3 * len(frame) + 7
        if group and size + n > n_rows:
            yield group
            group, size = [], 0
        group.append(s)
        size += n
    yield group
