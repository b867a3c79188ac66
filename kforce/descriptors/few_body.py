"""Environments that are pairs or triplets of atoms, described by distances."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from kforce.descriptors._few_body import few_body_jacobian, few_body_pull
from kforce.descriptors.local import (
    HEAVIEST_ELEMENT,
    Environments,
    Jacobian,
    LocalDescriptor,
    is_atomic_number,
)
from kforce.errors import InputError, check_positive

#: Size of a block of dense derivatives.
_BLOCK_BYTES = 16e6


@dataclass(frozen=True)
class FewBodyEnvironments(Environments):
    """Environments of one or two members, which are functions of distances.

    A pair has one distance, a triplet has three: those from the centre to both members
    and the one between them. Derivatives are kept along distances, and become those
    along positions when needed.

    `atoms` (n_env, n_members) are the members, counted within the batch, and `vec`
    (n_env, n_members, 3) points from the centre to them, in Å; `dx_dr` (n_env,
    n_distances, n_features) and `df_dr` (n_env, n_distances) are derivatives of x and
    F with respect to the distances.
    """

    atoms: np.ndarray
    vec: np.ndarray
    dx_dr: np.ndarray
    df_dr: np.ndarray

    def jacobians(self) -> Iterator[Jacobian]:  # noqa: D102
        n_members, n_features = self.atoms.shape[1], self.x.shape[1]
        n_bytes = 8 * n_members * (3 * n_features + 9)
        size = max(1, int(_BLOCK_BYTES / n_bytes))
        for start in range(0, len(self.x), size):
            stop = min(start + size, len(self.x))
            block = slice(start, stop)
            dx = np.empty((stop - start, n_members, 3, n_features))
            df_cut = np.empty((stop - start, n_members, 3))
            few_body_jacobian(
                self.vec[block], self.dx_dr[block], self.df_dr[block], dx, df_cut
            )
            yield Jacobian(
                np.repeat(np.arange(start, stop), n_members),
                np.repeat(self.central_atoms[block], n_members),
                self.atoms[block].ravel(),
                self.vec[block].reshape(-1, 3),
                dx.reshape(-1, 3, n_features),
                df_cut.reshape(-1, 3),
            )

    def pull(self, by_x, by_f_cut, gradient, strain):  # noqa: D102
        few_body_pull(
            self.central_atoms, self.atoms, self.vec, self.dx_dr, self.df_dr,
            by_x, by_f_cut, gradient, strain,
        )  # fmt: skip


class FewBody(LocalDescriptor):
    """Base of descriptors of pairs and triplets.

    Subclasses have the parameters `species`, which may be None, and `transition_width`.
    """

    can_be_tabulated = True

    def check(self):  # noqa: D102
        super().check()
        check_positive("transition_width", self.transition_width, "length in Å")
        if self.transition_width > self.cutoff:
            raise InputError(
                f"transition_width must be at most the cutoff ({self.cutoff!r}), found "
                f"{self.transition_width!r}."
            )
        species = self.species
        if species is None:
            return
        if not isinstance(species, tuple | list) or len(species) != 2:
            raise InputError(
                "species must be two atomic numbers, as (14, 6), or None for all, "
                f"found {species!r}."
            )
        for number in species:
            check_element("species", number)


def check_element(name: str, number) -> None:
    """Raise an error unless a value is an atomic number or None."""
    if number is not None and not is_atomic_number(number):
        raise InputError(
            f"{name} must be given as atomic numbers from 1 to {HEAVIEST_ELEMENT}, or "
            f"None for any element, found {number!r}."
        )


def is_element(numbers: np.ndarray, number: int | None) -> np.ndarray:
    """Return which atoms (n,) are of an element; all are if it is None."""
    return np.ones(len(numbers), dtype=bool) if number is None else numbers == number
