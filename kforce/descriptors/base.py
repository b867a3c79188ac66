"""What every descriptor of whole molecules offers: features, and the maps to space."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from sklearn.base import BaseEstimator

from kforce.descriptors._coordinates import pull, push
from kforce.errors import InputError
from kforce.registry import check_instance
from kforce.structures import Batch


@dataclass(frozen=True)
class Coordinates:
    """The internal coordinates of a molecule, and which features depend on which.

    A coordinate and its reverse, (a, b, …, z) and (z, …, b, a), are the same.

    Attributes
    ----------
    atoms : ndarray of int, shape (n_coordinates, n_body_max)
        The atoms that each coordinate touches; unused places hold 0.
    n_body : ndarray of int, shape (n_coordinates,)
        How many of them there are.
    first : ndarray of int, shape (n_coordinates + 1,)
        Coordinate g has the features ``first[g]:first[g + 1]``.
    """

    atoms: np.ndarray
    n_body: np.ndarray
    first: np.ndarray

    def images(self, permutations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return where atom permutations take the features and the coordinates.

        Parameters
        ----------
        permutations : ndarray of int, shape (n_perms, n_atoms)
            ``positions[p]`` is the permuted structure.

        Returns
        -------
        feature_perms : ndarray of shape (n_perms, n_features)
            ``x[:, feature_perms[s]]`` are the features of the permuted structures.
        coordinate_perms : ndarray of shape (n_perms, n_coordinates)
            The same for the coordinates.

        Raises
        ------
        InputError
            If a permutation takes a coordinate to one that the descriptor lacks.
        """
        coordinate_perms = np.empty((len(permutations), len(self.atoms)), dtype=np.intp)
        for n in np.unique(self.n_body):
            members = np.flatnonzero(self.n_body == n)
            atoms = self.atoms[members, :n]
            names = _names(atoms, permutations.shape[1])
            order = np.argsort(names)
            wanted = _names(permutations[:, atoms], permutations.shape[1])
            places = np.searchsorted(names, wanted, sorter=order) % len(names)
            image = order[places]
            if (names[image] != wanted).any():
                s, g = np.argwhere(names[image] != wanted)[0]
                raise InputError(
                    "The descriptor is not symmetric under the permutations: "
                    f"permutation {s} takes the coordinate of atoms "
                    f"{atoms[g].tolist()} to none of its own."
                )
            coordinate_perms[:, members] = members[image]
        owner = np.repeat(np.arange(len(self.atoms)), np.diff(self.first))
        offset = np.arange(self.first[-1]) - self.first[owner]
        return self.first[coordinate_perms[:, owner]] + offset, coordinate_perms

    def atoms_of(self, feature: int) -> np.ndarray:
        """Return the atoms that the coordinate of a feature touches."""
        g = np.searchsorted(self.first, feature, side="right") - 1
        return self.atoms[g, : self.n_body[g]]

    def components(self, coordinates: np.ndarray) -> np.ndarray:
        """Return the Cartesian components that some coordinates depend on, sorted."""
        used = np.arange(self.atoms.shape[1]) < self.n_body[coordinates, None]
        atoms = np.unique(self.atoms[coordinates][used])
        return (3 * atoms[:, None] + np.arange(3)).ravel()


def _names(atoms, n_atoms):
    """One number for a coordinate and its mirror image (a, b, …, z) = (z, …, b, a)."""
    powers = n_atoms ** np.arange(atoms.shape[-1])
    return np.minimum(atoms @ powers, atoms[..., ::-1] @ powers)


@dataclass(frozen=True)
class Features:
    """Descriptors of structures of one molecule, with their Jacobians.

    Attributes
    ----------
    x : ndarray of shape (n_structures, n_features)
        The descriptor.
    dx_dq : ndarray of shape (n_structures, n_features)
        ∂x_k/∂q_g, where q_g is the coordinate of feature k.
    b_matrix : ndarray of shape (n_structures, n_coordinates, n_body_max, 3)
        ∂q_g/∂r_a, the rows of Wilson's B matrix.
    coordinates : Coordinates
        What the indices mean.
    n_atoms : int
        Atoms of one structure.
    """

    x: np.ndarray
    dx_dq: np.ndarray
    b_matrix: np.ndarray
    coordinates: Coordinates
    n_atoms: int

    def take(self, structures: np.ndarray) -> Features:
        """Return the features of some of the structures."""
        arrays = (a[structures] for a in (self.x, self.dx_dq, self.b_matrix))
        return Features(*arrays, self.coordinates, self.n_atoms)

    def pull(self, gradient: np.ndarray) -> np.ndarray:
        """Return Jᵀ g: gradients in x (n, n_features) to Cartesian (n, n_atoms, 3)."""
        out = np.zeros((len(self.x), self.n_atoms, 3))
        gradient = np.ascontiguousarray(gradient, dtype=float)
        pull(self.dx_dq, self.b_matrix, *self._indices(), gradient, out)
        return out

    def push(self, displacement: np.ndarray) -> np.ndarray:
        """Return J u: displacements (n, n_atoms, 3) to tangents (n, n_features)."""
        out = np.empty_like(self.x)
        displacement = np.ascontiguousarray(displacement, dtype=float)
        push(self.dx_dq, self.b_matrix, *self._indices(), displacement, out)
        return out

    def _indices(self):
        c = self.coordinates
        return c.atoms, c.n_body, c.first


class Descriptor(BaseEstimator):
    """Base of all descriptors of whole molecules.

    Subclasses define `coordinates` and `__call__`. Features are smooth functions of
    one internal coordinate each.
    """

    #: Whether models learn a scale for each kind of features where no kernel is given.
    learns_scales = False

    def bind(self, batch: Batch, permutations: np.ndarray | None = None) -> Descriptor:
        """Return the descriptor as training structures define it: itself here.

        Parameters
        ----------
        batch : Batch
            Training structures.
        permutations : ndarray of int, shape (n_perms, n_atoms), optional
            Symmetries that it has to have.
        """
        return self

    def __call__(self, batch: Batch) -> Features:
        """Return the features of structures that all hold the same atoms.

        Raises
        ------
        InputError
            If the structures cannot be described.
        """
        raise NotImplementedError

    def coordinates(self, n_atoms: int) -> Coordinates:
        """Return the internal coordinates of a molecule of so many atoms."""
        raise NotImplementedError

    def n_features(self, n_atoms: int) -> int:
        """Return the number of features of a molecule of so many atoms."""
        return int(self.coordinates(n_atoms).first[-1])

    def parts(self, n_atoms: int) -> list[np.ndarray]:
        """Return sets of features that an energy of many parts may be made of.

        Returns
        -------
        list of ndarray of bool, shape (n_parts, n_features)
            Kinds of parts, each closed under permutations of equivalent atoms.
        """
        return []

    def describe(
        self, n_atoms: int, feature: int, value: float, low: float, high: float
    ) -> str:
        """Say in a sentence that one feature leaves the range low … high."""
        atoms = "-".join(map(str, self.coordinates(n_atoms).atoms_of(feature)))
        return (
            f"Feature {feature}, of atoms {atoms}, is {value:.3g}, outside of the "
            f"range in training ({low:.3g} to {high:.3g})."
        )


def check_descriptor(descriptor: Descriptor | None) -> None:
    """Raise an error unless `descriptor` is a descriptor or None."""
    expected = "None or a descriptor such as InverseDistances()"
    check_instance("descriptor", descriptor, Descriptor | None, expected)
