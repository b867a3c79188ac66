"""K_nm: covariances of energies, forces and virials with inducing environments."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kforce.core.sparse_rows import add_members
from kforce.neighbours import Neighbours
from kforce.sparse.term import SparseTerm
from kforce.structures import Batch

#: The six components of a virial, as they stand in rows: xx, xy, xz, yy, yz, zz.
VIRIAL_COMPONENTS = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))

#: Environments that are compared, and derivatives that are held, at a time.
_ENVIRONMENTS, _NUMBERS = 1024, 1_000_000


@dataclass(frozen=True)
class SparseRows:
    """Covariances of the observables of structures with inducing environments.

    Attributes
    ----------
    energies : ndarray of shape (n_structures, n_inducing)
        Of energies.
    forces : ndarray of shape (n_atoms, 3, n_inducing) or None
        Of force components.
    virials : ndarray of shape (n_structures, 6, n_inducing) or None
        Of components of the virial −∂E/∂ε, see `VIRIAL_COMPONENTS`.
    """

    energies: np.ndarray
    forces: np.ndarray | None
    virials: np.ndarray | None


def sparse_rows(
    terms: Sequence[SparseTerm],
    batch: Batch,
    neighbours: Neighbours,
    with_forces: bool = True,
    with_virials: bool = False,
) -> SparseRows:
    """Compute the covariances of some structures with all inducing environments.

    Parameters
    ----------
    terms : sequence of SparseTerm
        Their inducing environments follow one another in the columns.
    batch : Batch
        The structures.
    neighbours : Neighbours
        Of all their atoms, within the largest cutoff of the terms.
    with_forces, with_virials : bool
        Whether forces are wanted, and virials as well: not without forces.
    """
    if with_virials and not with_forces:
        raise ValueError("virials come with forces")
    n_inducing = sum(term.n_inducing for term in terms)
    owner = np.repeat(np.arange(batch.n_structures), np.diff(batch.offsets))
    energies = np.zeros((batch.n_structures, n_inducing))
    forces = np.zeros((len(owner) if with_forces else 0, 3, n_inducing))
    virials = np.zeros((batch.n_structures if with_virials else 0, 6, n_inducing))
    first = 0
    for term in terms:
        columns = slice(first, first + term.n_inducing)
        # Whole arrays of their own: the compiled loops run over contiguous rows.
        parts = [np.zeros((*a.shape[:-1], term.n_inducing)) for a in (forces, virials)]
        environments = term.descriptor(batch.numbers, neighbours)
        energies[:, columns] = _add_term(
            term, environments, owner, batch.n_structures, with_forces, *parts
        )
        forces[..., columns], virials[..., columns] = parts
        first += term.n_inducing
    return SparseRows(
        energies, forces if with_forces else None, virials if with_virials else None
    )


def _add_term(term, environments, owner, n_structures, with_forces, forces, virials):
    """Fill the rows of one term, and return those of energies."""
    times, n_features = float(environments.multiplicity), environments.x.shape[1]
    structures = owner[environments.centres]
    energies = np.zeros((n_structures, term.n_inducing))
    for first in range(0, len(structures), _ENVIRONMENTS):
        own = slice(first, first + _ENVIRONMENTS)
        k, _ = term.compare(environments.x[own], orders=(0,))
        k *= (times * environments.fade[own])[:, None]
        np.add.at(energies, structures[own], k)
    if not with_forces:
        return energies
    to_center = np.ascontiguousarray((term.scaled_centers / term.length_scales).T)
    most = max(1, _NUMBERS // (3 * term.n_inducing))
    for piece in (p for block in environments.jacobians() for p in block.pieces(most)):
        first = piece.environments.min()
        own = slice(first, piece.environments.max() + 1)
        k, slope = term.compare(environments.x[own])
        of_x, of_center = term.gradients(slope)
        along_center = piece.dx.reshape(-1, n_features) @ to_center
        if times != 1.0:
            along_center *= times
        along_x = np.zeros((0, 3))
        if of_x is not None:
            scaled = environments.x[piece.environments] / term.length_scales**2
            along_x = np.einsum("pcd,pd->pc", piece.dx, scaled)
        add_members(
            piece.environments - first,
            piece.centres,
            piece.atoms,
            piece.vec,
            along_center.reshape(len(piece.atoms), 3, term.n_inducing),
            times * along_x,
            times * piece.dfade,
            environments.fade[own],
            k,
            np.zeros((0, 0)) if of_x is None else of_x,
            of_center,
            owner,
            forces,
            virials,
        )
    return energies
