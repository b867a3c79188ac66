"""The linear system of a sparse model, frame after frame in blocks of bounded size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.linalg import solve_triangular

from kforce.gap.covariance import prior_variances, sparse_rows
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.labels import LocalLabels
from kforce.neighbours.search import find_neighbours
from kforce.parallel import run_parallel
from kforce.progress import progress_bar
from kforce.solvers.least_squares import NormalEquations, SparseQR, SparseSolution
from kforce.structures import Batch

_SOLVERS = {"qr": SparseQR, "normal": NormalEquations}

#: Rows of a block, unless one frame alone has more.
_ROWS = 1024


def prior_covariance(terms: Sequence[SparseTerm]) -> np.ndarray:
    """Return K_mm of all inducing environments, (m, m): terms are independent."""
    n = sum(term.n_inducing for term in terms)
    K, first = np.zeros((n, n)), 0
    for term in terms:
        own = slice(first, first + term.n_inducing)
        K[own, own] = term.covariance()
        first += term.n_inducing
    return K


@dataclass(frozen=True)
class GatheredRows:
    """The rows of a training set, reduced to what the solution needs of them.

    Attributes
    ----------
    system : SparseQR or NormalEquations
        All rows, divided by their noise.
    n_rows : int
        How many there were.
    log_noise : float
        Sum of the logarithms of their noises.
    """

    system: SparseQR | NormalEquations
    n_rows: int
    log_noise: float

    def solve(self, noise: float = 1.0) -> tuple[SparseSolution, float]:
        """Condition the inducing environments on the rows.

        Parameters
        ----------
        noise : float
            All noises are multiplied by this.

        Returns
        -------
        solution : SparseSolution
            The posterior.
        log_evidence : float
            Log marginal likelihood with the covariance that the inducing environments
            span.
        """
        solution = self.system.solve(noise)
        log_variance = 2.0 * (self.log_noise + self.n_rows * np.log(noise))
        return solution, solution.log_evidence(log_variance, self.n_rows)


def gather_rows(
    terms: Sequence[SparseTerm],
    frames: Sequence[Atoms],
    labels: LocalLabels,
    jitter: float,
    solver: str = "qr",
    approximation: str = "dtc",
) -> GatheredRows:
    """Read all frames, and reduce their rows as they come.

    Parameters
    ----------
    terms : sequence of SparseTerm
        The model.
    frames : sequence of ase.Atoms
        Training set.
    labels : LocalLabels
        Its labels, above the reference energies.
    jitter : float
        Added to the diagonal of K_mm, in eV².
    solver : {'qr', 'normal'}
        See `SparseQR` and `NormalEquations`.
    approximation : {'dtc', 'fitc'}
        The latter adds what the inducing environments leave open of the prior variance
        of each label to its noise (fully independent training conditional).
    """
    system = _SOLVERS[solver](prior_covariance(terms), jitter)

    def whitened(s):
        rows, y, log_noise = whitened_rows(terms, frames[s], labels, s)
        if approximation == "fitc":
            factor = fitc_factors(terms, frames[s], labels, s, rows, system.prior)
            rows /= factor[:, None]
            y, log_noise = y / factor, log_noise + np.log(factor)
        return rows, y, log_noise

    n_rows, total = 0, 0.0
    with progress_bar(len(frames), "fit") as advance:
        for group in _groups(labels):
            rows, y, log_noise = zip(*run_parallel(whitened, group), strict=True)
            system.add(np.concatenate(rows), np.concatenate(y))
            n_rows += sum(map(len, y))
            total += sum(float(part.sum()) for part in log_noise)
            advance(len(group))
    return GatheredRows(system, n_rows, total)


def observed(
    labels: LocalLabels, s: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the labels of a frame in the order of its rows.

    That is the energy, the force components, the virial; forces and virial only if the
    frame has any.

    Parameters
    ----------
    labels : LocalLabels
        Labels of a data set.
    s : int
        The frame's place in it.

    Returns
    -------
    y, noise : ndarray of shape (n,)
        Labels that are known, and their standard deviations.
    kind : ndarray of int, shape (n,)
        0 for energies, 1 for forces, 2 for virials.
    known : ndarray of bool
        Which of the rows of the frame these are.
    """
    forces, virial = labels.forces[s].ravel(), labels.virial[s]
    parts = [(labels.energy[s : s + 1], labels.noise_energy[s], 0)]
    if np.isfinite(forces).any():
        parts.append((forces, np.repeat(labels.noise_forces[s], 3), 1))
    if np.isfinite(virial).any():
        parts.append((virial, labels.noise_virial[s], 2))
    y = np.concatenate([values for values, *_ in parts])
    noise = np.concatenate([np.full(len(v), std) for v, std, _ in parts])
    kind = np.concatenate([np.full(len(v), number) for v, _, number in parts])
    known = np.isfinite(y)
    return y[known], noise[known], kind[known], known


