"""Triplets of an atom and two of its neighbours, described by their distances."""

from __future__ import annotations

from itertools import combinations_with_replacement, product

import numpy as np

from kforce.descriptors._few_body import triplet_starts, triplets
from kforce.descriptors.few_body import (
    FewBody,
    FewBodyEnvironments,
    check_element,
    is_element,
)
from kforce.registry import register


@register
class ThreeBody(FewBody):
    """Triplets of atoms: x = (r_ij + r_ik, (r_ij − r_ik)², r_jk) of a centre i.

    They do not change when the neighbours j and k trade places. Each pair of neighbours
    is one environment of the centre and counts twice, once for each order, as it does
    in ``angle_3b`` of QUIP. It fades as F = f(r_ij) f(r_ik); r_jk may be any.

    Parameters
    ----------
    cutoff : float
        Of r_ij and r_ik, in Å.
    centre : int, default=None
        Atomic number of the centre; None for any.
    species : (int or None, int or None), default=None
        Atomic numbers of the neighbours, in any order; None in it stands for any
        element. If both `centre` and `species` are None, a descriptor is made for each
        centre and each pair of elements of the training set.
    transition_width : float, default=0.5
        f falls from 1 to 0 over this length before the cutoff, in Å.

    References
    ----------
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015).

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.neighbours.search import find_neighbours
    >>> from kforce.structures import Batch
    >>> batch = Batch.from_frames([molecule("H2O")])
    >>> angle = ThreeBody(cutoff=3.0, centre=8, species=(1, 1))
    >>> environments = angle(batch.numbers, find_neighbours(batch, 3.0))
    >>> environments.x.round(3)
    array([[1.937, 0.   , 1.526]])
    >>> environments.multiplicity
    2
    """

    #: r_ij + r_ik, (r_ij − r_ik)² and r_jk.
    n_features = 3

    def __init__(self, *, cutoff, centre=None, species=None, transition_width=0.5):
        self.cutoff = cutoff
        self.centre = centre
        self.species = species
        self.transition_width = transition_width

    def for_species(self, species: tuple[int, ...]) -> list[ThreeBody]:
        """Return one descriptor for each triplet of elements, unless some are given."""
        self.check()
        if self.centre is not None or self.species is not None:
            return [self]
        parameters = self.get_params()
        ends = combinations_with_replacement(species, 2)
        return [
            ThreeBody(**parameters | {"centre": centre, "species": pair})
            for centre, pair in product(species, ends)
        ]

    def __call__(self, numbers, neighbours):
        """Return the triplets of the centres, centre after centre."""
        self.check()
        neighbours = neighbours.within(self.cutoff)
        neighbours = neighbours.of(
            is_element(numbers[neighbours.central_atoms], self.centre)
        )
        a, b = (None, None) if self.species is None else self.species
        elements = numbers[neighbours.atoms]
        used = is_element(elements, a) | is_element(elements, b)
        neighbours, elements = neighbours.keep(used), elements[used]
        first, second = is_element(elements, a), is_element(elements, b)
        starts = triplet_starts(neighbours.offsets, first, second)
        n = int(starts[-1])
        members = np.empty((n, 2), dtype=np.intp)
        x, f_cut = np.empty((n, 3)), np.empty(n)
        dx_dr, df_dr = np.empty((n, 3, 3)), np.empty((n, 3))
        triplets(
            neighbours.offsets, first, second, starts, neighbours.vec, neighbours.dist,
            float(self.cutoff), float(self.transition_width),
            members, x, f_cut, dx_dr, df_dr,
        )  # fmt: skip
        return FewBodyEnvironments(
            x, f_cut, np.repeat(neighbours.central_atoms, np.diff(starts)), 2,
            neighbours.atoms[members], neighbours.vec[members], dx_dr, df_dr,
        )  # fmt: skip

    def check(self):  # noqa: D102
        super().check()
        check_element("centre", self.centre)
