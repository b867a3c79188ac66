"""Posterior variances of a sparse model.

The variance of an observable with covariances k to the inducing environments is
k** − kᵀ K_mm⁻¹ k + kᵀ (K_mm + K_mn Λ⁻¹ K_nm)⁻¹ k: the prior, less what the inducing
environments explain (Nyström), and what the data leave open of that. This is the
deterministic training conditional (DTC) with the exact prior k**: unlike the subset of
regressors it grows back to the prior away from the inducing environments.

References
----------
Quiñonero-Candela and Rasmussen, J. Mach. Learn. Res. 6, 1939 (2005), eq. 20.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from ase import Atoms
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.stats import norm

from kforce.gap.covariance import (
    energy_covariance,
    energy_variance,
    prior_variances,
    sparse_rows,
)
from kforce.gap.sparse_term import SparseTerm, largest_cutoff
from kforce.gap.training_set import fitc_factors, observed, whitened_rows
from kforce.labels import LocalLabels
from kforce.neighbours.search import find_neighbours
from kforce.solvers.least_squares import SparseSolution
from kforce.structures import Batch, is_isolated

#: Frames that are left out in turn, at most, and rows of them.
_FRAMES, _ROWS = 50, 3000

#: Share of the errors within what deviations say, and errors from which it is known;
#: of fewer the middle has to fit as well.
_SHARE, _MANY, _MIDDLE = 0.95, 200, 0.68


def variances(
    terms: Sequence[SparseTerm],
    solution: SparseSolution,
    atoms: Atoms,
    with_forces: bool,
) -> tuple[float, np.ndarray | None]:
    """Return the posterior variances of the energy and the forces of a structure.

    Parameters
    ----------
    terms : sequence of SparseTerm
        The model.
    solution : SparseSolution
        Its posterior.
    atoms : ase.Atoms
        The structure.
    with_forces : bool
        Whether those of forces are wanted.

    Returns
    -------
    energy : float
        In eV².
    forces : ndarray of shape (n_atoms, 3) or None
        In (eV/Å)².
    """
    batch, neighbours = _local(terms, atoms)
    rows = sparse_rows(terms, batch, neighbours, with_forces)
    prior = prior_variances(terms, batch, neighbours, with_forces)
    energy = prior[0] + solution.unexplained(rows.energies)[0]
    if not with_forces:
        return max(float(energy), 0.0), None
    forces = prior[1:] + solution.unexplained(rows.forces.reshape(3 * len(atoms), -1))
    return max(float(energy), 0.0), np.maximum(forces.reshape(-1, 3), 0.0)


def variances_of_atoms(
    terms: Sequence[SparseTerm], solution: SparseSolution, atoms: Atoms
) -> np.ndarray:
    """Return the posterior variances of the energies of atoms, (n_atoms,), in eV²."""
    batch, neighbours = _local(terms, atoms)
    rows, prior = [], np.zeros(len(atoms))
    for term in terms:
        part = term.descriptor(batch.numbers, neighbours)
        f_cut = part.multiplicity * part.f_cut
        own = np.zeros((len(atoms), term.n_inducing))
        k, _ = term.compare(part.x, orders=(0,))
        np.add.at(own, part.central_atoms, k * f_cut[:, None])
        rows.append(own)
        for atom in np.unique(part.central_atoms):
            mine = part.central_atoms == atom
            prior[atom] += energy_variance(term, part.x[mine], f_cut[mine])
    return np.maximum(prior + solution.unexplained(np.hstack(rows)), 0.0)


def covariance_of_energies(
    terms: Sequence[SparseTerm], solution: SparseSolution, frames: Sequence[Atoms]
) -> np.ndarray:
    """Return the posterior covariance of energies of structures, (n, n), in eV²."""
    rows = []
    parts = [([], [], []) for _ in terms]
    for s, frame in enumerate(frames):
        batch, neighbours = _local(terms, frame)
        rows.append(sparse_rows(terms, batch, neighbours, False).energies)
        for term, (x, f_cut, owner) in zip(terms, parts, strict=True):
            part = term.descriptor(batch.numbers, neighbours)
            x.append(part.x)
            f_cut.append(part.multiplicity * part.f_cut)
            owner.append(np.full(len(part.x), s))
    C = solution.unexplained_covariance(np.concatenate(rows))
    for term, part in zip(terms, parts, strict=True):
        C += energy_covariance(term, *map(np.concatenate, part), len(frames))
    return C


def novelty(
    terms: Sequence[SparseTerm], atoms: Atoms, regularisation: float
) -> np.ndarray:
    """Return how unlike the inducing environments those of atoms are, in eV².

    The sum over environments of an atom of F² (k(x, x) + ρ² − kᵀ (K_mm + ρ²)⁻¹ k), as
    the program GAP computes it: no training data enter.

    Parameters
    ----------
    terms : sequence of SparseTerm
        The model.
    atoms : ase.Atoms
        The structure.
    regularisation : float
        ρ, in eV.

    Returns
    -------
    ndarray of shape (n_atoms,)
        In eV².
    """
    batch, neighbours = _local(terms, atoms)
    total = np.zeros(len(atoms))
    for term in terms:
        part = term.descriptor(batch.numbers, neighbours)
        if len(part.x) == 0:
            continue
        shift = term.constant**2
        # The constant is not faded here, as in that program.
        M = term.covariance() - shift * np.outer(term.f_cut, term.f_cut) + shift
        np.einsum("mm->m", M)[:] += regularisation**2
        k, _ = term.compare(part.x, orders=(0,))
        explained = np.einsum("em,me->e", k, cho_solve(cho_factor(M), k.T))
        left = term.prior_variance(part)
        left += part.f_cut**2 * (regularisation**2 - explained)
        np.add.at(total, part.central_atoms, part.multiplicity * left)
    return total


def frames_to_leave_out(
    frames: Sequence[Atoms], labels: LocalLabels, rng: np.random.Generator
) -> list[int]:
    """Choose frames with labels, without isolated atoms: no other frame tells those."""
    chosen = labels.sample(rng, _ROWS, _FRAMES)
    return [s for s in chosen if not is_isolated(frames[s])]


def leave_one_out(
    terms: Sequence[SparseTerm],
    solution: SparseSolution,
    frames: Sequence[Atoms],
    labels: LocalLabels,
    rng: np.random.Generator,
    approximation: str = "dtc",
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Predict energies and forces of some frames from all others, in closed form.

    Parameters
    ----------
    terms : sequence of SparseTerm
        The fitted model.
    solution : SparseSolution
        Its posterior.
    frames : sequence of ase.Atoms
        Training set.
    labels : LocalLabels
        Its labels.
    rng : numpy.random.Generator
        Chooses the frames.
    approximation : {'dtc', 'fitc'}
        That of the fit.

    Returns
    -------
    errors, epistemic : ndarray of shape (n,)
        Errors and posterior standard deviations, without noise of labels, both divided
        by the noise of the label.
    kinds : ndarray of int, shape (n,)
        0 for energies, 1 for forces.
    """
    errors, epistemic, kinds = [], [], []
    for s in frames_to_leave_out(frames, labels, rng):
        _, noise, kind, known = observed(labels, s)
        rows, y, _ = whitened_rows(terms, frames[s], labels, s)
        factors = np.ones(len(y))
        if approximation == "fitc":
            factors = fitc_factors(terms, frames[s], labels, s, rows, solution.prior)
        inner = solve_triangular(solution.factor, rows.T, trans="T").T
        inner /= factors[:, None]
        left = (y - rows @ solution.coef) / factors
        found = left_out(inner @ inner.T, left)
        if found is None:
            continue
        error, spread = (part[kind < 2] for part in found)
        # What the inducing environments leave open stays as it is.
        used, noise, factors = kind < 2, noise[kind < 2], factors[kind < 2]
        batch, neighbours = _local(terms, frames[s])
        prior = prior_variances(terms, batch, neighbours, 1 in kind)
        now = prior[known[: len(prior)]]
        now += solution.unexplained(rows[used] * noise[:, None])
        spread = factors**2 * spread + now / noise**2
        errors.append(factors * error)
        epistemic.append(np.sqrt(np.maximum(spread, 0.0)))
        kinds.append(kind[used])
    if not errors:
        return np.zeros(0), np.zeros(0), np.zeros(0, dtype=int)
    return tuple(map(np.concatenate, (errors, epistemic, kinds)))


