"""Environments that are pairs or triplets of atoms, described by distances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np

from kforce.descriptors._few_body import few_body_jacobian, few_body_pull
from kforce.descriptors.local import Environments, Jacobian
from kforce.errors import InputError

#: Size of a block of dense derivatives.
_BLOCK_BYTES = 16e6

#: Cutoffs are at most this, in Å.
_LONGEST = 50.0

#: The heaviest element that has a name.
_HEAVIEST = 118


@dataclass(frozen=True)
class FewBodyEnvironments(Environments):
    """Environments of one or two members, which are functions of distances.

    A pair has one distance, a triplet has three: those from the centre to both members
    and the one between them. Derivatives are kept along distances, and become those
    along positions when needed.

    Attributes
    ----------
    atoms : ndarray of int, shape (n_env, n_members)
        The atoms of the members, counted within the batch.
    vec : ndarray of shape (n_env, n_members, 3)
        From the centre to the members, in Å.
    slopes : ndarray of shape (n_env, n_distances, n_features)
        Derivatives of x with respect to the distances.
    f_cut_slopes : ndarray of shape (n_env, n_distances)
        Derivatives of F with respect to the distances, in 1/Å.

    Examples
    --------
    >>> from ase.build import molecule
    >>> from kforce.descriptors.three_body import ThreeBody
    >>> from kforce.neighbours.search import find_neighbours
    >>> from kforce.structures import Batch
    >>> batch = Batch.from_frames([molecule("H2O")])
    >>> environments = ThreeBody(cutoff=3.0)(batch.numbers, find_neighbours(batch, 3.0))
    >>> [block.dx.shape for block in environments.jacobians()]
    [(6, 3, 3)]
    """

    atoms: np.ndarray
    vec: np.ndarray
    slopes: np.ndarray
    f_cut_slopes: np.ndarray

    def jacobians(self) -> Iterator[Jacobian]:
        """Return the dense derivatives of all environments, block after block."""
        n_members, n_features = self.atoms.shape[1], self.x.shape[1]
        n_bytes = 8 * n_members * (3 * n_features + 9)
        size = max(1, int(_BLOCK_BYTES / n_bytes))
        for start in range(0, len(self.x), size):
            stop = min(start + size, len(self.x))
            block = slice(start, stop)
            dx = np.empty((stop - start, n_members, 3, n_features))
            df_cut = np.empty((stop - start, n_members, 3))
            few_body_jacobian(
                self.vec[block],
                self.slopes[block],
                self.f_cut_slopes[block],
                dx,
                df_cut,
            )
            yield Jacobian(
                np.repeat(np.arange(start, stop), n_members),
                np.repeat(self.central_atoms[block], n_members),
                self.atoms[block].ravel(),
                self.vec[block].reshape(-1, 3),
                dx.reshape(-1, 3, n_features),
                df_cut.reshape(-1, 3),
            )

    def pull(
        self,
        by_x: np.ndarray,
        by_f_cut: np.ndarray,
        gradient: np.ndarray,
        strain: np.ndarray,
    ) -> None:
        """Add derivatives of Σ_e g_e·x_e + h_e F_e, see `Environments.pull`."""
        few_body_pull(
            self.central_atoms, self.atoms, self.vec, self.slopes, self.f_cut_slopes,
            by_x, by_f_cut, gradient, strain,
        )  # fmt: skip


def check_cutoff(cutoff, transition_width) -> None:
    """Raise an error unless both are positive lengths and the width is not the longer.

    Raises
    ------
    InputError
        If they are not.
    """
    if not (isinstance(cutoff, Real) and 0.0 < cutoff < np.inf):
        raise InputError(f"cutoff must be a positive length in Å, found {cutoff!r}.")
    check_reach(cutoff)
    width = transition_width
    if not (isinstance(width, Real) and 0.0 < width <= cutoff):
        raise InputError(
            "transition_width must be a positive length in Å, at most the cutoff "
            f"({cutoff!r}), found {width!r}."
        )


def check_reach(cutoff: float) -> None:
    """Raise an error if a cutoff is longer than any sensible one.

    Raises
    ------
    InputError
        If it is.
    """
    if cutoff > _LONGEST:
        raise InputError(
            f"cutoff must be at most {_LONGEST:g} Å, found {cutoff!r}: an atom would "
            "have tens of thousands of neighbours. Shorten it, or check its unit."
        )


def check_species(species) -> None:
    """Raise an error unless it is a pair of atomic numbers or None.

    Raises
    ------
    InputError
        If it is not.
    """
    if species is None:
        return
    if not isinstance(species, tuple | list) or len(species) != 2:
        raise InputError(
            "species must be two atomic numbers, as (14, 6), or None for all, found "
            f"{species!r}."
        )
    for number in species:
        check_element("species", number)


def check_element(name: str, number) -> None:
    """Raise an error unless a value is an atomic number or None.

    Raises
    ------
    InputError
        If it is not.
    """
    whole = isinstance(number, Integral) and not isinstance(number, bool)
    if number is not None and not (whole and 0 < number <= _HEAVIEST):
        raise InputError(
            f"{name} must be given as atomic numbers from 1 to {_HEAVIEST}, or None "
            f"for any element, found {number!r}."
        )


def is_element(numbers: np.ndarray, number: int | None) -> np.ndarray:
    """Return which atoms (n,) are of an element; all are if it is None."""
    return np.ones(len(numbers), dtype=bool) if number is None else numbers == number
