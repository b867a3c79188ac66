"""Local energies of a sparse model and their derivatives, summed over terms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols

from kforce.descriptors.two_body import TwoBody
from kforce.gap.sparse_term import SparseTerm
from kforce.neighbours.search import Neighbours, find_neighbours
from kforce.parallel import n_threads, run_parallel
from kforce.structures import Batch

#: Centres that are worked on at a time: the arrays of a chunk stay in the cache, and
#: matrix products of it outweigh the rest.
_CHUNK = 64


#: With fewer centres another thread gains little.
_PER_THREAD = 16


@dataclass(frozen=True)
class LocalPrediction:
    """What the latent functions of all terms give for the atoms of a batch.

    Attributes
    ----------
    energies : ndarray of shape (n_atoms,)
        Local energies in eV.
    gradient : ndarray of shape (n_atoms, 3) or None
        Derivative of their sum with respect to positions, in eV/Å.
    strain : ndarray of shape (n_atoms, 3, 3) or None
        Derivative with respect to strain, at the atoms that move, in eV.
    """

    energies: np.ndarray
    gradient: np.ndarray | None
    strain: np.ndarray | None


def predict_local(
    terms: Sequence[SparseTerm],
    numbers: np.ndarray,
    neighbours: Neighbours,
    with_gradient: bool = True,
) -> LocalPrediction:
    """Evaluate a sparse model.

    The work of a centre does not depend on how many there are, so time and memory are
    linear in the number of atoms.

    Parameters
    ----------
    terms : sequence of SparseTerm
        With weights.
    numbers : ndarray of int, shape (n_atoms,)
        Atomic numbers of the batch.
    neighbours : Neighbours
        Of all atoms, within the largest cutoff of the terms.
    with_gradient : bool, default=True
        Whether derivatives are wanted.
    """
    n_central = len(neighbours.central_atoms)
    parts = max(1, min(n_threads(), n_central // _PER_THREAD))
    bounds = np.linspace(0, n_central, parts + 1).astype(int)

    def share(part):
        """Evaluate a thread's share of the centres in arrays of its own."""
        total = _zeros(len(numbers), with_gradient)
        for start in range(bounds[part], bounds[part + 1], _CHUNK):
            stop = min(start + _CHUNK, bounds[part + 1])
            _add(total, terms, numbers, neighbours.take(start, stop))
        return total

    first, *others = run_parallel(share, range(parts))
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


def describe_extrapolation(terms: Sequence[SparseTerm], atoms: Atoms) -> str | None:
    """Say in a sentence which pairs of a structure are unlike all of the training set.

    These are pairs of elements that no two-body term is for, and distances that are
    shorter than those of the inducing environments of its term. None where there are
    no such pairs, or the model has no two-body terms.
    """
    shortest, cutoff = _shortest(terms)
    if not shortest:
        return None
    neighbours = find_neighbours(Batch.from_frames([atoms]), cutoff)
    pairs = np.stack([neighbours.owners, neighbours.atoms], axis=1)
    pairs = np.sort(atoms.numbers[pairs], axis=1)
    for pair in np.unique(pairs, axis=0):
        dist = neighbours.dist[(pairs == pair).all(axis=1)].min()
        known = shortest.get(tuple(pair.tolist()), np.inf)
        if dist < known:
            names = "–".join(chemical_symbols[z] for z in pair)
            in_training = f"from {known:.2f} Å on" if np.isfinite(known) else "none"
            return (
                f"It holds {names} pairs at {dist:.2f} Å, and the training set "
                f"{in_training}."
            )
    return None


def _shortest(terms):
    """Return distances by pair of elements, and how far these are looked for."""
    shortest, cutoff = {}, 0.0
    for term in terms:
        pairs = term.descriptor
        if isinstance(pairs, TwoBody) and tuple(pairs.exponents) == (1,):
            distances = term.inducing_points[:, 0]
            # One inducing distance stands for a cell of a grid, which it is within.
            cell = 1.5 * np.ptp(distances) / len(distances)
            key = tuple(sorted(pairs.species))
            shortest[key] = min(shortest.get(key, np.inf), distances.min() - cell)
            cutoff = max(cutoff, pairs.cutoff)
    return shortest, cutoff
