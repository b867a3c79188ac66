"""Prior covariances of sums of local energies and of their derivatives.

A derivative of Σ_e F_e f(x_e) along a motion of atoms is Σ_e F_e t_e·∇f(x_e) + F'_e
f(x_e), where t_e is how the features of the environment move and F'_e how it fades.
"""

from __future__ import annotations

import numpy as np

from kforce.sparse.term import SparseTerm


def energy_variance(term: SparseTerm, x: np.ndarray, fade: np.ndarray) -> float:
    """Return the prior variance of Σ_e F_e f(x_e), in eV².

    Parameters
    ----------
    term : SparseTerm
        Its kernel and length scales count, its inducing environments do not.
    x : ndarray of shape (n_env, n_features)
        Features.
    fade : ndarray of shape (n_env,)
        F.
    """
    return float(fade @ energy_covariance(term, x) @ fade)


def energy_covariance(term: SparseTerm, x: np.ndarray) -> np.ndarray:
    """Return the prior covariance of f at points x, (n_env, n_env), in eV²."""
    z = x / term.length_scales
    return term.kernel(_invariant(term.kernel, z)) + term.constant**2


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
    phi, dphi, ddphi = term.kernel.profile(_invariant(term.kernel, z), (0, 1, 2))
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


def _invariant(kernel, z):
    u = z @ z.T
    if kernel.is_product:
        return u
    squares = np.diag(u)
    return np.maximum(squares[:, None] + squares - 2.0 * u, 0.0)
