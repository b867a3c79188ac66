"""Extrapolation grades: how far environments are from those of the training set.

The distance of features x from those of the training set is that of Mahalanobis, with
the covariance of a probabilistic principal component analysis: along the directions in
which training environments vary it is measured by their spread, in all others by a
small share of it. It is divided by the 99.9 % quantile of the largest distance of a
frame that is left out, so that 1 is where the training set ends. It does not depend on
amplitudes, nor on labels, and has no upper bound.

The same is done with means of features over an atom and its neighbours. Thermal motion
cancels in these, so they tell a strained or another lattice from a hot one. The grade
of an atom is the largest of its environments and means in any of the terms.

References
----------
Tipping and Bishop, J. R. Stat. Soc. B 61, 611 (1999). For grades of other kinds see
Podryabinkin and Shapeev, Comput. Mater. Sci. 140, 171 (2017).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.sparse import csr_array

from kforce.descriptors.local import Environments
from kforce.gap.sparse_term import MAX_DIFFERENCE_FEATURES, SparseTerm
from kforce.gap.training_set import TrainingSet
from kforce.neighbours.search import Neighbours, find_neighbours
from kforce.registry import register
from kforce.storage.codec import check_array
from kforce.structures import Batch

#: Share of the whole variance that directions count with in which training
#: environments do not vary.
LEAST_VARIANCE = 1e-4

#: Share of their mean square below which the variance of features is rounding.
ROUNDING = 1e-12

#: What lengths are multiplied by, so that rounding takes nothing out of a range.
MARGIN = 1.0 + 1e-6

#: Environments of each term that decide on its range, about.
MAX_ENVIRONMENTS = 20_000

#: Parts of the frames that are left out in turn.
N_FOLDS = 5

#: Quantile of the largest distance of a frame that is grade 1, and the share of frames
#: whose tail tells it.
QUANTILE, TAIL = 0.999, 0.25

#: The same of single environments, for frames of about a hundred.
POINT_QUANTILE = 1.0 - 1e-5

#: What the largest distance is multiplied by where there is one frame only.
LONELY_MARGIN = 2.0

#: Grade of an isolated atom of which only terms of pairs or triplets could tell, and
#: these have no environment there.
LONELY_GRADE = 100.0


@register
@dataclass(frozen=True)
class TermRange:
    """Where the training environments of a term are.

    Their features have the mean `centre` (n_features,), and vary along orthonormal
    `axes` (n_features, n_axes); a distance of `lengths` (n_axes,) along these, and of
    `rest` along any other direction, is grade 1. An isolated atom is far from all that
    has neighbours: features `alone` (n_alone, n_features) of those in the training set
    are places of their own, with `rest` around them. Squared lengths along directions
    that are no features count beyond `outside`, the largest of the training set.
    """

    centre: np.ndarray
    axes: np.ndarray
    lengths: np.ndarray
    rest: float
    alone: np.ndarray
    outside: float = 0.0

    def check_stored(self) -> None:
        """Raise an error unless shapes fit and lengths are positive."""
        check_array("centre", self.centre, (None,))
        check_array("axes", self.axes, (len(self.centre), None))
        check_array("lengths", self.lengths, (self.axes.shape[1],))
        if len(self.alone):
            check_array("alone", self.alone, (None, len(self.centre)))
        if not min(self.lengths.min(initial=1.0), self.rest) > 0.0 <= self.outside:
            raise ValueError("lengths of a range are not positive")

    @classmethod
    def of(cls, x: np.ndarray, least_variance: float = LEAST_VARIANCE) -> TermRange:
        """Return the range of features (n_env, n_features), in standard deviations."""
        centre = x.mean(axis=0)
        variances, axes = _principal_axes(x - centre)
        whole = variances.sum()
        if whole <= ROUNDING * np.square(centre).sum():
            whole = 1.0  # any other environment is beyond
        floor = least_variance * whole
        kept = variances >= min(floor, variances.max())
        lengths = np.sqrt(variances[kept] + floor)
        axes, alone = np.ascontiguousarray(axes[:, kept]), np.zeros((0, x.shape[1]))
        return cls(centre, axes, lengths, floor**0.5, alone)

    @classmethod
    def learned(
        cls,
        frames: Sequence[np.ndarray],
        quantile: float = QUANTILE,
        n_folds: int = N_FOLDS,
    ) -> TermRange:
        """Return the range of frames, each with features (n_env, n_features).

        They are left out in `n_folds` parts; a quantile of their largest distances is
        grade 1.
        """
        whole = cls.of(np.concatenate(frames))
        farthest = np.zeros(len(frames))
        for fold in range(min(n_folds, len(frames))):
            left_out = range(fold, len(frames), n_folds)
            others = [x for s, x in enumerate(frames) if s not in left_out] or frames
            own = cls.of(np.concatenate(others))
            for s in left_out:
                # Others that are all the same measure by no length of the data.
                farthest[s] = max(r.grades(frames[s]).max() for r in (own, whole))
        return whole.scaled(MARGIN * max(1.0, tail_quantile(farthest, quantile)))

    def scaled(self, factor: float) -> TermRange:
        """Return a range of which all lengths are multiplied by a number."""
        return replace(self, lengths=factor * self.lengths, rest=factor * self.rest)

    def grades(self, x: np.ndarray, outside: np.ndarray | float = 0.0) -> np.ndarray:
        """Return the distances (n_env,) of features (n_env, n_features).

        `outside` (n_env,) are squared lengths along directions that are no features.
        """
        outside = np.maximum(outside - self.outside, 0.0)
        away = x - self.centre
        along = away @ self.axes
        square = np.einsum("ed,ed->e", away, away) - np.einsum("ea,ea->e", along, along)
        square = (np.maximum(square, 0.0) + outside) / self.rest**2
        square += np.square(along / self.lengths).sum(axis=1)
        for x_alone in self.alone:
            apart = np.square(x - x_alone).sum(axis=1) + outside
            square = np.minimum(square, apart / self.rest**2)
        return np.sqrt(square)


def _principal_axes(x):
    """Return variances along orthonormal axes, and these, (n_features, n_axes)."""
    if len(x) < x.shape[1]:
        _, spread, axes = np.linalg.svd(x, full_matrices=False)
        return spread**2 / len(x), axes.T
    variances, axes = np.linalg.eigh(x.T @ x / len(x))
    return np.maximum(variances, 0.0), axes


def tail_quantile(
    values: np.ndarray, quantile: float = QUANTILE, tail: float = TAIL
) -> float:
    """Return a quantile of positive values beyond those that are there.

    The largest of them, a share of `tail`, are taken to fall off exponentially, so few
    values leave a margin above their largest one.

    >>> values = -np.log(1.0 - np.arange(0.5, 1000.0) / 1000.0)
    >>> round(tail_quantile(values), 1)  # log(1000)
    6.9
    """
    values = np.sort(values)
    n_tail = min(max(5, round(tail * len(values))), len(values) - 1)
    if n_tail < 1:
        return LONELY_MARGIN * float(values[-1])
    start = values[-n_tail - 1]
    excess = np.mean(values[-n_tail:] - start)
    share = n_tail / len(values) / (1.0 - quantile)
    return float(max(np.quantile(values, quantile), start + excess * np.log(share)))


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
            held = f"from {trained:.2f} Å on" if np.isfinite(trained) else "none"
            return (
                f"It holds {names} pairs at {dist:.2f} Å, and the training set {held}."
            )
    return None
