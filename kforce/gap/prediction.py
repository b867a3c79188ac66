"""Local energies of a sparse model and their derivatives, summed over terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kforce.gap.sparse_term import SparseTerm
from kforce.neighbours.search import Neighbours
from kforce.parallel import n_threads, run_parallel

#: With fewer central atoms another thread gains little.
MIN_ATOMS_PER_THREAD = 16


@dataclass(frozen=True)
class LocalPrediction:
    """What the latent functions of all terms give for the atoms of a batch.

    These are `energies` (n_atoms,) in eV, and derivatives of their sum, or None: the
    `gradient` (n_atoms, 3) with respect to positions, in eV/Å, and that with respect to
    `strain` (n_atoms, 3, 3), at the atoms that move, in eV.
    """

    energies: np.ndarray
    gradient: np.ndarray | None
    strain: np.ndarray | None


def predict_local(
    terms: Sequence[SparseTerm],
    numbers: np.ndarray,
    neighbours: Neighbours,
    with_gradient: bool = True,
    chunk: int = 64,
) -> LocalPrediction:
    """Evaluate a sparse model with weights.

    `numbers` (n_atoms,) are those of the batch, `neighbours` those of all atoms within
    the largest cutoff of the terms. Time and memory are linear in the number of atoms.
    `chunk` central atoms are worked on at a time: the arrays of a chunk stay in the
    cache, and matrix products of it outweigh the rest.
    """
    n_central = len(neighbours.central_atoms)
    n_parts = max(1, min(n_threads(), n_central // MIN_ATOMS_PER_THREAD))
    bounds = np.linspace(0, n_central, n_parts + 1).astype(int)

    def predict_part(part):
        """Evaluate the central atoms of a thread in arrays of its own."""
        total = _zeros(len(numbers), with_gradient)
        for start in range(bounds[part], bounds[part + 1], chunk):
            stop = min(start + chunk, bounds[part + 1])
            _add(total, terms, numbers, neighbours.take(start, stop))
        return total

    first, *others = run_parallel(predict_part, range(n_parts))
    for other in others:
        first.energies[:] += other.energies
        if with_gradient:
            first.gradient[:] += other.gradient
            first.strain[:] += other.strain
    return first


def _zeros(n_atoms, with_gradient):
    if not with_gradient:
        return LocalPrediction(np.zeros(n_atoms), None, None)
    return LocalPrediction(
        np.zeros(n_atoms), np.zeros((n_atoms, 3)), np.zeros((n_atoms, 3, 3))
    )


def _add(total, terms, numbers, neighbours):
    for term in terms:
        environments = term.descriptor(numbers, neighbours)
        if len(environments.x) == 0:
            continue
        energy, by_x, by_f_cut = term.jet(environments)
        np.add.at(total.energies, environments.central_atoms, energy)
        if total.gradient is not None:
            environments.pull(by_x, by_f_cut, total.gradient, total.strain)