def left_out(H: np.ndarray, left: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the errors of labels that are left out together, and their variances.

    1 − H is the inverse of the predictive covariance of all of them by all others, of
    which the variances lack the part that inducing environments leave open.

    Parameters
    ----------
    H : ndarray of shape (n, n)
        What the fitted values of these labels are in terms of them, in units of the
        noise: their block of the hat matrix.
    left : ndarray of shape (n,)
        Residuals of the fit.

    Returns
    -------
    errors, variances : ndarray of shape (n,)
        In units of the noise; or None where there is so little noise that these labels
        alone decide on some of them.
    """
    try:
        factor = cho_factor(np.eye(len(left)) - H)
    except np.linalg.LinAlgError:
        return None
    inverse = cho_solve(factor, np.eye(len(left)))
    return inverse @ left, np.diag(inverse) - 1.0 - np.diag(H)


def calibration_of(
    errors: np.ndarray, epistemic: np.ndarray, kinds: np.ndarray
) -> tuple[float, float]:
    """Return the factors of standard deviations that errors ask for.

    With them 95 % of the errors are within 1.96 standard deviations, and, where errors
    are few, 68 % within one. Deviations of energies are not increased by more than
    those of forces: environments of a frame that is left out may be inducing ones,
    while those of new frames add what the inducing ones do not explain, which is most
    of the deviation of their energies.

    Parameters
    ----------
    errors, epistemic, kinds : ndarray of shape (n,)
        See `leave_one_out`.

    Returns
    -------
    energy, forces : float
        1 if there are no errors.
    """
    ratio = np.abs(errors) / np.hypot(1.0, epistemic)
    energy, forces = (_factor(ratio[kinds == k]) for k in (0, 1))
    forces = forces or energy or 1.0
    return min(energy, forces) or forces, forces


def _factor(ratio):
    """Return the factor by which deviations are too small; 0 if it is not known."""
    if len(ratio) == 0:
        return 0.0
    shares = [_SHARE] if len(ratio) >= _MANY else [_SHARE, _MIDDLE]
    wanted = np.quantile(ratio, shares) / norm.ppf(0.5 + 0.5 * np.array(shares))
    return float(wanted.max())


def _local(terms, atoms):
    batch = Batch.from_frames([atoms])
    cutoff = largest_cutoff(terms)
    return batch, find_neighbours(batch, cutoff)
