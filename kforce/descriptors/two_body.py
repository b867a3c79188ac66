"""Pairs of atoms, described by powers of their distance."""

from __future__ import annotations

from itertools import combinations_with_replacement
from numbers import Integral, Real

import numpy as np

from kforce.descriptors._few_body import pairs
from kforce.descriptors.few_body import FewBody, FewBodyEnvironments, is_element
from kforce.descriptors.local import TermDefaults
from kforce.errors import InputError
from kforce.kernels.stationary import RBF
from kforce.registry import register


@register
class TwoBody(FewBody):
    """Pairs of atoms: x = r^e, for one or more exponents e.

    Each neighbour of an atom is an environment of that atom, so each bond counts twice,
    once at both of its ends. It fades as F = f(r) [erf(κ r)/r]^m. The same as
    ``distance_2b`` of QUIP.

    Parameters
    ----------
    cutoff : float
        In Å.
    species : (int or None, int or None), default=None
        Atomic numbers of both atoms, in any order; None in it stands for any element.
        None makes a descriptor for each pair of elements of the training set.
    transition_width : float, default=0.5
        f falls from 1 to 0 over this length before the cutoff, in Å.
    exponents : sequence of int, default=(1,)
        e, one for each feature.
    tail : (int, float), default=None
        m and κ in 1/Å; None leaves the factor out.

    References
    ----------
    Bartók and Csányi, Int. J. Quantum Chem. 115, 1051 (2015).

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.neighbours.search import find_neighbours
    >>> from kforce.structures import Batch
    >>> batch = Batch.from_frames([molecule("H2O")])
    >>> bonds = TwoBody(cutoff=3.0, species=(8, 1))
    >>> environments = bonds(batch.numbers, find_neighbours(batch, 3.0))
    >>> environments.x.ravel().round(3)
    array([0.969, 0.969, 0.969, 0.969])
    >>> environments.central_atoms
    array([0, 0, 1, 2])
    """

    defaults = TermDefaults(RBF(), n_inducing=20, selection="uniform")

    def __init__(
        self, *, cutoff, species=None, transition_width=0.5, exponents=(1,), tail=None
    ):
        self.cutoff = cutoff
        self.species = species
        self.transition_width = transition_width
        self.exponents = exponents
        self.tail = tail

    @property
    def n_features(self) -> int:
        """One for each exponent."""
        return len(self.exponents)

    @property
    def is_for_all_pairs(self) -> bool:
        """Whether it stands for the distances of all pairs of elements."""
        return self.species is None and tuple(self.exponents) == (1,)

    def for_species(self, species: tuple[int, ...]) -> list[TwoBody]:
        """Return one descriptor for each pair of elements, unless a pair is given."""
        self.check()
        if self.species is not None:
            return [self]
        parameters = self.get_params()
        return [
            TwoBody(**parameters | {"species": pair})
            for pair in combinations_with_replacement(species, 2)
        ]

    def __call__(self, numbers, neighbours):
        """Return the pairs of the centres, in the order of their neighbours."""
        self.check()
        neighbours = neighbours.within(self.cutoff)
        owners = neighbours.central_atoms[neighbours.owners]
        if self.species is not None:
            a, b = self.species
            one, other = numbers[owners], numbers[neighbours.atoms]
            kept = is_element(one, a) & is_element(other, b)
            kept |= is_element(one, b) & is_element(other, a)
            neighbours, owners = neighbours.keep(kept), owners[kept]
        exponents = np.array(self.exponents, dtype=np.intp)
        n, d = len(owners), len(exponents)
        x, f_cut = np.empty((n, d)), np.empty(n)
        dx_dr, df_dr = np.empty((n, 1, d)), np.empty((n, 1))
        tail, reach = (0, 1.0) if self.tail is None else self.tail
        pairs(
            neighbours.dist, float(self.cutoff), float(self.transition_width),
            exponents, int(tail), float(reach), x, f_cut, dx_dr, df_dr,
        )  # fmt: skip
        return FewBodyEnvironments(
            x, f_cut, owners, 1,
            neighbours.atoms[:, None], neighbours.vec[:, None], dx_dr, df_dr,
        )  # fmt: skip

    def check(self):  # noqa: D102
        super().check()
        exponents = self.exponents
        good = isinstance(exponents, tuple | list) and len(exponents) > 0
        if not (good and all(isinstance(e, Integral) and e != 0 for e in exponents)):
            raise InputError(
                "exponents must be whole numbers other than 0, as (1,) or (-1, -2), "
                f"found {exponents!r}."
            )
        if self.tail is None:
            return
        good = isinstance(self.tail, tuple | list) and len(self.tail) == 2
        good = good and isinstance(self.tail[0], Integral) and self.tail[0] > 0
        good = good and isinstance(self.tail[1], Real) and 0.0 < self.tail[1] < np.inf
        if not good:
            raise InputError(
                "tail must be a positive whole exponent and a positive range in 1/Å, "
                f"as (6, 1.0), or None, found {self.tail!r}."
            )
