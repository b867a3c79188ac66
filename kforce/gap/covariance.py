"""Prior covariances of energies, forces and virials of a sparse model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.sparse import csr_array

from kforce.gap._covariance import add_members
from kforce.gap.sparse_term import SparseTerm
from kforce.neighbours.search import Neighbours
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
    structures = owner[environments.central_atoms]
    energies = np.zeros((n_structures, term.n_inducing))
    for first in range(0, len(structures), _ENVIRONMENTS):
        own = slice(first, first + _ENVIRONMENTS)
        k, _ = term.compare(environments.x[own], orders=(0,))
        k *= (times * environments.f_cut[own])[:, None]
        np.add.at(energies, structures[own], k)
    if not with_forces:
        return energies
    to_center = np.ascontiguousarray(
        (term.scaled_inducing_points / term.length_scales).T
    )
    most = max(1, _NUMBERS // (3 * term.n_inducing))
    for piece in (p for block in environments.jacobians() for p in block.pieces(most)):
        first = piece.environments.min()
        own = slice(first, piece.environments.max() + 1)
        k, slope = term.compare(environments.x[own])
        of_x, of_inducing = term.gradients(slope)
        along_inducing = piece.dx.reshape(-1, n_features) @ to_center
        if times != 1.0:
            along_inducing *= times
        along_x = np.zeros((0, 3))
        if of_x is not None:
            scaled = environments.x[piece.environments] / term.length_scales**2
            along_x = np.einsum("pcd,pd->pc", piece.dx, scaled)
        add_members(
            piece.environments - first,
            piece.central_atoms,
            piece.atoms,
            piece.vec,
            along_inducing.reshape(len(piece.atoms), 3, term.n_inducing),
            times * along_x,
            times * piece.df_cut,
            environments.f_cut[own],
            k,
            np.zeros((0, 0)) if of_x is None else of_x,
            of_inducing,
            owner,
            forces,
            virials,
        )
    return energies


#: Environments whose covariances with all others are held at a time.
_BLOCK = 256


def energy_covariance(
    term: SparseTerm, x: np.ndarray, f_cut: np.ndarray, owner: np.ndarray, n_sums: int
) -> np.ndarray:
    """Return the prior covariance of sums Σ_e F_e f(x_e) over environments.

    Parameters
    ----------
    term : SparseTerm
        Its kernel and length scales count, its inducing environments do not.
    x : ndarray of shape (n_env, n_features)
        Features.
    f_cut : ndarray of shape (n_env,)
        F.
    owner : ndarray of int, shape (n_env,)
        Which sum each environment belongs to.
    n_sums : int
        Number of sums.

    Returns
    -------
    ndarray of shape (n_sums, n_sums)
        In eV².
    """
    own, n_env = replace(term, inducing_points=x, f_cut=np.ones(len(x))), len(x)
    member = csr_array((f_cut, (np.arange(n_env), owner)), shape=(n_env, n_sums))
    total = np.zeros((n_sums, n_sums))
    for first in range(0, n_env, _BLOCK):
        block = slice(first, first + _BLOCK)
        k, _ = own.compare(x[block], orders=(0,))
        total += member[block].T @ (k @ member)
    return total


def energy_variance(term: SparseTerm, x: np.ndarray, f_cut: np.ndarray) -> float:
    """Return the prior variance of one sum Σ_e F_e f(x_e), in eV²."""
    owner = np.zeros(len(x), dtype=int)
    return float(energy_covariance(term, x, f_cut, owner, 1)[0, 0])


def derivative_covariance(
    term: SparseTerm,
    x: np.ndarray,
    f_cut: np.ndarray,
    tangents: np.ndarray,
    df_cut: np.ndarray,
) -> np.ndarray:
    """Return the prior covariance of derivatives along some motions.

    Parameters
    ----------
    term : SparseTerm
        Its kernel and length scales count.
    x : ndarray of shape (n_env, n_features)
        Features.
    f_cut : ndarray of shape (n_env,)
        F.
    tangents : ndarray of shape (n_motions, n_env, n_features)
        t.
    df_cut : ndarray of shape (n_motions, n_env)
        F'.

    Returns
    -------
    ndarray of shape (n_motions, n_motions)
        In eV² over the squares of the motions' unit.
    """
    z, t = x / term.length_scales, tangents / term.length_scales
    u = replace(term, inducing_points=x).invariant(z)
    phi, dphi, ddphi = term.kernel.profile(u, (0, 1, 2))
    phi = phi + term.constant**2
    weighted = t * f_cut[:, None]
    # u changes by r along x_e = P[e, e'], and by its mirror image along x_e'.
    P = np.einsum("qed,fd->qef", t, z)
    if not term.kernel.is_product:
        P = 2.0 * (np.einsum("qee->qe", P)[:, :, None] - P)
        cross = -2.0
    else:
        cross = 1.0
    faded = P * f_cut[:, None]
    covariance = np.einsum("pe,ef,qf->pq", df_cut, phi, df_cut, optimize=True)
    slope = np.einsum("pef,ef,qf->pq", faded, dphi, df_cut, optimize=True)
    covariance += slope + slope.T
    covariance += np.einsum("pef,ef,qfe->pq", faded, ddphi, faded, optimize=True)
    products = np.einsum("ef,qfd->qed", dphi, weighted, optimize=True)
    covariance += cross * np.einsum("ped,qed->pq", weighted, products, optimize=True)
    return covariance


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
        f_cut = found.multiplicity * found.f_cut
        energy += energy_variance(term, found.x, f_cut)
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
        self._fade = environments.multiplicity * environments.f_cut
        blocks = list(environments.jacobians())
        self._is_empty = not blocks
        if blocks:
            self._e, self._i, self._j, self._vec, self._dx, self._dfade = (
                np.concatenate([getattr(block, name) for block in blocks])
                for name in (
                    "environments",
                    "central_atoms",
                    "atoms",
                    "vec",
                    "dx",
                    "df_cut",
                )
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
