"""Prior covariances of sums of local energies and of their derivatives.

A derivative of Σ_e F_e f(x_e) along a motion of atoms is Σ_e F_e t_e·∇f(x_e) + F'_e
f(x_e), where t_e is how the features of the environment move and F'_e how it fades.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.sparse import csr_array

from kforce.sparse.term import SparseTerm

#: Environments whose covariances with all others are held at a time.
_BLOCK = 256


def energy_covariance(
    term: SparseTerm, x: np.ndarray, fade: np.ndarray, owner: np.ndarray, n_sums: int
) -> np.ndarray:
    """Return the prior covariance of sums Σ_e F_e f(x_e) over environments.

    Parameters
    ----------
    term : SparseTerm
        Its kernel and length scales count, its inducing environments do not.
    x : ndarray of shape (n_env, n_features)
        Features.
    fade : ndarray of shape (n_env,)
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
    own, n_env = replace(term, centers=x, fade=np.ones(len(x))), len(x)
    member = csr_array((fade, (np.arange(n_env), owner)), shape=(n_env, n_sums))
    total = np.zeros((n_sums, n_sums))
    for first in range(0, n_env, _BLOCK):
        block = slice(first, first + _BLOCK)
        k, _ = own.compare(x[block], orders=(0,))
        total += member[block].T @ (k @ member)
    return total


def energy_variance(term: SparseTerm, x: np.ndarray, fade: np.ndarray) -> float:
    """Return the prior variance of one sum Σ_e F_e f(x_e), in eV²."""
    owner = np.zeros(len(x), dtype=int)
    return float(energy_covariance(term, x, fade, owner, 1)[0, 0])


def derivative_covariance(
    term: SparseTerm,
    x: np.ndarray,
    fade: np.ndarray,
    tangents: np.ndarray,
    dfade: np.ndarray,
) -> np.ndarray:
    """Return the prior covariance of derivatives along some motions.

    Parameters
    ----------
    term : SparseTerm
        Its kernel and length scales count.
    x : ndarray of shape (n_env, n_features)
        Features.
    fade : ndarray of shape (n_env,)
        F.
    tangents : ndarray of shape (n_motions, n_env, n_features)
        t.
    dfade : ndarray of shape (n_motions, n_env)
        F'.

    Returns
    -------
    ndarray of shape (n_motions, n_motions)
        In eV² over the squares of the motions' unit.
    """
    z, t = x / term.length_scales, tangents / term.length_scales
    u = replace(term, centers=x).invariant(z)
    phi, dphi, ddphi = term.kernel.profile(u, (0, 1, 2))
    phi = phi + term.constant**2
    weighted = t * fade[:, None]
    # u changes by r along x_e = P[e, e'], and by its mirror image along x_e'.
    P = np.einsum("qed,fd->qef", t, z)
    if not term.kernel.is_product:
        P = 2.0 * (np.einsum("qee->qe", P)[:, :, None] - P)
        cross = -2.0
    else:
        cross = 1.0
    faded = P * fade[:, None]
    covariance = np.einsum("pe,ef,qf->pq", dfade, phi, dfade, optimize=True)
    slope = np.einsum("pef,ef,qf->pq", faded, dphi, dfade, optimize=True)
    covariance += slope + slope.T
    covariance += np.einsum("pef,ef,qfe->pq", faded, ddphi, faded, optimize=True)
    products = np.einsum("ef,qfd->qed", dphi, weighted, optimize=True)
    covariance += cross * np.einsum("ped,qed->pq", weighted, products, optimize=True)
    return covariance
