"""Which element an atom is of: features of a term that learns energies of atoms."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from kforce.descriptors.local import Environments, Jacobian, LocalDescriptor
from kforce.neighbours.search import Neighbours
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

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.neighbours.search import find_neighbours
    >>> from kforce.structures import Batch
    >>> batch = Batch.from_frames([molecule("H2O")])
    >>> neighbours = find_neighbours(batch, 2.0)
    >>> Composition(species=(1, 8))(batch.numbers, neighbours).x
    array([[0., 1.],
           [1., 0.],
           [1., 0.]])
    """

    #: No neighbours matter, but a list of them has a cutoff.
    cutoff = 0.1

    def __init__(self, *, species):
        self.species = species

    def for_species(self, species: tuple[int, ...]) -> list[LocalDescriptor]:
        """Return this descriptor: it names its elements."""
        return [self]

    def __call__(self, numbers: np.ndarray, neighbours: Neighbours) -> Environments:
        """Return the environments of the centres of a neighbour list."""
        own = numbers[neighbours.central_atoms]
        x = (own[:, None] == np.array(self.species)).astype(float)
        return _Constant(x, np.ones(len(x)), neighbours.central_atoms, 1)


class _Constant(Environments):
    """Environments that no motion changes."""

    def jacobians(self) -> Iterator[Jacobian]:
        return iter(())
