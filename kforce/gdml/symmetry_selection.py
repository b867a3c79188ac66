"""Which exchanges of like atoms a fit adds to the group that the data show.

All of them are symmetries of physics, so that a larger group is never wrong: it sees
more arrangements of the same structures, at a cost that grows with their number. What
it brings is measured by leaving structures out of a plain kernel of inverse distances.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from kforce.bonds import distances_between
from kforce.descriptors.inverse_distances import InverseDistances
from kforce.gdml.leave_one_out import score
from kforce.gdml.model_selection import MAX_IMAGES, MAX_STRUCTURES
from kforce.gdml.observations import Observations
from kforce.gdml.prior import Prior
from kforce.gdml.subsets import random_subset
from kforce.kernels.stationary import Matern52
from kforce.labels import Labels
from kforce.structures import Batch
from kforce.symmetry.exchanges import are_exchanged, exchanged_atoms, extended_groups
from kforce.symmetry.groups import closure, generators
from kforce.symmetry.numbering import Numbering, find_numbering
from kforce.symmetry.recovery import find_permutations

_log = logging.getLogger("kforce.choice")

#: Products of Cartesian components in the covariance matrix, over all permutations, up
#: to which a group is affordable: minutes of one core.
_MAX_WORK = 1e11

#: Length scales that are tried, as logarithms of multiples of the spread of the data.
_LENGTHS = (-1.0, 0.5, 2.0, 3.5)

#: With fewer structures than this, nothing is compared.
_MIN_STRUCTURES = 10

#: A larger group loses where its errors are larger by so many standard errors.
_CLEARLY = 2.0


@dataclass(frozen=True)
class Symmetry:
    """The group of a fit, and its training set in the numbering that the group is for.

    The `numbering` is None where that of the given frames will do.
    """

    permutations: np.ndarray
    frames: list[Atoms]
    labels: Labels
    numbering: Numbering | None = None


def find_symmetry(
    frames: list[Atoms], labels: Labels, max_permutations: int, seed: int
) -> Symmetry:
    """Return the symmetry of frames of one molecule with forces.

    Atoms are numbered anew where like ones are in no consistent order. The group is the
    recovered one unless bonds of atoms break that have like atoms beside them. Of the
    larger groups that can be afforded, the largest is taken that is not clearly worse
    than any other one.
    """
    if frames[0].pbc.any():
        group = find_permutations(frames, max_permutations, seed)
        return Symmetry(group, frames, labels)
    n_rows = sum(len(frame) for frame in frames) * 3
    limit = int(min(max_permutations, max(1.0, _MAX_WORK / (0.5 * n_rows**2))))
    numbering, required = find_numbering(frames, limit)
    if numbering is not None:
        frames, orders = numbering.apply(frames)
        labels = labels.in_order(orders)
        _log.info(
            "like atoms are in no consistent order: those of %d of %d frames are "
            "numbered by bonds that last, %d permutations are equivalent",
            sum(bool((np.diff(order) != 1).any()) for order in orders),
            len(frames),
            len(required),
        )
    group = find_permutations(frames, max_permutations, seed)
    if numbering is not None:
        factors = [*generators(required), *generators(group)]
        joined = closure(factors, len(frames[0]), limit)
        group = required if joined is None else joined
    # With more, scales would be learned from fewer structures.
    limit = min(limit, MAX_IMAGES // min(len(frames), MAX_STRUCTURES))
    group = _with_exchanges(group, frames, labels, limit, seed)
    return Symmetry(group, frames, labels, numbering)


def _with_exchanges(recovered, frames, labels, limit, seed):
    """Return the recovered group, or one with exchanges that pay."""
    batch = Batch.from_frames(frames)
    positions = batch.positions.reshape(batch.n_structures, -1, 3)
    sets = exchanged_atoms(frames[0].numbers, distances_between(positions))
    sets = [atoms for atoms in sets if not are_exchanged(recovered, atoms)]
    if not sets:
        return recovered
    named = "; ".join(" ".join(map(str, atoms)) for atoms in sets)
    larger = extended_groups(recovered, sets, limit)
    judges = _judges(batch, labels, seed)
    if not larger or len(judges) < _MIN_STRUCTURES:
        _log.info(
            "bonds of the like atoms %s break; %d permutations are kept, as no larger "
            "group has %d at most, or there are few structures",
            named,
            len(recovered),
            limit,
        )
        return recovered
    groups = [*larger, recovered]
    errors = _left_out_errors(groups, batch.take(judges), labels.take(judges))
    if not np.isfinite(errors).all():
        return recovered
    excess = errors - errors[np.argmin(errors.mean(axis=1))]
    margin = _CLEARLY * excess.std(axis=1, ddof=1) / np.sqrt(len(judges))
    chosen = int(np.argmax(excess.mean(axis=1) <= margin))
    is_larger = chosen < len(larger)
    other = len(larger) if is_larger else 0
    _log.info(
        "exchange of the like atoms %s %s: %d permutations; left-out force error %.1f "
        "instead of %.1f meV/Å with %d",
        named,
        "added" if is_larger else "does not pay",
        len(groups[chosen]),
        1e3 * errors[chosen].mean(),
        1e3 * errors[other].mean(),
        len(groups[other]),
    )
    return groups[chosen]


def _judges(batch, labels, seed):
    """Choose different structures with forces, at random."""
    x = np.sort(InverseDistances()(batch).x, axis=1).round(8)
    sizes = np.full(batch.n_structures, len(labels.forces[0]) * 3)
    chosen = random_subset(sizes, x, np.random.default_rng(seed))
    return chosen[labels.has_forces[chosen]]


def _left_out_errors(groups, batch, labels):
    """Force errors of structures, with the best length scale of each group.

    In eV/Å, (n_groups, n_structures).
    """
    observations = Observations.build(batch, labels)
    features = InverseDistances()(batch)
    lengths = np.sqrt(2.0 * features.x.var(axis=0).sum()) * np.exp(_LENGTHS)
    kernels = [Matern52(length_scale=float(length)) for length in lengths]
    everything = np.arange(batch.n_structures)

    def errors(group):
        scores = [score(Prior(k, group), features, observations) for k in kernels]
        tried = [one.errors_of(everything) for one in scores]
        return min(tried, key=np.mean)

    return np.array([errors(group) for group in groups])
