"""A descriptor seen along few directions of its features."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from kforce.descriptors.local import Environments, Jacobian, LocalDescriptor
from kforce.errors import InputError
from kforce.registry import check_instance, register


@register
class Projected(LocalDescriptor):
    """The features of another descriptor along some directions, Pᵀ x.

    Features of the environments of one material span a small part of their space. A
    kernel of products sees no more of them than Pᵀ x · Pᵀ x′ = x · P Pᵀ x′, so that
    with directions that hold them all, nothing is lost; what is left grows with the
    number of directions only.

    Parameters
    ----------
    descriptor : LocalDescriptor
        The other descriptor, such as `SOAP`, with its elements given.
    matrix : ndarray of shape (n_features, n_directions)
        P, with orthonormal columns.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.descriptors.soap.soap import SOAP
    >>> from kforce.neighbours.search import find_neighbours
    >>> from kforce.structures import Batch
    >>> soap = SOAP(cutoff=3.0, n_max=4, l_max=3, atom_sigma=0.5, centre=6)
    >>> batch = Batch.from_frames([molecule("CH4")])
    >>> projected = Projected(soap, np.eye(41)[:, :5])
    >>> projected(batch.numbers, find_neighbours(batch, 3.0)).x.shape
    (1, 5)
    """

    def __init__(self, descriptor, matrix):
        self.descriptor = descriptor
        self.matrix = matrix

    def __repr__(self, N_CHAR_MAX=700):
        inner = self.descriptor
        if isinstance(inner, LocalDescriptor):
            inner = inner.__repr__(N_CHAR_MAX)
        return f"{type(self).__name__}({inner}, {np.shape(self.matrix)} matrix)"

    @property
    def cutoff(self) -> float:
        """That of the other descriptor, in Å."""
        return self.descriptor.cutoff

    @property
    def defaults(self):
        """Those of the other descriptor."""
        return self.descriptor.defaults

    @property
    def n_features(self) -> int:
        """One for each direction."""
        return np.shape(self.matrix)[1]

    def check(self):  # noqa: D102
        check_instance(
            "The descriptor to project",
            self.descriptor,
            LocalDescriptor,
            "a local descriptor such as SOAP(...)",
        )
        self.descriptor.check()
        shape, n = np.shape(self.matrix), self.descriptor.n_features
        if len(shape) != 2 or shape[0] != n or not 0 < shape[1] <= n:
            raise InputError(
                f"matrix must have {n} rows, one for each feature, and not more "
                f"columns, found the shape {shape}."
            )
        apart = np.abs(self.matrix.T @ self.matrix - np.eye(shape[1])).max()
        if not apart < 1e-6:
            raise InputError(
                "matrix must have orthonormal columns, found products of them that are "
                f"{apart:.1e} off: take the Q of a QR decomposition."
            )

    def __call__(self, numbers, neighbours):  # noqa: D102
        inner = self.descriptor(numbers, neighbours)
        return _ProjectedEnvironments(
            inner.x @ self.matrix,
            inner.f_cut,
            inner.central_atoms,
            inner.multiplicity,
            inner,
            self.matrix,
        )


@dataclass(frozen=True)
class _ProjectedEnvironments(Environments):
    """Environments of a projected descriptor, made of the `inner` ones."""

    inner: Environments
    matrix: np.ndarray

    @property
    def outside(self):
        whole = np.einsum("ed,ed->e", self.inner.x, self.inner.x)
        rest = whole - np.einsum("ed,ed->e", self.x, self.x)
        return np.maximum(rest, 0.0) + self.inner.outside

    def jacobians(self) -> Iterator[Jacobian]:
        n_features, n_directions = self.matrix.shape
        for block in self.inner.jacobians():
            dx = block.dx.reshape(-1, n_features) @ self.matrix
            yield replace(block, dx=dx.reshape(-1, 3, n_directions))

    def pull(self, by_x, by_f_cut, gradient, strain):
        self.inner.pull(by_x @ self.matrix.T, by_f_cut, gradient, strain)
