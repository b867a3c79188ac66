"""What every descriptor of atomic environments offers.

An environment e has features x_e and a factor F_e with which it fades where an atom
leaves the cutoff (1 where the features themselves do so). Its members are the
neighbours that they depend on; derivatives with respect to the centre are minus the sum
of those with respect to all members, so strain and forces need no more than those.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator

from kforce.descriptors._environments import pull_members
from kforce.errors import InputError, check_positive
from kforce.kernels.base import Kernel
from kforce.kernels.stationary import RBF
from kforce.neighbours.search import Neighbours

#: Atomic numbers are at most this.
HEAVIEST_ELEMENT = 118

#: Cutoffs are at most this, in Å.
_LONGEST_CUTOFF = 50.0


def is_atomic_number(value) -> bool:
    """Return whether a value is a whole number that an element has."""
    whole = isinstance(value, Integral) and not isinstance(value, bool)
    return whole and 0 < value <= HEAVIEST_ELEMENT


@dataclass(frozen=True)
class Jacobian:
    """Dense derivatives of some environments; blocks of it are made when needed.

    Attributes
    ----------
    environments : ndarray of int, shape (n_members,)
        The environment of each member, counted within all environments.
    central_atoms, atoms : ndarray of int, shape (n_members,)
        The atoms of the centre and of the member, counted within the batch.
    vec : ndarray of shape (n_members, 3)
        From the centre to the member, in Å.
    dx : ndarray of shape (n_members, 3, n_features)
        ∂x/∂r of the member.
    df_cut : ndarray of shape (n_members, 3)
        ∂F/∂r of the member, in 1/Å.
    """

    environments: np.ndarray
    central_atoms: np.ndarray
    atoms: np.ndarray
    vec: np.ndarray
    dx: np.ndarray
    df_cut: np.ndarray


@dataclass(frozen=True)
class Environments:
    """Features of atomic environments, and the way back to positions.

    Subclasses define `jacobians`; where there is a faster way, also `pull`.

    Attributes
    ----------
    x : ndarray of shape (n_env, n_features)
        The descriptor.
    f_cut : ndarray of shape (n_env,)
        F, 1 inside and 0 at the cutoff.
    central_atoms : ndarray of int, shape (n_env,)
        The atom that owns the environment, counted within the batch.
    multiplicity : int
        How often each environment counts.
    """

    x: np.ndarray
    f_cut: np.ndarray
    central_atoms: np.ndarray
    multiplicity: int

    @property
    def outside(self) -> np.ndarray:
        """Squared lengths (n_env,) of what a descriptor left out of its features."""
        return np.zeros(len(self.x))

    @classmethod
    def joined(cls, parts: Sequence[Environments]) -> Environments | None:
        """Return the features of several batches' environments alone; None of none."""
        if not parts:
            return None
        names = ("x", "f_cut", "central_atoms")
        arrays = (np.concatenate([getattr(p, name) for p in parts]) for name in names)
        return cls(*arrays, parts[0].multiplicity)

    def jacobians(self) -> Iterator[Jacobian]:
        """Return the dense derivatives of all environments, block after block."""
        raise NotImplementedError

    def push(self, displacement: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return how features and fading change along a motion of atoms.

        Parameters
        ----------
        displacement : ndarray of shape (n_atoms, 3)
            Of the atoms of the batch.

        Returns
        -------
        tangents : ndarray of shape (n_env, n_features)
            ∂x along the motion.
        fading : ndarray of shape (n_env,)
            ∂F along the motion.
        """
        tangents, fading = np.zeros_like(self.x), np.zeros(len(self.x))
        for block in self.jacobians():
            moved = displacement[block.atoms] - displacement[block.central_atoms]
            along = np.einsum("kcd,kc->kd", block.dx, moved)
            np.add.at(tangents, block.environments, along)
            along = np.einsum("kc,kc->k", block.df_cut, moved)
            np.add.at(fading, block.environments, along)
        return tangents, fading

    def pull(
        self,
        by_x: np.ndarray,
        by_f_cut: np.ndarray,
        gradient: np.ndarray,
        strain: np.ndarray,
    ) -> None:
        """Add derivatives of Σ_e g_e·x_e + h_e F_e with respect to positions.

        Parameters
        ----------
        by_x : ndarray of shape (n_env, n_features)
            g.
        by_f_cut : ndarray of shape (n_env,)
            h.
        gradient : ndarray of shape (n_atoms, 3)
            Receives the derivatives with respect to the atoms of the batch.
        strain : ndarray of shape (n_atoms, 3, 3)
            Receives Σ D_a ∂/∂r_b of the members, at the members' atoms: the sum over
            all atoms is the derivative with respect to a strain of the cell.
        """
        for block in self.jacobians():
            e = block.environments
            along = np.einsum("kcd,kd->kc", block.dx, by_x[e])
            along += block.df_cut * by_f_cut[e, None]
            pull_members(
                block.central_atoms, block.atoms, block.vec, along, gradient, strain
            )


@dataclass(frozen=True)
class DenseEnvironments(Environments):
    """Environments whose dense derivatives are few enough to be held all at once.

    Attributes
    ----------
    jacobian : Jacobian
        Of all environments.
    """

    jacobian: Jacobian

    def jacobians(self) -> Iterator[Jacobian]:  # noqa: D102
        return iter((self.jacobian,))


@dataclass(frozen=True)
class TermDefaults:
    """What a `Term` of a descriptor takes where nothing is said."""

    kernel: Kernel
    n_inducing: int = 100
    selection: str = "cur"


class LocalDescriptor(BaseEstimator):
    """Base of all descriptors of atomic environments.

    Subclasses have a parameter `cutoff` in Å, and define `n_features` and `__call__`.
    """

    cutoff: float

    #: Kernel, number of inducing environments and their selection in a `Term`.
    defaults = TermDefaults(RBF())

    #: Whether features are the distances of a pair or a triplet, so that a spline of
    #: them is a model.
    can_be_tabulated = False

    #: Whether features tell the element of the atom, and nothing else.
    is_composition = False

    #: Whether it stands for the distances of all pairs of elements in a training set.
    is_for_all_pairs = False

    @property
    def n_features(self) -> int:
        """Number of features, for parameters that make sense."""
        raise NotImplementedError

    def check(self) -> None:
        """Raise an error unless all parameters make sense.

        Raises
        ------
        InputError
            That names the first that does not.
        """
        check_positive("cutoff", self.cutoff, "length in Å")
        if self.cutoff > _LONGEST_CUTOFF:
            raise InputError(
                f"cutoff must be at most {_LONGEST_CUTOFF:g} Å, found {self.cutoff!r}: "
                "an atom would have tens of thousands of neighbours. Shorten it, or "
                "check its unit."
            )

    def for_species(self, species: tuple[int, ...]) -> list[LocalDescriptor]:
        """Return the descriptors that this one stands for, once elements are known.

        Parameters
        ----------
        species : tuple of int
            Atomic numbers of the training set, in order of first appearance.
        """
        self.check()
        return [self]

    def __call__(self, numbers: np.ndarray, neighbours: Neighbours) -> Environments:
        """Return the environments of the centres of a neighbour list.

        Parameters
        ----------
        numbers : ndarray of int, shape (n_atoms,)
            Atomic numbers of the whole batch.
        neighbours : Neighbours
            With a cutoff of at least `cutoff`.

        Raises
        ------
        InputError
            If a parameter makes no sense.
        """
        raise NotImplementedError
