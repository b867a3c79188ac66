"""Extrapolation grades: how far environments are from those of the training set.

For each term there is a range of the features of training environments, see
`kforce.kernels.ranges`: 1 is the 99.9 % quantile of the largest distance of a frame
that is left out.

The same is done with means of features over an atom and its neighbours. Thermal motion
cancels in these, so they tell a strained or another lattice from a hot one. The grade
of an atom is the largest of its environments and means in any of the terms.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.sparse import csr_array

from kforce.descriptors.local import Environments
from kforce.errors import distinct
from kforce.gap.sparse_term import MAX_DIFFERENCE_FEATURES, SparseTerm
from kforce.gap.training_set import TrainingSet
from kforce.kernels.ranges import MARGIN, TermRange
from kforce.neighbours.search import Neighbours, find_neighbours
from kforce.registry import register
from kforce.structures import Batch

#: Environments of each term that decide on its range, about.
MAX_ENVIRONMENTS = 20_000

#: Quantile of the distance of single environments that is grade 1: frames have about a
#: hundred.
POINT_QUANTILE = 1.0 - 1e-5

#: Grade of an isolated atom of which only terms of pairs or triplets could tell, and
#: these have no environment there.
LONELY_GRADE = 100.0


@register
@dataclass(frozen=True)
class Grade:
    """The ranges of all terms, None for those that tell of no neighbours.

    `means` are those of means over neighbourhoods, None for terms that have not one
    environment for each atom. `lonely` is the grade of an atom that no term has an
    environment of.
    """

    ranges: list[TermRange | None]
    means: list[TermRange | None]
    lonely: float = 0.0

    def check_stored(self) -> None:
        """Raise an error unless there are as many of both, and no grade is negative."""
        if len(self.means) != len(self.ranges) or self.lonely < 0.0:
            raise ValueError("grades are of other terms, or negative")

    @classmethod
    def of_training(
        cls,
        terms: Sequence[SparseTerm],
        training: TrainingSet,
        rng: np.random.Generator,
        max_environments: int = MAX_ENVIRONMENTS,
    ) -> Grade:
        """Return the ranges of random frames of a training set."""
        ranges, means, order = [], [], rng.permutation(len(training.frames))
        marked = [np.zeros(len(frame), dtype=bool) for frame in training.frames]
        for term in terms:
            frames, averaged, n_seen, outside = [], [], 0, 0.0
            alone = np.zeros((0, term.descriptor.n_features))
            for s in order:
                if term.descriptor.is_composition:
                    break
                # Isolated atoms are looked for in all frames: these are small.
                if n_seen >= max_environments and len(training.frames[s]) > 1:
                    continue
                batch, neighbours = training.neighbours.of(s, term.descriptor.cutoff)
                environments = term.descriptor(batch.numbers, neighbours)
                marked[s][environments.central_atoms] = True
                outside = max(outside, environments.outside.max(initial=0.0))
                x = environments.x
                has_any = np.isin(environments.central_atoms, neighbours.owners)
                alone = _places(np.concatenate([alone, x[~has_any]]))
                if has_any.any():
                    frames.append(x[has_any])
                    n_seen += len(frames[-1])
                    if has_means(environments):
                        mean = neighbourhood_means(environments, neighbours)
                        averaged.append(mean[has_any])
            if not frames and len(alone):
                frames = [alone]
            for known, of_frames in ((ranges, frames), (means, averaged)):
                learned = TermRange.learned(of_frames) if of_frames else None
                known.append(
                    learned and replace(learned, alone=alone, outside=float(outside))
                )
        # Atoms without environments are known if some are in the training set.
        seen = [of_atoms for of_atoms in marked if of_atoms.any()]
        is_known = not all(of_atoms.all() for of_atoms in seen)
        return cls(ranges, means, 0.0 if is_known else _lonely(terms))

    @classmethod
    def of_points(cls, terms: Sequence[SparseTerm]) -> Grade:
        """Return the ranges of inducing environments, where no others are known."""
        ranges = [
            None
            if term.descriptor.is_composition
            else TermRange.learned(list(term.inducing_points[:, None]), POINT_QUANTILE)
            for term in terms
        ]
        return cls(ranges, [None] * len(ranges))

    def mark(self, t: int, environments: Environments, grades: np.ndarray) -> None:
        """Raise the grades (n_atoms,) to those of environments of the t-th term."""
        if self.ranges[t] is not None:
            own = self.ranges[t].grades(environments.x, environments.outside)
            np.fmax.at(grades, environments.central_atoms, own)

    def mark_means(
        self,
        t: int,
        environments: Environments,
        neighbours: Neighbours,
        grades: np.ndarray,
    ) -> None:
        """Raise the grades (n_atoms,) to those of neighbourhoods of the t-th term.

        `environments` are those of all atoms, `neighbours` theirs within its cutoff.
        """
        if self.means[t] is not None:
            own = self.means[t].grades(neighbourhood_means(environments, neighbours))
            np.fmax.at(grades, environments.central_atoms, own)


def has_means(environments: Environments) -> bool:
    """Return whether there are many features, and one environment for each atom."""
    centres = environments.central_atoms
    is_many = environments.x.shape[1] > MAX_DIFFERENCE_FEATURES
    return is_many and len(np.unique(centres)) == len(centres)


def neighbourhood_means(
    environments: Environments, neighbours: Neighbours
) -> np.ndarray:
    """Return means of features over atoms and their neighbours, (n_env, n_features).

    There is one environment for each central atom; neighbours that have none, such as
    those of other elements, do not count.
    """
    n_atoms, centres = len(neighbours.central_atoms), environments.central_atoms
    ones = np.ones(len(neighbours.atoms))
    parts = ones, neighbours.atoms, neighbours.offsets
    near = csr_array(parts, shape=(n_atoms, n_atoms))
    if len(centres) < n_atoms:
        near = near[centres][:, centres]
    total = environments.x + near @ environments.x
    return total / (1.0 + near.sum(axis=1))[:, None]


def _places(x):
    """Return features (n_env, n_features) without those that differ by rounding."""
    return x[np.sort(np.unique(x.round(7), axis=0, return_index=True)[1])]


def _lonely(terms):
    """Return the grade of atoms without environments.

    Their energy is known if the reference energies are those of isolated atoms; those
    that were fitted to structures say nothing of them.
    """
    are_fitted = any(term.descriptor.is_composition for term in terms)
    return LONELY_GRADE if are_fitted else 0.0


def describe_pairs(
    terms: Sequence[SparseTerm], atoms: Atoms, has_all_pairs: bool
) -> str | None:
    """Say in a sentence which pairs of a structure are unlike all of the training set.

    These are distances that are shorter than those of the inducing environments of the
    two-body term of the pair and, if there is a term for every pair of elements in the
    training set, pairs of elements without one. None where there are no such pairs.
    """
    shortest, cutoff = {}, 0.0
    for term in terms:
        pairs = term.descriptor
        if tuple(getattr(pairs, "exponents", ())) == (1,):
            distances = term.inducing_points[:, 0]
            # One inducing distance stands for a cell of a grid, which it is within.
            cell = 1.5 * np.ptp(distances) / len(distances)
            key = tuple(sorted(pairs.species))
            start = distances.min() / MARGIN - cell
            shortest[key] = min(shortest.get(key, np.inf), start)
            cutoff = max(cutoff, pairs.cutoff)
    if not shortest:
        return None
    neighbours = find_neighbours(Batch.from_frames([atoms]), cutoff)
    pairs = np.stack([neighbours.owners, neighbours.atoms], axis=1)
    pairs = np.sort(atoms.numbers[pairs], axis=1)
    for pair in np.unique(pairs, axis=0):
        dist = neighbours.dist[(pairs == pair).all(axis=1)].min()
        trained = shortest.get(tuple(pair.tolist()), np.inf if has_all_pairs else 0.0)
        if dist < trained:
            names = "–".join(chemical_symbols[z] for z in pair)
            found, start = distinct(dist, trained)
            held = f"from {start} Å on" if np.isfinite(trained) else "none"
            return f"It holds {names} pairs at {found} Å, and the training set {held}."
    return None
