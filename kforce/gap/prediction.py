"""What the terms say of structures: local energies, and what they do not know."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from scipy.linalg import cho_factor, cho_solve

from kforce.descriptors.local import Environments
from kforce.gap.extrapolation import Grade
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.neighbours.search import Neighbours, find_neighbours
from kforce.parallel import n_threads, run_parallel
from kforce.structures import Batch

#: With fewer central atoms another thread gains little.
MIN_ATOMS_PER_THREAD = 16


@dataclass(frozen=True)
class LocalPrediction:
    """What the latent functions of all terms give for the atoms of a batch.

    These are `energies` (n_atoms,) in eV, and derivatives of their sum, or None: the
    `gradient` (n_atoms, 3) with respect to positions, in eV/Å, and that with respect to
    `strain` (n_atoms, 3, 3), at the atoms that move, in eV. `grades` (n_atoms,) are the
    extrapolation grades, or None. `environments` are those of each term, None for terms
    without or that were not kept.
    """

    energies: np.ndarray
    gradient: np.ndarray | None
    strain: np.ndarray | None
    grades: np.ndarray | None = None
    environments: list[Environments] | None = None


def predict_local(
    terms: Sequence[SparseTerm],
    numbers: np.ndarray,
    neighbours: Neighbours,
    with_gradient: bool = True,
    grade: Grade | None = None,
    keep_environments: bool = False,
    chunk: int = 64,
) -> LocalPrediction:
    """Evaluate a sparse model with weights.

    `numbers` (n_atoms,) are those of the batch, `neighbours` those of all atoms within
    the largest cutoff of the terms; `grade` tells extrapolation, if wanted. Time and
    memory are linear in the number of atoms. `chunk` central atoms are worked on at a
    time: the arrays of a chunk stay in the cache, and matrix products of it outweigh
    the rest. Features of environments are kept for standard deviations, if wanted.
    """
    n_atoms, n_central = len(numbers), len(neighbours.central_atoms)
    n_parts = max(1, min(n_threads(), n_central // MIN_ATOMS_PER_THREAD))
    bounds = np.linspace(0, n_central, n_parts + 1).astype(int)

    def predict_part(part):
        """Evaluate the central atoms of a thread in arrays of its own."""
        energies, *derivatives = np.zeros(n_atoms), None, None
        grades = None if grade is None else np.full(n_atoms, np.nan)
        kept = [[] for _ in terms]
        if with_gradient:
            derivatives = [np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))]
        for start in range(bounds[part], bounds[part + 1], chunk):
            stop = min(start + chunk, bounds[part + 1])
            near = neighbours.take(start, stop)
            for t, term in enumerate(terms):
                environments = term.descriptor(numbers, near)
                if len(environments.x) == 0:
                    continue
                if grade is not None:
                    grade.mark(t, environments, grades)
                if keep_environments or (grade and grade.means[t] is not None):
                    kept[t].append(environments)
                energy, by_x, by_f_cut = term.jet(environments)
                np.add.at(energies, environments.central_atoms, energy)
                if with_gradient:
                    environments.pull(by_x, by_f_cut, *derivatives)
        return energies, *derivatives, grades, kept

    *parts, grades, kept = zip(*run_parallel(predict_part, range(n_parts)), strict=True)
    sums = (None if a[0] is None else sum(a[1:], a[0]) for a in parts)
    environments = [
        Environments.joined([e for part in kept for e in part[t]])
        for t in range(len(terms))
    ]
    if grade is None:
        return LocalPrediction(*sums, environments=environments)
    highest = np.fmax.reduce(grades)
    for t, (term, of_term) in enumerate(zip(terms, environments, strict=True)):
        if of_term is not None and grade.means[t] is not None:
            near = neighbours.within(term.descriptor.cutoff)
            grade.mark_means(t, of_term, near, highest)
    grades = np.where(np.isnan(highest), grade.lonely, highest)
    return LocalPrediction(*sums, grades, environments)


def novelty(
    terms: Sequence[SparseTerm], atoms: Atoms, regularisation: float
) -> np.ndarray:
    """Return how unlike the inducing environments those of atoms are, in eV².

    This is, (n_atoms,), the sum over environments of an atom of F² (k(x, x) + ρ² − kᵀ
    (K_mm + ρ²)⁻¹ k), with the regularisation ρ in eV, as the program GAP computes it:
    no training data enter.
    """
    batch = Batch.from_frames([atoms])
    neighbours = find_neighbours(batch, largest_cutoff(terms))
    total = np.zeros(len(atoms))
    for term in terms:
        environments = term.descriptor(batch.numbers, neighbours)
        if len(environments.x) == 0:
            continue
        shift = term.constant**2
        # F does not multiply the constant here, as in that program.
        M = term.covariance() - shift * np.outer(term.f_cut, term.f_cut) + shift
        np.einsum("mm->m", M)[:] += regularisation**2
        k, _ = term.compare(environments.x, orders=(0,))
        explained = np.einsum("em,me->e", k, cho_solve(cho_factor(M), k.T))
        unexplained = term.prior_variance(environments)
        unexplained += environments.f_cut**2 * (regularisation**2 - explained)
        unexplained *= environments.multiplicity
        np.add.at(total, environments.central_atoms, unexplained)
    return total