def whitened_rows(
    terms: Sequence[SparseTerm], frame: Atoms, labels: LocalLabels, s: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of a frame, divided by their noise.

    Parameters
    ----------
    terms : sequence of SparseTerm
        The model.
    frame : ase.Atoms
        A frame.
    labels : LocalLabels
        Labels of the whole set.
    s : int
        The frame's place in it.

    Returns
    -------
    rows : ndarray of shape (n, n_inducing)
        Λ^−½ K_nm.
    y : ndarray of shape (n,)
        Λ^−½ y.
    log_noise : ndarray of shape (n,)
        Logarithms of the standard deviations.
    """
    y, noise, _, known = observed(labels, s)
    batch = Batch.from_frames([frame])
    neighbours = find_neighbours(batch, largest_cutoff(terms), s)
    has_virial = bool(np.isfinite(labels.virial[s]).any())
    has_forces = bool(np.isfinite(labels.forces[s]).any())
    found = sparse_rows(terms, batch, neighbours, has_forces or has_virial, has_virial)
    rows = [found.energies]
    if has_forces:
        rows.append(found.forces.reshape(3 * len(frame), -1))
    if has_virial:
        rows.append(found.virials[0])
    rows = rows[0] if len(rows) == 1 else np.concatenate(rows)
    if not known.all():
        rows = rows[known]
    rows /= noise[:, None]
    return rows, y / noise, np.log(noise)


def fitc_factors(
    terms: Sequence[SparseTerm],
    frame: Atoms,
    labels: LocalLabels,
    s: int,
    rows: np.ndarray,
    prior: np.ndarray,
) -> np.ndarray:
    """Return by what the noises of a frame grow with the rest of the prior variances.

    Parameters
    ----------
    terms, frame, labels, s
        As for `whitened_rows`.
    rows : ndarray of shape (n, n_inducing)
        What it returns.
    prior : ndarray of shape (n_inducing, n_inducing)
        Upper triangle U with Uᵀ U = K_mm.

    Returns
    -------
    ndarray of shape (n,)
        At least 1.
    """
    _, noise, kind, known = observed(labels, s)
    batch = Batch.from_frames([frame])
    neighbours = find_neighbours(batch, largest_cutoff(terms))
    variances = prior_variances(terms, batch, neighbours, 1 in kind, 2 in kind)
    explained = solve_triangular(prior, rows.T, trans="T", check_finite=False)
    rest = variances[known] / noise**2 - np.square(explained).sum(axis=0)
    return np.sqrt(1.0 + np.maximum(rest, 0.0))


def _groups(labels: LocalLabels) -> Iterator[list[int]]:
    """Cut the frames into groups of at most `_ROWS` rows, if they have that many."""
    group, size = [], 0
    for s, forces in enumerate(labels.forces):
        n = forces.size + 7
        if group and size + n > _ROWS:
            yield group
            group, size = [], 0
        group.append(s)
        size += n
    yield group
