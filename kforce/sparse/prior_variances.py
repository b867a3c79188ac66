"""Prior variances of what is observed of a structure."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from kforce.neighbours import Neighbours
from kforce.sparse.functionals import derivative_covariance, energy_variance
from kforce.sparse.rows import VIRIAL_COMPONENTS
from kforce.sparse.term import SparseTerm
from kforce.structures import Batch


def prior_variances(
    terms: Sequence[SparseTerm],
    batch: Batch,
    neighbours: Neighbours,
    with_forces: bool,
    with_virial: bool = False,
) -> np.ndarray:
    """Return the prior variances of energy, forces and virial of one structure.

    Parameters
    ----------
    terms : sequence of SparseTerm
        Their kernels count, their inducing environments do not.
    batch : Batch
        One structure.
    neighbours : Neighbours
        Of its atoms, within the largest cutoff.
    with_forces, with_virial : bool
        Whether they are wanted.

    Returns
    -------
    ndarray of shape (1 + 3 n_atoms + 6,)
        In eV², (eV/Å)² and eV², as far as wanted.
    """
    n_atoms = len(batch.numbers)
    energy, forces, virial = 0.0, np.zeros((n_atoms, 3)), np.zeros(6)
    for term in terms:
        found = term.descriptor(batch.numbers, neighbours)
        if len(found.x) == 0:
            continue
        fade = found.multiplicity * found.fade
        energy += energy_variance(term, found.x, fade)
        if with_forces or with_virial:
            members = _Members(found)
        if with_forces:
            forces += members.of_forces(term, n_atoms)
        if with_virial:
            virial += members.of_virial(term)
    parts = [[energy]]
    if with_forces:
        parts.append(forces.ravel())
    if with_virial:
        parts.append(virial)
    return np.concatenate(parts)


class _Members:
    """Dense derivatives of all environments of a structure."""

    def __init__(self, environments):
        self._environments = environments
        self._fade = environments.multiplicity * environments.fade
        blocks = list(environments.jacobians())
        self._is_empty = not blocks
        if blocks:
            self._e, self._i, self._j, self._vec, self._dx, self._dfade = (
                np.concatenate([getattr(block, name) for block in blocks])
                for name in ("environments", "centres", "atoms", "vec", "dx", "dfade")
            )

    def of_forces(self, term, n_atoms):
        """Return the variances of force components, (n_atoms, 3)."""
        out = np.zeros((n_atoms, 3))
        if self._is_empty:
            return out
        for atom in range(n_atoms):
            # Moved as a member, or, with the opposite sign for all members, as centre.
            is_moved = ((self._i == atom) | (self._j == atom)) & (self._i != self._j)
            members = np.flatnonzero(is_moved)
            if len(members):
                sign = np.where(self._j[members] == atom, 1.0, -1.0)
                motions = sign[:, None, None] * np.eye(3)
                out[atom] = self._variances(term, members, motions)
        return out

    def of_virial(self, term):
        """Return the variances of the components of the virial, (6,)."""
        if self._is_empty:
            return np.zeros(6)
        strains = np.zeros((6, 3, 3))
        for t, (a, b) in enumerate(VIRIAL_COMPONENTS):
            strains[t, a, b] += 0.5
            strains[t, b, a] += 0.5
        motions = np.einsum("pa,tac->ptc", self._vec, strains)
        return self._variances(term, np.arange(len(self._e)), motions)

    def _variances(self, term, members, motions):
        """Return prior variances along motions (n_members, n_motions, 3)."""
        used, place = np.unique(self._e[members], return_inverse=True)
        n_motions, n_features = motions.shape[1], self._dx.shape[2]
        tangents = np.zeros((len(used), n_motions, n_features))
        fading = np.zeros((len(used), n_motions))
        np.add.at(
            tangents, place, np.einsum("pcd,pqc->pqd", self._dx[members], motions)
        )
        along = np.einsum("pc,pqc->pq", self._dfade[members], motions)
        np.add.at(fading, place, self._environments.multiplicity * along)
        covariance = derivative_covariance(
            term,
            self._environments.x[used],
            self._fade[used],
            tangents.transpose(1, 0, 2),
            fading.T,
        )
        return np.diag(covariance)
