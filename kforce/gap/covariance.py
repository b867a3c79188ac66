"""Prior covariances of energies, forces and virials of a sparse model.

The observables of a structure always come in the order of `in_rows`: its energy, the
force components atom by atom, the virial −∂E/∂ε in Voigt order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import block_diag, solve_triangular
from scipy.sparse import csr_array

from kforce.descriptors.local import Environments
from kforce.gap._covariance import subtract_motions, sum_members
from kforce.gap.sparse_term import MAX_DIFFERENCE_FEATURES, SparseTerm
from kforce.neighbours.search import Neighbours
from kforce.parallel import slices
from kforce.structures import Batch

#: Kinds of observables.
ENERGY, FORCES, VIRIAL = 0, 1, 2

#: The components of a virial: xx, yy, zz, yz, xz, xy.
VIRIAL_COMPONENTS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))

#: Share of the prior variance of an environment of few features that counts as nothing:
#: coefficients of two-body terms are large, and their differences are rounding.
EXPLAINED = 1e-8

#: Variances of environments of few features that are not more than so many times the
#: jitter come from that: summed over all pairs of atoms they would be what one sees.
MANY_JITTERS = 10.0

#: Points between the least and the largest feature, where it is one, that tell whether
#: inducing environments explain all that is between: some for each inducing one.
N_BETWEEN = 200

#: Environments that are compared with inducing ones at a time.
COMPARED_ENVIRONMENTS = 1024

#: Numbers that a block of derivatives of rows may hold, so that it stays in the cache.
MAX_DERIVATIVES = 150_000


def in_rows(energy, forces: np.ndarray, virial: np.ndarray) -> np.ndarray:
    """Join what belongs to the observables of a structure in the order of its rows.

    Shapes are (...) of the energy, (n_atoms, 3, ...) of forces and (6, ...) of the
    virial; those that are not wanted may be empty at the end.
    """
    energy = np.asarray(energy)[None]
    return np.concatenate([energy, forces.reshape(-1, *forces.shape[2:]), virial])


@dataclass(frozen=True)
class SparseRows:
    """Covariances of the observables of structures with inducing environments.

    `energies` (n_structures, n_inducing), `forces` (n_atoms, 3, n_inducing) and
    `virials` (n_structures, 6, n_inducing); the latter are empty where not wanted.
    Structure s owns the atoms ``offsets[s]:offsets[s + 1]``.
    """

    energies: np.ndarray
    forces: np.ndarray
    virials: np.ndarray
    offsets: np.ndarray

    def of(self, s: int) -> np.ndarray:
        """Return the rows of structure s in their order."""
        atoms = slice(self.offsets[s], self.offsets[s + 1])
        virial = self.virials[s] if len(self.virials) else self.virials[:, 0]
        return in_rows(self.energies[s], self.forces[atoms], virial)


def sparse_rows(
    terms: Sequence[SparseTerm],
    batch: Batch,
    neighbours: Neighbours,
    with_forces: bool = True,
    with_virials: bool = False,
) -> SparseRows:
    """Compute the covariances of some structures with all inducing environments.

    The inducing environments of the terms follow one another in the columns.
    `neighbours` are those of all atoms within the largest cutoff of the terms. Virials
    come with forces only.
    """
    if with_virials and not with_forces:
        raise ValueError("virials come with forces")
    n_inducing = sum(term.n_inducing for term in terms)
    n_virials = batch.n_structures if with_virials else 0
    owner = np.repeat(np.arange(batch.n_structures), np.diff(batch.offsets))
    energies = np.zeros((batch.n_structures, n_inducing))
    forces = np.zeros((len(owner) if with_forces else 0, 3, n_inducing))
    virials = np.zeros((n_virials, 6, n_inducing))
    for term, columns in zip(terms, blocks_of(terms), strict=True):
        environments = term.descriptor(batch.numbers, neighbours)
        if len(environments.x) == 0:
            continue
        energies[:, columns] = energy_rows(term, environments, owner, len(energies))
        if with_forces:
            derivatives = _derivatives(term, environments, owner, n_virials)
            of_forces, of_virials = np.split(derivatives, [3 * len(owner)])
            forces[..., columns] = of_forces.reshape(len(owner), 3, term.n_inducing)
            virials[..., columns] = of_virials.reshape(n_virials, 6, term.n_inducing)
    return SparseRows(energies, forces, virials, batch.offsets)


def energy_rows(
    term: SparseTerm, environments: Environments, sums: np.ndarray, n_sums: int
) -> np.ndarray:
    """Return covariances (n_sums, m) of sums of energies of atoms with a term's f(x_m).

    Atom a belongs to the sum ``sums[a]``.
    """
    rows = np.zeros((n_sums, term.n_inducing))
    owner = sums[environments.central_atoms]
    f_cut = float(environments.multiplicity) * environments.f_cut
    for block in slices(len(owner), COMPARED_ENVIRONMENTS):
        k, _ = term.compare(environments.x[block], orders=(0,))
        rows += _members(owner[block], f_cut[block], n_sums) @ k
    return rows


def blocks_of(terms: Sequence[SparseTerm]) -> list[slice]:
    """Return where the inducing environments of each term are among all of them."""
    bounds = np.cumsum([0] + [term.n_inducing for term in terms])
    return list(map(slice, bounds[:-1], bounds[1:]))


def prior_covariance(terms: Sequence[SparseTerm]) -> np.ndarray:
    """Return K_mm of all inducing environments, (m, m): terms are independent."""
    return block_diag(*(term.covariance() for term in terms))


def _derivatives(term, environments, owner, n_virials):
    """Return the rows of forces and virials of one term, (3 n_atoms + 6 n, m).

    `n_virials` is the number n of structures whose virials are wanted: all or none.
    """
    times, n_inducing = float(environments.multiplicity), term.n_inducing
    out = np.zeros((3 * len(owner) + 6 * n_virials, n_inducing))
    to_inducing = np.ascontiguousarray(
        (term.scaled_inducing_points / term.length_scales).T
    )
    most = max(1, MAX_DERIVATIVES // n_inducing)
    for block in environments.jacobians():
        if len(block.atoms) == 0:
            continue
        own, rows, tangents, fading = _motions(block, owner, n_virials)
        first = own.min()
        own -= first
        used = slice(first, first + own.max() + 1)
        f_cut = times * environments.f_cut[used]
        fading *= times
        k, dphi = term.compare(environments.x[used])
        of_x, of_inducing = term.gradients(dphi)
        along_x = np.zeros(len(rows))
        if of_x is None:
            of_x = np.zeros((0, 0))
        else:
            scaled = environments.x[used] / term.length_scales**2
            along_x = np.einsum("td,td->t", tangents, scaled[own])
        for piece in slices(len(rows), most):
            subtract_motions(
                own[piece], rows[piece], tangents[piece] @ to_inducing, along_x[piece],
                fading[piece], f_cut, k, of_x, of_inducing, out,
            )  # fmt: skip
    return out


def _motions(block, owner, n_virials):
    """Return what moves the environments of a block, and how.

    These are motions of members, of centres, and strains: the environments, the rows of
    derivatives or negative numbers, ∂x (n_motions, n_features), and ∂F.
    """
    n_members, _, n_features = block.dx.shape
    first = block.environments.min()
    n_env, n_sums = block.environments.max() + 1 - first, 9 if n_virials else 3
    n_own = 3 * n_members
    tangents = np.empty((n_own + n_env * n_sums, n_features))
    tangents[:n_own] = block.dx.reshape(n_own, n_features)
    tangents[n_own:] = 0.0
    fading = np.zeros(len(tangents))
    fading[:n_own] = block.df_cut.ravel()
    own = block.environments - first
    sum_members(
        own, block.central_atoms, block.atoms, block.vec, block.dx, block.df_cut,
        tangents[n_own:].reshape(n_env, n_sums, n_features),
        fading[n_own:].reshape(n_env, n_sums),
    )  # fmt: skip
    centres = np.zeros(n_env, dtype=int)
    centres[own] = block.central_atoms
    # Where the centre's own image is the member, both move.
    moved = np.where(block.atoms == block.central_atoms, -3, 3 * block.atoms)
    of_members = np.where(moved[:, None] < 0, -1, moved[:, None] + np.arange(3))
    of_sums = 3 * centres[:, None] + np.arange(3)
    if n_virials:
        of_strains = 3 * len(owner) + 6 * owner[centres][:, None] + np.arange(6)
        of_sums = np.hstack([of_sums, of_strains])
    environments = np.concatenate(
        [np.repeat(own, 3), np.repeat(np.arange(n_env), n_sums)]
    )
    rows = np.concatenate([of_members.ravel(), of_sums.ravel()])
    return first + environments, rows, tangents, fading


def energy_covariance(
    term: SparseTerm,
    x: np.ndarray,
    f_cut: np.ndarray,
    owner: np.ndarray,
    n_sums: int,
    n_compared: int = 256,
) -> np.ndarray:
    """Return the prior covariance (n_sums, n_sums) of sums Σ_e F_e f(x_e), in eV².

    Environment e, with features x (n_env, n_features) and F (n_env,), belongs to the
    sum ``owner[e]``. The inducing environments of the term do not count. `n_compared`
    environments are compared with all others at a time.
    """
    total, n_env = np.zeros((n_sums, n_sums)), len(x)
    prior = replace(term, inducing_points=x, f_cut=np.ones(n_env))
    member = _members(owner, f_cut, n_sums).T.tocsr()
    for first in range(0, n_env, n_compared):
        block = slice(first, first + n_compared)
        k, _ = prior.compare(x[block], orders=(0,))
        total += member[block].T @ (k @ member)
    return total


def energy_variance(term: SparseTerm, x: np.ndarray, f_cut: np.ndarray) -> float:
    """Return the prior variance of one sum Σ_e F_e f(x_e), in eV²."""
    owner = np.zeros(len(x), dtype=int)
    return float(energy_covariance(term, x, f_cut, owner, 1)[0, 0])


def residual_covariance(
    term: SparseTerm,
    prior: np.ndarray,
    environments: Environments,
    sums: np.ndarray,
    n_sums: int,
    jitter: float = 0.0,
) -> tuple[np.ndarray, np.ndarray]:
    """Return rows, and what inducing environments leave open of energies' covariance.

    Atom a belongs to the sum ``sums[a]``. The rows K (n_sums, m) are those of
    `energy_rows`; the rest (n_sums, n_sums) is `energy_covariance` less K K_mm⁻¹ Kᵀ, in
    eV², with the upper triangle `prior` of UᵀU = K_mm + `jitter` of the term. Of few
    features, inducing environments explain most environments to rounding, or to the
    jitter; these leave nothing, and are not compared.
    """
    x, f_cut = environments.x, environments.multiplicity * environments.f_cut
    owner = sums[environments.central_atoms]
    rows = open_rows = energy_rows(term, environments, sums, n_sums)
    if x.shape[1] <= MAX_DIFFERENCE_FEATURES:
        left = _unexplained(term, prior, x, f_cut, jitter)
        x, f_cut, owner = x[left], f_cut[left], owner[left]
        k, _ = term.compare(x, orders=(0,))
        open_rows = _members(owner, f_cut, n_sums) @ k
    half = solve_triangular(prior, open_rows.T, trans="T", check_finite=False)
    return rows, energy_covariance(term, x, f_cut, owner, n_sums) - half.T @ half


def _unexplained(term, prior, x, f_cut, jitter):
    """Return whether inducing environments leave anything of each environment."""
    if x.shape[1] == 1 and len(x) > N_BETWEEN:
        # What is left varies as slowly as inducing points are apart.
        order = np.argsort(x[:, 0])
        between = np.linspace(x[order[0], 0], x[order[-1], 0], N_BETWEEN)
        fading = np.interp(between, x[order, 0], f_cut[order])
        if not _unexplained(term, prior, between[:, None], fading, jitter).any():
            return np.zeros(len(x), dtype=bool)
    k, _ = term.compare(x, orders=(0,))
    half = solve_triangular(prior, k.T, trans="T", check_finite=False)
    nowhere = np.zeros(len(x), dtype=int)
    whole = term.prior_variance(Environments(x, f_cut, nowhere, 1))
    least = EXPLAINED * whole + MANY_JITTERS * jitter
    return whole - np.square(f_cut * half).sum(axis=0) > least


def _members(owner, f_cut, n_sums):
    """Return the matrix (n_sums, n_env) that sums values of environments."""
    places = owner, np.arange(len(owner))
    return csr_array((f_cut, places), shape=(n_sums, len(owner)))


def derivative_covariance(
    term: SparseTerm,
    x: np.ndarray,
    f_cut: np.ndarray,
    tangents: np.ndarray,
    df_cut: np.ndarray,
) -> np.ndarray:
    """Return the prior covariance of derivatives of Σ_e F_e f(x_e) along some motions.

    x (n_env, n_features) and F (n_env,) change by `tangents`
    (n_motions, n_env, n_features) and `df_cut` (n_motions, n_env). The result,
    (n_motions, n_motions), is in eV² over the squares of the motions' unit.
    """
    x_scaled, t = x / term.length_scales, tangents / term.length_scales
    u = replace(term, inducing_points=x).invariant(x_scaled)
    phi, dphi, ddphi = term.kernel.profile(u, (0, 1, 2))
    n_motions, n_env, _ = t.shape
    weighted = t * f_cut[:, None]
    # u changes by r along x_e = P[e, e'], and by its mirror image along x_e'.
    P = t @ x_scaled.T
    if not term.kernel.is_product:
        P = 2.0 * (np.einsum("qee->qe", P)[:, :, None] - P)
        cross = -2.0
    else:
        cross = 1.0
    P *= f_cut[:, None]
    mirrored = P.transpose(0, 2, 1).reshape(n_motions, n_env**2)
    covariance = (P * ddphi).reshape(n_motions, n_env**2) @ mirrored.T
    products = (dphi @ weighted).reshape(n_motions, -1)
    covariance += cross * (weighted.reshape(n_motions, -1) @ products.T)
    if df_cut.any():
        covariance += df_cut @ (phi + term.constant**2) @ df_cut.T
        P *= dphi
        mixed = P.sum(axis=1) @ df_cut.T
        covariance += mixed + mixed.T
    return covariance


def prior_variances(
    terms: Sequence[SparseTerm],
    batch: Batch,
    neighbours: Neighbours,
    with_forces: bool = True,
    with_virial: bool = False,
    with_energy: bool = True,
) -> np.ndarray:
    """Return the prior variances of the observables of one structure.

    Their shape is (1 + 3 n_atoms + 6,), in eV², (eV/Å)² and eV²; NaN where they are not
    wanted. The inducing environments of the terms do not count.
    """
    n_atoms = len(batch.numbers)
    energy = 0.0 if with_energy else np.nan
    forces = np.full((n_atoms, 3), 0.0 if with_forces else np.nan)
    virial = np.full(6, 0.0 if with_virial else np.nan)
    for term in terms:
        environments = term.descriptor(batch.numbers, neighbours)
        f_cut = environments.multiplicity * environments.f_cut
        if with_energy:
            energy += energy_variance(term, environments.x, f_cut)
        if not with_forces and not with_virial:
            continue
        owner = np.zeros(n_atoms, dtype=int)
        blocks = [b for b in environments.jacobians() if len(b.atoms)]
        if not blocks:
            continue
        parts = [_motions(block, owner, int(with_virial)) for block in blocks]
        own, rows, *motions = map(np.concatenate, zip(*parts, strict=True))
        order = np.lexsort((own, rows))
        ends = np.searchsorted(rows[order], 3 * np.arange(n_atoms + 1))
        if with_forces:
            for atom in range(n_atoms):
                chosen = order[ends[atom] : ends[atom + 1]]
                forces[atom] += _variances(term, environments, own, motions, chosen, 3)
        if with_virial:
            chosen = order[ends[-1] :]
            virial += _variances(term, environments, own, motions, chosen, 6)
    return in_rows(energy, forces, virial)


def _variances(term, environments, own, motions, chosen, n_motions):
    """Return the prior variances along some motions, (n_motions,).

    Of all changes of environments, see `_motions`, the `chosen` ones are of these
    motions: first by motion, as many of each, and then by environment.
    """
    n = len(chosen) // n_motions
    if n == 0:
        return np.zeros(n_motions)
    tangents, fading = (change[chosen] for change in motions)
    tangents, fading = tangents.reshape(n_motions, n, -1), fading.reshape(n_motions, n)
    # Where images of one atom are members, an environment comes more than once.
    used, starts = np.unique(own[chosen[:n]], return_index=True)
    if len(used) < n:
        tangents = np.add.reduceat(tangents, starts, axis=1)
        fading = np.add.reduceat(fading, starts, axis=1)
    times = environments.multiplicity
    f_cut = times * environments.f_cut[used]
    covariance = derivative_covariance(
        term, environments.x[used], f_cut, tangents, times * fading
    )
    return np.diag(covariance)
