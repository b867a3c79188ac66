"""Which element an atom is of: features of a term that learns energies of atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kforce.descriptors.few_body import check_element
from kforce.descriptors.local import (
    Environments,
    Jacobian,
    LocalDescriptor,
    TermDefaults,
)
from kforce.kernels.dot_product import Polynomial
from kforce.registry import register


@register
class Composition(LocalDescriptor):
    """One feature for each element, 1 for atoms of it and 0 for others.

    With the kernel of products of ζ = 1, a term of it is a sum of independent energies
    of atoms.

    Parameters
    ----------
    species : tuple of int
        Atomic numbers.
    """

    #: No neighbours matter, but a list of them has a cutoff.
    cutoff = 0.1

    defaults = TermDefaults(Polynomial(zeta=1))
    is_composition = True

    def __init__(self, *, species):
        self.species = species

    @property
    def n_features(self) -> int:
        """One for each element."""
        return len(self.species)

    def check(self):  # noqa: D102
        for number in self.species:
            check_element("species", number)

    def __call__(self, numbers, neighbours):  # noqa: D102
        elements = numbers[neighbours.central_atoms]
        x = (elements[:, None] == np.array(self.species)).astype(float)
        return _Constant(x, np.ones(len(x)), neighbours.central_atoms, 1)


class _Constant(Environments):
    """Environments that no motion changes."""

    def jacobians(self) -> Iterator[Jacobian]:
        return iter(())
